//! The conversation of a message request: blocks, to messages of the house.

use inference::{Message, Part, Role, ToolCall, ToolResult};

use super::super::Refusal;
use super::super::members::{Kind, Member};
use super::super::messages::{check_parts, missing};
use super::super::tools::parse_name;
use crate::limits;

pub(super) fn parse_messages(member: &Member<'_>) -> Result<Vec<Message>, Refusal> {
    let messages = member.array(limits::MESSAGES_MAX)?;
    let Some(last) = messages.last() else { return Err(member.wrong("must have at least one message")) };
    let parsed: Vec<Vec<Message>> = messages.iter().map(parse_message).collect::<Result<_, _>>()?;
    let parsed: Vec<Message> = parsed.into_iter().flatten().collect();
    check_parts(member, &parsed)?;
    if parsed.last().is_some_and(|message| message.role == Role::Assistant) {
        return Err(last.unsupported("ends the conversation with the model's own words, and to go on with them is not supported; end it with a message of the user"));
    }
    Ok(parsed)
}

/// One message, or several where it has results of tools: these are messages of their own here.
fn parse_message(message: &Member<'_>) -> Result<Vec<Message>, Refusal> {
    let (mut role, mut content) = (None, None);
    for (member, value) in message.object()? {
        match member.as_str() {
            "role" => role = Some(parse_role(&value)?),
            "content" => content = Some(value),
            _ => return Err(value.unknown()),
        }
    }
    let role = role.ok_or_else(|| missing(message, "role", ROLES))?;
    let content = content.ok_or_else(|| missing(message, "content", "a string or an array of blocks"))?;
    if content.kind() == Kind::Text {
        return Ok(vec![Message::text(role, content.text(usize::MAX)?)]);
    }
    let mut messages: Vec<Message> = Vec::new();
    for block in content.array(limits::PARTS_MAX)? {
        let Some(part) = parse_block(&block, role)? else { continue };
        let role = if matches!(part, Part::ToolResult(_)) { Role::Tool } else { role };
        match messages.last_mut() {
            Some(last) if last.role == role && role != Role::Tool => last.parts.push(part),
            _ => messages.push(Message { role, name: None, parts: vec![part] }),
        }
    }
    if messages.is_empty() {
        return Err(content.wrong("must have at least one block that is not a thought"));
    }
    Ok(messages)
}

const ROLES: &str = "`user`, `assistant` or `system`";

fn parse_role(role: &Member<'_>) -> Result<Role, Refusal> {
    match role.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        _ => Err(role.wrong(&format!("must be {ROLES}"))),
    }
}

/// A block; `None`: a thought of an earlier answer, which is not given back to the model.
fn parse_block(block: &Member<'_>, role: Role) -> Result<Option<Part>, Refusal> {
    let members = block.object()?;
    let kind = members.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind);
    let kind = kind.ok_or_else(|| missing(block, "type", "`text`, `tool_use` or `tool_result`"))?;
    let name = kind.text(limits::SHORT_TEXT_BYTES_MAX)?;
    match (name.as_str(), role) {
        ("text", _) => parse_text(&members, block).map(|text| Some(Part::Text(text))),
        ("tool_use", Role::Assistant) => parse_use(&members, block).map(|call| Some(Part::ToolCall(call))),
        ("tool_result", Role::User) => parse_result(&members, block).map(|result| Some(Part::ToolResult(result))),
        ("thinking" | "redacted_thinking", Role::Assistant) => Ok(None),
        ("tool_use" | "thinking" | "redacted_thinking", _) => Err(kind.wrong("is for assistant messages only")),
        ("tool_result", _) => Err(kind.wrong("is for user messages only")),
        _ => {
            let why = format!("is `{}`; text, tool_use, tool_result and thinking are supported", name.escape_debug());
            Err(kind.unsupported(&why))
        }
    }
}

type Members<'a> = [(String, Member<'a>)];

fn parse_text(members: &Members<'_>, block: &Member<'_>) -> Result<String, Refusal> {
    let mut text = None;
    for (name, value) in members {
        match name.as_str() {
            "type" => {}
            "text" => text = Some(value.text(usize::MAX)?),
            "cache_control" => check_cache_control(value)?,
            "citations" if value.is_empty() => {}
            "citations" => return Err(value.unsupported("is not supported by this server; remove it")),
            _ => return Err(value.unknown()),
        }
    }
    text.ok_or_else(|| missing(block, "text", "a string"))
}

fn parse_use(members: &Members<'_>, block: &Member<'_>) -> Result<ToolCall, Refusal> {
    let (mut id, mut name, mut input) = (None, None, None);
    for (member, value) in members {
        match member.as_str() {
            // Who asked for the call: the model.
            "type" | "caller" => {}
            "id" => id = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "name" => name = Some(parse_name(value)?),
            "input" if value.kind() == Kind::Object => {
                input = Some(value.json_for_others(limits::CALL_INPUT_BYTES_MAX)?.to_owned());
            }
            "input" => return Err(value.wrong("must be an object")),
            "cache_control" => check_cache_control(value)?,
            _ => return Err(value.unknown()),
        }
    }
    Ok(ToolCall {
        id: id.ok_or_else(|| missing(block, "id", "a string"))?,
        name: name.ok_or_else(|| missing(block, "name", "a string"))?,
        arguments_json: input.ok_or_else(|| missing(block, "input", "an object"))?,
    })
}

fn parse_result(members: &Members<'_>, block: &Member<'_>) -> Result<ToolResult, Refusal> {
    let (mut id, mut content, mut failed) = (None, String::new(), false);
    for (member, value) in members {
        match member.as_str() {
            "type" => {}
            "tool_use_id" => id = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "content" => {
                let texts = parse_texts(value)?;
                let texts = texts
                    .iter()
                    .filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None });
                content = texts.collect();
            }
            "is_error" => failed = value.flag()?,
            "cache_control" => check_cache_control(value)?,
            _ => return Err(value.unknown()),
        }
    }
    Ok(ToolResult { id: id.ok_or_else(|| missing(block, "tool_use_id", "a string"))?, content, failed })
}

/// A string, or an array of text blocks.
pub(super) fn parse_texts(texts: &Member<'_>) -> Result<Vec<Part>, Refusal> {
    match texts.kind() {
        Kind::Text if texts.is_empty() => Ok(Vec::new()),
        Kind::Text => Ok(vec![Part::Text(texts.text(usize::MAX)?)]),
        Kind::Array => {
            let blocks = texts.array(limits::PARTS_MAX)?;
            let parts = blocks.iter().map(|block| parse_block(block, Role::System));
            parts.filter_map(Result::transpose).collect()
        }
        Kind::Object | Kind::Other => Err(texts.wrong("must be a string or an array of text blocks")),
    }
}

/// A mark for what to keep computed. Beginnings are found again without it.
pub(super) fn check_cache_control(control: &Member<'_>) -> Result<(), Refusal> {
    for (member, value) in control.object()? {
        match member.as_str() {
            "type" | "ttl" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    Ok(())
}
