//! The conversation of a response request: items, to messages of the house.

use inference::{Message, Part, Role, ToolCall, ToolResult};

use super::super::Refusal;
use super::super::members::{Kind, Member};
use super::super::messages::{check_parts, missing};
use super::super::tools::parse_name;
use crate::limits;

/// A text of the user, or items.
pub(super) fn parse_input(input: &Member<'_>) -> Result<Vec<Message>, Refusal> {
    if input.kind() == Kind::Text {
        return Ok(vec![Message::text(Role::User, input.text(usize::MAX)?)]);
    }
    let mut messages: Vec<Message> = Vec::new();
    for item in input.array(limits::MESSAGES_MAX)? {
        let Some(message) = parse_item(&item)? else { continue };
        match messages.last_mut() {
            // What the model said and the calls it made stand in items of their own here, and are one message of its.
            Some(last) if last.role == Role::Assistant && message.role == Role::Assistant => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
    }
    if messages.is_empty() {
        return Err(input.wrong("must have at least one item that is not a thought"));
    }
    check_parts(input, &messages)?;
    Ok(messages)
}

const KINDS: &str = "`message`, `function_call`, `function_call_output` or `reasoning`";

/// An item; `None`: a thought of an earlier answer, which is not given back to the model.
fn parse_item(item: &Member<'_>) -> Result<Option<Message>, Refusal> {
    let members = item.object()?;
    let kind = members.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind);
    let name = kind.map_or_else(|| Ok("message".to_owned()), |kind| kind.text(limits::SHORT_TEXT_BYTES_MAX))?;
    match (name.as_str(), kind) {
        ("message", _) => parse_message(&members, item).map(Some),
        ("function_call", _) => parse_call(&members, item).map(Some),
        ("function_call_output", _) => parse_output(&members, item).map(Some),
        ("reasoning", _) => Ok(None),
        (_, Some(kind)) => Err(kind.unsupported(&format!("is `{}`; it must be {KINDS}", name.escape_debug()))),
        (_, None) => Err(missing(item, "type", KINDS)),
    }
}

type Members<'a> = [(String, Member<'a>)];

fn parse_message(members: &Members<'_>, item: &Member<'_>) -> Result<Message, Refusal> {
    let (mut role, mut content) = (None, None);
    for (name, value) in members {
        match name.as_str() {
            // What answers carry, and clients send back.
            "type" | "id" | "status" | "phase" => {}
            "role" => role = Some(parse_role(value)?),
            "content" => content = Some(parse_texts(value)?),
            _ => return Err(value.unknown()),
        }
    }
    Ok(Message {
        role: role.ok_or_else(|| missing(item, "role", ROLES))?,
        name: None,
        parts: content.ok_or_else(|| missing(item, "content", "a string or an array of parts"))?,
    })
}

const ROLES: &str = "`user`, `assistant`, `system` or `developer`";

fn parse_role(role: &Member<'_>) -> Result<Role, Refusal> {
    match role.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        "developer" => Ok(Role::Developer),
        _ => Err(role.wrong(&format!("must be {ROLES}"))),
    }
}

fn parse_call(members: &Members<'_>, item: &Member<'_>) -> Result<Message, Refusal> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    for (member, value) in members {
        match member.as_str() {
            "type" | "id" | "status" | "caller" => {}
            "call_id" => id = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "name" => name = Some(parse_name(value)?),
            "arguments" => arguments = Some(value.text(usize::MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    let call = ToolCall {
        id: id.ok_or_else(|| missing(item, "call_id", "a string"))?,
        name: name.ok_or_else(|| missing(item, "name", "a string"))?,
        arguments_json: arguments.ok_or_else(|| missing(item, "arguments", "JSON text"))?,
    };
    Ok(Message { role: Role::Assistant, name: None, parts: vec![Part::ToolCall(call)] })
}

fn parse_output(members: &Members<'_>, item: &Member<'_>) -> Result<Message, Refusal> {
    let (mut id, mut output) = (None, None);
    for (member, value) in members {
        match member.as_str() {
            "type" | "id" | "status" | "caller" => {}
            "call_id" => id = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "output" => output = Some(parse_texts(value)?),
            _ => return Err(value.unknown()),
        }
    }
    let texts = output.ok_or_else(|| missing(item, "output", "a string or an array of texts"))?;
    let text = texts.into_iter().filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
    let id = id.ok_or_else(|| missing(item, "call_id", "a string"))?;
    let result = ToolResult { id, content: text.collect(), failed: false };
    Ok(Message { role: Role::Tool, name: None, parts: vec![Part::ToolResult(result)] })
}

/// A string, or an array of texts.
fn parse_texts(texts: &Member<'_>) -> Result<Vec<Part>, Refusal> {
    match texts.kind() {
        Kind::Text => Ok(vec![Part::Text(texts.text(usize::MAX)?)]),
        Kind::Array => texts.array(limits::PARTS_MAX)?.iter().map(|part| parse_part(part).map(Part::Text)).collect(),
        Kind::Object | Kind::Other => Err(texts.wrong("must be a string or an array of texts")),
    }
}

fn parse_part(part: &Member<'_>) -> Result<String, Refusal> {
    let members = part.object()?;
    let kind = members.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind);
    let kind = kind.ok_or_else(|| missing(part, "type", "`input_text` or `output_text`"))?;
    let name = kind.text(limits::SHORT_TEXT_BYTES_MAX)?;
    if !matches!(name.as_str(), "input_text" | "output_text" | "text") {
        let why = format!("is `{}`; only `input_text` and `output_text` are supported", name.escape_debug());
        return Err(kind.unsupported(&why));
    }
    let mut text = None;
    for (name, value) in &members {
        match name.as_str() {
            "type" => {}
            "text" => text = Some(value.text(usize::MAX)?),
            "annotations" | "logprobs" if value.is_empty() => {}
            "annotations" | "logprobs" => return Err(value.unsupported("is not supported by this server; remove it")),
            _ => return Err(value.unknown()),
        }
    }
    text.ok_or_else(|| missing(part, "text", "a string"))
}
