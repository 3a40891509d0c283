//! What is wrong with a request, by the rules that hold for it.

use outrigger_plugin::prelude::*;

use crate::besides::{self, Beside};
use crate::config::{Cause, RoleName, Rules, Tools};
use crate::patterns::{Both, Patterns};

/// Why a request is rejected, and what the client is told unless the operator says otherwise.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    pub(crate) message: String,
    /// The pattern's name, for the notes.
    pub(crate) pattern: Option<String>,
}

impl Refusal {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), pattern: None }
    }
}

/// Everything that can be said from the request alone; the cheapest first.
pub(crate) fn judge(rules: &Rules, patterns: &Both<&Patterns>, request: &Request) -> Option<Refusal> {
    let messages = &request.messages;
    if let Some(message) = messages.iter().find(|message| !rules.roles.iter().any(|role| role.role() == message.role)) {
        let role = RoleName::of(message.role);
        return Some(Refusal::new(Cause::Role, format!("Messages of the role `{role}` are not allowed here.")));
    }
    if rules.tools == Tools::Reject && !request.tools.is_empty() {
        return Some(Refusal::new(Cause::Tools, "Tools are not allowed here; leave `tools` out."));
    }
    let arguments = besides::template_arguments(request);
    if let Some(name) = besides::not_allowed(&arguments, rules.template_arguments.as_deref()) {
        let message =
            format!("The template argument `{name}` is not allowed here; leave it out of `chat_template_kwargs`.");
        return Some(Refusal::new(Cause::TemplateArguments, message));
    }
    if let Some(most) = rules.max_messages.filter(|&most| messages.len() > most) {
        return Some(too_large("The conversation", messages.len() as u64, most as u64, "messages"));
    }
    let texts: Vec<Text> = messages.iter().map(Text::of).collect();
    let longest = texts.iter().map(|text| text.lines.len()).max().unwrap_or(0);
    if let Some(most) = rules.max_message_bytes.filter(|&most| longest > most) {
        return Some(too_large("A message", longest as u64, most as u64, "bytes of text"));
    }
    let besides = besides::texts(request);
    let pieces =
        || texts.iter().map(|text| text.lines.as_str()).chain(besides.iter().map(|text| text.written.as_str()));
    let all: usize = pieces().map(str::len).sum();
    if let Some(most) = rules.max_bytes.filter(|&most| all > most) {
        return Some(too_large("The conversation", all as u64, most as u64, "bytes of text"));
    }
    if let Some(refusal) = match_all(rules, patterns, &texts, &besides) {
        return Some(refusal);
    }
    // A token of ASCII is a byte at least, and a tokenizer puts one in front at most: what is short need not be counted.
    let most_tokens = all.saturating_add(texts.len() + besides.len()) as u64;
    let is_short = |most: u64| most_tokens <= most && pieces().all(str::is_ascii);
    if let Some(most) = rules.max_tokens.filter(|&most| !is_short(most)) {
        let tokens: u64 = pieces().map(|text| u64::from(model::count_tokens(text))).sum();
        if tokens > most {
            return Some(too_large("The conversation", tokens, most, "tokens"));
        }
    }
    None
}

fn match_all(
    rules: &Rules,
    Both { deny, allow }: &Both<&Patterns>,
    texts: &[Text],
    besides: &[Beside],
) -> Option<Refusal> {
    for text in texts {
        let denied = [Some(&text.lines), text.run.as_ref(), text.meant.as_ref()].into_iter().flatten();
        if let Some(which) = denied.into_iter().find_map(|said| deny.find(text.role, said)) {
            return Some(denial(rules, which));
        }
        if allow.are_for(text.role) && allow.find(text.role, &text.lines).is_none() {
            return Some(Refusal::new(Cause::NotAllowed, "The request is not one of those that are allowed here."));
        }
    }
    let mut said = besides.iter().flat_map(|text| [Some(&text.written), text.meant.as_ref()]).flatten();
    said.find_map(|said| deny.find_any(said)).map(|which| denial(rules, which))
}

fn denial(rules: &Rules, which: usize) -> Refusal {
    let pattern = &rules.deny[which];
    let message = pattern.message.as_deref().unwrap_or("The request asks for something that is not allowed here.");
    let name = pattern.name.clone().unwrap_or_else(|| format!("deny {which}"));
    Refusal { pattern: Some(name), ..Refusal::new(Cause::Denied, message) }
}

/// All text of a message.
struct Text {
    role: Role,
    /// Its parts as lines: how `chat-template` writes them.
    lines: String,
    /// Its parts without anything between them, where there are several: how other templates may write them, and how a model
    /// reads a word that was cut in two.
    run: Option<String>,
    /// What its JSON stands for, where it has some: templates write arguments anew, without the escapes that a client wrote.
    meant: Option<String>,
}

impl Text {
    fn of(message: &Message) -> Self {
        let parts: Vec<&str> = message.parts.iter().filter_map(said).collect();
        let run = (parts.len() > 1).then(|| parts.concat());
        let meant: Vec<String> = message.parts.iter().filter_map(json).filter_map(besides::meant).collect();
        let meant = (!meant.is_empty()).then(|| meant.join("\n"));
        Self { role: message.role, lines: parts.join("\n"), run, meant }
    }
}

fn json(part: &Part) -> Option<&str> {
    match part {
        Part::ToolCall(call) => Some(&call.arguments_json),
        Part::Other((_, json)) => Some(json),
        Part::Text(_) | Part::ToolResult(_) | Part::Media(_) => None,
    }
}

fn said(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::ToolResult(result) => Some(&result.content),
        Part::ToolCall(call) => Some(&call.arguments_json),
        Part::Media(_) => None,
        Part::Other((_, json)) => Some(json),
    }
}

fn too_large(what: &str, found: u64, most: u64, unit: &str) -> Refusal {
    Refusal::new(Cause::Size, format!("{what} has {found} {unit}; at most {most} are allowed here."))
}
