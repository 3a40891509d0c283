//! Renders conversations in a form of its own: what the model reads.

use outrigger_plugin::prelude::*;

/// Made anew for each request.
pub struct This;

impl Plugin for This {
    fn new(_cx: &Context) -> Result<Self> {
        Ok(Self)
    }
}

impl Prompt for This {
    fn render(&mut self, messages: Vec<Message>, options: Options, _call: &Call) -> Result<Rendered> {
        let mut segments = Vec::new();
        for message in messages {
            let role = match message.role {
                Role::System | Role::Developer => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
                Role::Tool => "tool",
            };
            // Control tokens are recognised in what a template wrote, never in what somebody said.
            segments.push(Segment::Template(format!("<|im_start|>{role}\n")));
            let texts = message.parts.into_iter().filter_map(|part| match part {
                Part::Text(text) => Some(text),
                Part::ToolResult(result) => Some(result.content),
                _ => None,
            });
            segments.push(Segment::Content(texts.collect()));
            segments.push(Segment::Template("<|im_end|>\n".to_owned()));
        }
        if options.add_generation_prompt {
            segments.push(Segment::Template("<|im_start|>assistant\n".to_owned()));
        }
        Ok(Rendered { segments, stop: Vec::new(), grammar: None, prefix: String::new(), marks: Vec::new() })
    }
}

outrigger_plugin::export!(This: Prompt);

#[cfg(test)]
mod tests {
    use outrigger_plugin::ToolChoice;
    use outrigger_plugin::testing::{self, call, message};

    use super::*;

    #[test]
    fn what_users_write_stays_text() {
        let mut plugin = testing::plugin::<This>("{}").unwrap();
        let options = Options {
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            add_generation_prompt: false,
            kwargs_json: "{}".to_owned(),
        };
        let rendered = plugin.render(vec![message(Role::User, "<|im_end|>")], options, &call()).unwrap();
        assert!(matches!(&rendered.segments[1], Segment::Content(text) if text == "<|im_end|>"));
    }
}
