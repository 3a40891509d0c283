//! What is wrong with a request, by the rules that hold for it.

use outrigger_plugin::prelude::*;

use crate::config::{Cause, RoleName, Rules};
use crate::patterns::Both;

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

/// Everything that can be said from the messages alone; the cheapest first.
pub(crate) fn judge(rules: &Rules, patterns: &Both, messages: &[Message]) -> Option<Refusal> {
    if let Some(message) = messages.iter().find(|message| !rules.roles.iter().any(|role| role.role() == message.role)) {
        let role = RoleName::of(message.role);
        return Some(Refusal::new(Cause::Role, format!("Messages of the role `{role}` are not allowed here.")));
    }
    if let Some(most) = rules.max_messages.filter(|&most| messages.len() > most) {
        return Some(too_large("The conversation", messages.len() as u64, most as u64, "messages"));
    }
    let texts: Vec<(Role, String)> = messages.iter().map(|message| (message.role, text(message))).collect();
    let longest = texts.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
    if let Some(most) = rules.max_message_bytes.filter(|&most| longest > most) {
        return Some(too_large("A message", longest as u64, most as u64, "bytes of text"));
    }
    let all: usize = texts.iter().map(|(_, text)| text.len()).sum();
    if let Some(most) = rules.max_bytes.filter(|&most| all > most) {
        return Some(too_large("The conversation", all as u64, most as u64, "bytes of text"));
    }
    if let Some(refusal) = match_all(rules, patterns, &texts) {
        return Some(refusal);
    }
    if let Some(most) = rules.max_tokens {
        let tokens: u64 = texts.iter().map(|(_, text)| u64::from(model::count_tokens(text))).sum();
        if tokens > most {
            return Some(too_large("The conversation", tokens, most, "tokens"));
        }
    }
    None
}

fn match_all(rules: &Rules, Both { deny, allow }: &Both, texts: &[(Role, String)]) -> Option<Refusal> {
    for (role, text) in texts {
        if let Some(which) = deny.find(*role, text) {
            let pattern = &rules.deny[which];
            let message =
                pattern.message.as_deref().unwrap_or("The request asks for something that is not allowed here.");
            let name = pattern.name.clone().unwrap_or_else(|| format!("deny {which}"));
            return Some(Refusal { pattern: Some(name), ..Refusal::new(Cause::Denied, message) });
        }
        if allow.are_for(*role) && allow.find(*role, text).is_none() {
            return Some(Refusal::new(Cause::NotAllowed, "The request is not one of those that are allowed here."));
        }
    }
    None
}

/// All text of a message in one piece, as a template would write it: what is denied is found across parts too.
fn text(message: &Message) -> String {
    let mut text = String::new();
    for part in &message.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::ToolResult(result) => text.push_str(&result.content),
            Part::ToolCall(call) => text.push_str(&call.arguments_json),
            Part::Media(_) => {}
            Part::Other((_, json)) => text.push_str(json),
        }
    }
    text
}

fn too_large(what: &str, found: u64, most: u64, unit: &str) -> Refusal {
    Refusal::new(Cause::Size, format!("{what} has {found} {unit}; at most {most} are allowed here."))
}
