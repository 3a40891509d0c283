//! The stages: where the contract's calls reach the plain Rust of this crate.

use outrigger_plugin::prelude::*;
use outrigger_plugin::types::Tool;
use outrigger_plugin::{Event as Said, Segment as Part, ToolChoice};

use crate::{Choice, Config, Conversation, Event, ModelFacts, Parser, Reading, Segment, Template, Vocabulary, render};

/// The plugin.
#[derive(Debug)]
pub struct ChatTemplate {
    config: Config,
    /// How the answer to the prompt that was rendered here is to be read.
    reading: Option<Reading>,
}

impl Plugin for ChatTemplate {
    fn new(cx: &Context) -> Result<Self> {
        let config: Config = cx.config()?;
        config.check()?;
        Ok(Self { config, reading: None })
    }
}

impl Prompt for ChatTemplate {
    fn render(&mut self, messages: Vec<Message>, options: Options, _call: &Call) -> Result<Rendered> {
        let described = model::describe();
        let facts = ModelFacts {
            id: described.id,
            template: model::chat_template(),
            bos_text: described.bos_text,
            eos_text: described.eos_text,
        };
        let conversation = Conversation {
            messages,
            tools: options.tools,
            tool_choice: match options.tool_choice {
                ToolChoice::Auto => Choice::Auto,
                ToolChoice::Required => Choice::Required,
                ToolChoice::Named(name) => Choice::Named(name),
            },
            single_call: !options.parallel_tool_calls,
            add_generation_prompt: options.add_generation_prompt,
            arguments_json: options.kwargs_json,
            unix_seconds: clock::unix_seconds(),
        };
        let vocabulary = Vocabulary { control_tokens: &model::control_tokens, token: &control_token };
        let rendered = render(&self.config, &facts, &conversation, &vocabulary)?;
        self.reading = Some(rendered.reading);
        if rendered.template == Template::Fallback {
            log::warn(
                "the model has no chat template: its prompts are written as ChatML, which it may not know; set \
                 `template` or `fallback` in the plugin's config",
                &[("model", &facts.id)],
            );
        }
        Ok(Rendered {
            segments: rendered.segments.into_iter().map(segment).collect(),
            stop: rendered.stop,
            grammar: rendered.grammar.map(Grammar::Lark),
            prefix: rendered.prefix,
            marks: rendered.marks,
        })
    }
}

impl Parse for ChatTemplate {
    type Parser = Parser;

    fn open(&mut self, _call: &Call, _choice: u32, tools: Vec<Tool>, prefix: String) -> Result<Parser> {
        let reading = self.reading.get_or_insert_with(|| {
            // Another plugin writes the prompts.
            let template = self.config.template.clone().or_else(model::chat_template).unwrap_or_default();
            Reading::new(&self.config, &template)
        });
        Ok(Parser::new(reading, &tools, &prefix))
    }

    fn parse(&mut self, parser: &mut Parser, text: String, last: bool) -> Result<Vec<Said>> {
        Ok(parser.push(&text, last).into_iter().filter_map(said).collect())
    }
}

fn segment(segment: Segment) -> Part {
    match segment {
        Segment::Template(text) => Part::Template(text),
        Segment::Content(text) => Part::Content(text),
    }
}

/// The number of the control token that is spelled `text`.
fn control_token(text: &str) -> Option<u32> {
    match model::control_tokens(text)[..] {
        [model::Span { start: 0, end }] if end as usize == text.len() => match model::tokenize(text, true)[..] {
            [token] => Some(token),
            _ => None,
        },
        _ => None,
    }
}

fn said(event: Event) -> Option<Said> {
    Some(match event {
        Event::Content(text) => Said::Content(text),
        Event::Reasoning(text) => Said::Reasoning(text),
        // The host knows which ids are in use.
        Event::CallStart(name) => Said::ToolCallStart((name, None)),
        Event::Arguments(text) | Event::Written(text) => Said::ToolArguments(text),
        Event::CallEnd => Said::ToolCallEnd,
        Event::Syntax(_) => return None,
    })
}

outrigger_plugin::export!(ChatTemplate: Prompt, Parse);
