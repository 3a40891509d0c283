//! How a call begins: its name, and where its arguments are.

use super::Tools;
use crate::cursor::{Cursor, Not, Read};
use crate::format::{DEEPSEEK_SEPARATOR, Format};

/// The beginning of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// The arguments begin here, and so many objects are open around them.
    Open { name: String, objects: u8 },
    /// The arguments were read on the way, or there are none.
    Whole { name: String, arguments: String },
    /// Its arguments come one by one.
    Parameters { name: String },
}

/// Reads the beginning of a call behind its mark. `is_list` is set where a list begins.
pub(super) fn head(format: Format, cursor: &mut Cursor<'_>, tools: &Tools, is_list: &mut bool) -> Read<Head> {
    cursor.space()?;
    match format {
        Format::QwenXml => {
            // Behind `<function=` of a call without `<tool_call>` this is not there.
            if cursor.peek()? == '<' {
                cursor.literal("<function=")?;
            }
            let name = tools.offered(cursor.name(">", &['\n', '<'])?.trim())?;
            Ok(Head::Parameters { name })
        }
        Format::Deepseek | Format::DeepseekPlain => deepseek(cursor, tools),
        Format::Mistral | Format::MistralArgs if !matches!(cursor.peek()?, '[' | '{') => {
            let name = tools.offered(cursor.word()?)?;
            // Some write the arguments without `[ARGS]` before them.
            if cursor.peek()? != '{' && cursor.one_of(&["[CALL_ID]", "[ARGS]"])? == 0 {
                cursor.word()?;
                cursor.literal("[ARGS]")?;
            }
            cursor.space()?;
            arguments_at(cursor, name)
        }
        _ => {
            if cursor.peek()? == '[' {
                cursor.literal("[")?;
                *is_list = true;
                cursor.space()?;
            }
            object(cursor, tools, true)
        }
    }
}

fn arguments_at(cursor: &Cursor<'_>, name: String) -> Read<Head> {
    if cursor.peek()? == '{' { Ok(Head::Open { name, objects: 0 }) } else { Err(Not::This) }
}

/// `function<｜tool▁sep｜>name`, a fence and the arguments, or `name<｜tool▁sep｜>` and the arguments.
fn deepseek(cursor: &mut Cursor<'_>, tools: &Tools) -> Read<Head> {
    if cursor.peek()? == '<' {
        cursor.literal("<｜tool▁call▁begin｜>")?;
    }
    let kind = cursor.name(DEEPSEEK_SEPARATOR, &['\n', '{'])?.trim();
    cursor.space()?;
    let name = if matches!(cursor.peek()?, '{' | '`') { kind } else { cursor.word()? };
    let name = tools.offered(name)?;
    cursor.space()?;
    if cursor.peek()? == '`' {
        cursor.literal("```json")?;
        cursor.space()?;
    }
    arguments_at(cursor, name)
}

/// `{"name": …, "arguments": …}`, in any order and with the members that OpenAI's calls have besides.
fn object(cursor: &mut Cursor<'_>, tools: &Tools, is_outer: bool) -> Read<Head> {
    cursor.literal("{")?;
    let (mut name, mut arguments) = (None, None);
    loop {
        cursor.space()?;
        let key = cursor.string()?;
        cursor.space()?;
        cursor.literal(":")?;
        cursor.space()?;
        let next = cursor.peek()?;
        match (key.as_str(), next) {
            ("name", _) | ("function", '"') => name = Some(tools.offered(&cursor.string()?)?),
            ("function", '{') if is_outer => match object(cursor, tools, false)? {
                Head::Open { name, objects } => return Ok(Head::Open { name, objects: objects + 1 }),
                Head::Whole { name: inner, arguments: given } => (name, arguments) = (Some(inner), Some(given)),
                Head::Parameters { .. } => return Err(Not::This),
            },
            ("type" | "id", _) => drop(cursor.string()?),
            ("arguments" | "parameters", '{') => match name {
                Some(name) => return Ok(Head::Open { name, objects: 1 }),
                None => arguments = Some(cursor.value()?.to_owned()),
            },
            ("arguments" | "parameters", '"') => arguments = Some(spelled(&cursor.string()?)?),
            ("arguments" | "parameters", 'n') => {
                cursor.literal("null")?;
                arguments = Some(NONE.to_owned());
            }
            _ => return Err(Not::This),
        }
        cursor.space()?;
        if cursor.one_of(&[",", "}"])? == 1 {
            let arguments = arguments.unwrap_or_else(|| NONE.to_owned());
            return name.map(|name| Head::Whole { name, arguments }).ok_or(Not::This);
        }
    }
}

const NONE: &str = "{}";

/// Arguments that a model wrote as a string that holds JSON.
fn spelled(text: &str) -> Read<String> {
    match text.trim() {
        "" => Ok(NONE.to_owned()),
        text if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok() => Ok(text.to_owned()),
        _ => Err(Not::This),
    }
}
