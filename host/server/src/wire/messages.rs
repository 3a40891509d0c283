//! The conversation of a chat request.

use inference::{Message, Part, Role, ToolCall, ToolResult};

use super::Refusal;
use super::members::{Kind, Member};
use super::tools::parse_name;
use crate::limits;

pub(super) fn parse_messages(member: &Member<'_>) -> Result<Vec<Message>, Refusal> {
    let messages = member.array(limits::MESSAGES_MAX)?;
    if messages.is_empty() {
        return Err(member.wrong("must have at least one message"));
    }
    let messages: Vec<Message> = messages.iter().map(parse_message).collect::<Result<_, _>>()?;
    check_parts(member, &messages)?;
    Ok(messages)
}

/// No text is needed for a part to cost memory.
pub(super) fn check_parts(member: &Member<'_>, messages: &[Message]) -> Result<(), Refusal> {
    let (parts, most) =
        (messages.iter().map(|message| message.parts.len()).sum::<usize>(), limits::CONVERSATION_PARTS_MAX);
    if parts > most {
        return Err(member.wrong(&format!("must have at most {most} parts in all messages together, it has {parts}")));
    }
    Ok(())
}

fn parse_message(message: &Member<'_>) -> Result<Message, Refusal> {
    let (mut role, mut name, mut content, mut calls, mut answers) = (None, None, None, None, None);
    for (member, value) in message.object()? {
        match member.as_str() {
            "role" => role = Some(parse_role(&value)?),
            "name" => name = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "content" => content = Some(parse_content(&value)?),
            "tool_calls" => calls = Some(value),
            "tool_call_id" => answers = Some(value),
            // What we and others send along with an answer comes back when a client appends that answer to the
            // conversation. Thoughts are not given back to the model (ARCHITECTURE.md).
            "reasoning_content" => drop(value.text(usize::MAX)?),
            "refusal" | "annotations" | "audio" | "function_call" if value.is_empty() => {}
            "refusal" | "annotations" | "audio" | "function_call" => {
                return Err(value.unsupported("is not supported by this server; remove it"));
            }
            _ => return Err(value.unknown()),
        }
    }
    let role = role.ok_or_else(|| missing(message, "role", ROLES))?;
    let calls = calls.filter(|calls| !calls.is_empty());
    if let Some(calls) = calls.as_ref().filter(|_| role != Role::Assistant) {
        return Err(calls.wrong("is for assistant messages only"));
    }
    if let Some(answers) = answers.as_ref().filter(|_| role != Role::Tool) {
        return Err(answers.wrong("is for tool messages only"));
    }

    let parts = if role == Role::Tool {
        let id = answers.ok_or_else(|| missing(message, "tool_call_id", "tool messages answer a call"))?;
        let id = id.text(limits::SHORT_TEXT_BYTES_MAX)?;
        let content = content.ok_or_else(|| missing(message, "content", "a string or text parts"))?.concat();
        vec![Part::ToolResult(ToolResult { id, content, failed: false })]
    } else {
        let calls = calls.as_ref().map(parse_calls).transpose()?.unwrap_or_default();
        if content.is_none() && calls.is_empty() {
            return Err(missing(message, "content", "a string or text parts"));
        }
        content.unwrap_or_default().into_iter().map(Part::Text).chain(calls).collect()
    };
    Ok(Message { role, name, parts })
}

const ROLES: &str = "one of `system`, `developer`, `user`, `assistant`, `tool`";

fn parse_role(member: &Member<'_>) -> Result<Role, Refusal> {
    let name = member.text(limits::SHORT_TEXT_BYTES_MAX)?;
    [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool]
        .into_iter()
        .find(|role| role.as_str() == name)
        .ok_or_else(|| member.wrong(&format!("must be {ROLES}, it is `{}`", name.escape_debug())))
}

/// A string, or an array of text parts.
fn parse_content(content: &Member<'_>) -> Result<Vec<String>, Refusal> {
    match content.kind() {
        Kind::Text => Ok(vec![content.text(usize::MAX)?]),
        Kind::Array => {
            let parts = content.array(limits::PARTS_MAX)?;
            if parts.is_empty() {
                return Err(content.wrong("must be a string or have at least one part"));
            }
            parts.iter().map(parse_part).collect()
        }
        Kind::Object | Kind::Other => Err(content.wrong("must be a string or an array of text parts")),
    }
}

fn parse_part(part: &Member<'_>) -> Result<String, Refusal> {
    let (mut kind, mut text, mut unknown) = (None, None, None);
    for (member, value) in part.object()? {
        match member.as_str() {
            "type" => {
                let name = value.text(limits::SHORT_TEXT_BYTES_MAX)?;
                if name != "text" {
                    let why = format!("is `{}`; only `text` parts are supported", name.escape_debug());
                    return Err(value.unsupported(&why));
                }
                kind = Some(());
            }
            "text" => text = Some(value.text(usize::MAX)?),
            // Judged last: the part's type explains it better (`image_url` of an image part).
            _ => unknown = Some(value),
        }
    }
    kind.ok_or_else(|| missing(part, "type", "`text`"))?;
    if let Some(unknown) = unknown {
        return Err(unknown.unknown());
    }
    text.ok_or_else(|| missing(part, "text", "a string"))
}

/// Calls that the model made earlier in the conversation.
fn parse_calls(calls: &Member<'_>) -> Result<Vec<Part>, Refusal> {
    calls.array(limits::TOOL_CALLS_MAX)?.iter().map(|call| parse_call(call).map(Part::ToolCall)).collect()
}

fn parse_call(call: &Member<'_>) -> Result<ToolCall, Refusal> {
    let (mut id, mut function) = (None, None);
    for (member, value) in call.object()? {
        match member.as_str() {
            "id" => id = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "function" => function = Some(value),
            "type" if value.text(limits::SHORT_TEXT_BYTES_MAX)? == "function" => {}
            "type" => return Err(value.unsupported("must be `function`; other calls are not supported")),
            _ => return Err(value.unknown()),
        }
    }
    let function = function.ok_or_else(|| missing(call, "function", "an object with `name` and `arguments`"))?;
    let (mut name, mut arguments) = (None, None);
    for (member, value) in function.object()? {
        match member.as_str() {
            "name" => name = Some(parse_name(&value)?),
            "arguments" => arguments = Some(value.text(usize::MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    Ok(ToolCall {
        id: id.ok_or_else(|| missing(call, "id", "a string"))?,
        name: name.ok_or_else(|| missing(&function, "name", "a string"))?,
        arguments_json: arguments.ok_or_else(|| missing(&function, "arguments", "JSON text"))?,
    })
}

pub(super) fn missing(of: &Member<'_>, name: &str, expected: &str) -> Refusal {
    let path = format!("{}.{name}", of.path());
    Refusal::member(&path, "missing_required_parameter", format!("`{path}` is required: {expected}"))
}
