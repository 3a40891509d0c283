//! Tools for models whose template knows of none: what they may call is said in the first message, calls and results are
//! text.

use std::fmt::Write as _;

use outrigger_plugin::types::{Error, Message, Part, Role, ToolCall};
use serde_json::{Map, Value};

use crate::conversation::{Conversation, show_tool};
use crate::format::Format;

/// What a template does not do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    /// It tells the model of no functions.
    pub(crate) tools: bool,
    /// It shows no calls.
    pub(crate) calls: bool,
}

impl Missing {
    /// What a template leaves out. One that tells of functions is taken to know what becomes of calls.
    pub(crate) fn of(template: &str) -> Self {
        let tools = !names(template, "tools");
        Self { tools, calls: tools && !names(template, "tool_calls") }
    }
}

/// Whether a block of the template names a variable or a member.
fn names(template: &str, name: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let blocks = template.split("{%").skip(1).chain(template.split("{{").skip(1));
    blocks.filter_map(|block| block.split(['%', '}']).next()).any(|block| {
        block.match_indices(name).any(|(at, _)| {
            let (before, after) = (&block[..at], &block[at + name.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    })
}

/// Where the instructions stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    System,
    /// In the first message of the user: some templates know no system.
    User,
}

/// The conversation in text that any template can show.
pub(crate) fn rewrite(
    conversation: &Conversation,
    missing: Missing,
    format: Format,
    place: Place,
) -> Result<Conversation, Error> {
    let mut messages: Vec<Message> = Vec::with_capacity(conversation.messages.len() + 1);
    for message in &conversation.messages {
        let is_result = message.parts.iter().any(|part| matches!(part, Part::ToolResult(_)));
        let mut message = message.clone();
        if missing.calls {
            message.parts = vec![Part::Text(text(&message.parts, format))];
        }
        // Roles take turns in many templates: results that follow one another are one message.
        match messages.last_mut() {
            Some(before) if missing.calls && is_result && is_answer(before) => before.parts.append(&mut message.parts),
            _ => {
                if missing.calls && is_result {
                    (message.role, message.name) = (Role::User, None);
                }
                messages.push(message);
            }
        }
    }
    let mut tools = conversation.tools.clone();
    if missing.tools && !tools.is_empty() {
        let instructions = instructions(conversation, format)?;
        let role = if place == Place::System { Role::System } else { Role::User };
        match messages.iter_mut().find(|message| message.role == role) {
            Some(message) if place == Place::User => message.parts.insert(0, Part::Text(instructions + "\n")),
            Some(message) => message.parts.push(Part::Text(format!("\n{instructions}"))),
            None => messages.insert(0, Message { role, name: None, parts: vec![Part::Text(instructions)] }),
        }
        tools.clear();
    }
    Ok(Conversation { messages, tools, ..conversation.clone() })
}

const ANSWER: &str = "<tool_response>";

fn is_answer(message: &Message) -> bool {
    message.role == Role::User && matches!(message.parts.first(), Some(Part::Text(text)) if text.starts_with(ANSWER))
}

/// A message's parts in one text.
fn text(parts: &[Part], format: Format) -> String {
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => texts.push(text.clone()),
            Part::ToolCall(call) => calls.push(spelled(call, format)),
            Part::ToolResult(result) => texts.push(format!("{ANSWER}\n{}\n</tool_response>", result.content)),
            // What cannot be shown is refused by whoever shows the conversation.
            Part::Media(_) | Part::Other(_) => {}
        }
    }
    if !calls.is_empty() {
        let (before, between, behind) = format.list();
        texts.push(format!("{before}{}{behind}", calls.join(between.unwrap_or_default())));
    }
    texts.join("\n")
}

fn spelled(call: &ToolCall, format: Format) -> String {
    if format == Format::QwenXml {
        return spelled_xml(call);
    }
    let [before, between, behind] = format.frame();
    let arguments = if call.arguments_json.trim().is_empty() { "{}" } else { &call.arguments_json };
    format!("{before}{}{between}{arguments}{behind}", call.name)
}

fn spelled_xml(call: &ToolCall) -> String {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments_json).unwrap_or_default();
    let mut text = format!("<tool_call>\n<function={}>\n", call.name);
    for (key, value) in arguments {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a string does not fail.
        let _ = write!(text, "<parameter={key}>\n{value}\n</parameter>\n");
    }
    text + "</function>\n</tool_call>"
}

fn instructions(conversation: &Conversation, format: Format) -> Result<String, Error> {
    let mut text = "You may call these functions:\n".to_owned();
    for tool in &conversation.tools {
        text.push_str(&show_tool(tool)?["function"].to_string());
        text.push('\n');
    }
    let arguments_json = match format {
        Format::QwenXml => r#"{"<parameter>": "<value>"}"#,
        _ => "<arguments as a JSON object>",
    };
    let example =
        ToolCall { id: String::new(), name: "<function name>".to_owned(), arguments_json: arguments_json.to_owned() };
    let example = self::text(&[Part::ToolCall(example)], format);
    text.push_str("To call one, answer with nothing but this:\n");
    text.push_str(&example);
    text.push_str(
        "\nCall a function only where it helps. Its result comes back between <tool_response> and </tool_response>.",
    );
    Ok(text)
}
