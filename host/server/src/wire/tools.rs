//! The functions that a request offers to the model, and which of them it wants called.

use std::collections::HashSet;

use inference::{Tool, ToolChoice};
use serde_json::Value;

use super::Refusal;
use super::members::{Kind, Member};
use super::messages::missing;
use crate::limits;

/// `tools`, `tool_choice` and `parallel_tool_calls`.
#[derive(Default)]
pub(super) struct ToolMembers<'a> {
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Option<(Member<'a>, Choice)>,
    pub(super) is_serial: bool,
}

/// `tool_choice`, before it is known which functions there are.
pub(super) enum Choice {
    /// These words mean the same with and without functions.
    Auto,
    None,
    Required,
    Named(String),
    /// Of these functions only, and whether one has to be called.
    Allowed(HashSet<String>, bool),
}

impl<'a> ToolMembers<'a> {
    /// Takes a member of the request if it is about this.
    pub(super) fn take(&mut self, name: &str, value: &Member<'a>) -> Result<bool, Refusal> {
        match name {
            "tools" => self.tools = parse_tools(value)?,
            "tool_choice" => self.choice = Some((value.clone(), parse_choice(value)?)),
            "parallel_tool_calls" => self.is_serial = !value.flag()?,
            // What asks for nothing may stay: some clients always send it.
            "functions" if value.is_empty() => {}
            "function_call" if matches!(value.json(), r#""none""# | r#""auto""#) => {}
            "functions" => return Err(value.unsupported("is not supported; send the functions as `tools`")),
            "function_call" => return Err(value.unsupported("is not supported; send `tool_choice`")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What was asked for, and whether more than one call may be made at once.
    pub(super) fn finish(self) -> Result<(Vec<Tool>, ToolChoice, bool), Refusal> {
        let Self { mut tools, choice, is_serial } = self;
        let Some((member, choice)) = choice else { return Ok((tools, ToolChoice::Auto, !is_serial)) };
        let choice = match choice {
            Choice::Auto => ToolChoice::Auto,
            Choice::None => ToolChoice::None,
            _ if tools.is_empty() => return Err(member.wrong("asks for a call; send the functions as `tools`")),
            Choice::Required => ToolChoice::Required,
            Choice::Named(name) => {
                check_is_offered(&name, &tools, &member)?;
                ToolChoice::Named(name)
            }
            Choice::Allowed(names, is_required) => {
                names.iter().try_for_each(|name| check_is_offered(name, &tools, &member))?;
                // The model is told of these alone: nothing else could keep it from the others.
                tools.retain(|tool| names.contains(&tool.name));
                if is_required { ToolChoice::Required } else { ToolChoice::Auto }
            }
        };
        Ok((tools, choice, !is_serial))
    }
}

fn check_is_offered(name: &str, tools: &[Tool], choice: &Member<'_>) -> Result<(), Refusal> {
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(());
    }
    Err(choice.wrong(&format!("names the function `{name}`, which is not among `tools`")))
}

fn parse_tools(member: &Member<'_>) -> Result<Vec<Tool>, Refusal> {
    parse_each(member, |tool| {
        let function = function_of(tool, "an object with `name` and `parameters`")?;
        let tool = parse_function(&function, function.object()?)?;
        Ok((function, tool))
    })
}

/// Functions in whatever form, each with where it stands; no two of one name, and not too much of all together.
pub(super) fn parse_each<'a>(
    member: &Member<'a>,
    parse: impl Fn(&Member<'a>) -> Result<(Member<'a>, Tool), Refusal>,
) -> Result<Vec<Tool>, Refusal> {
    let tools = member.array(limits::TOOLS_MAX)?;
    let (mut names, mut bytes) = (HashSet::new(), 0);
    let mut parsed = Vec::with_capacity(tools.len());
    for tool in &tools {
        let (function, tool) = parse(tool)?;
        if !names.insert(tool.name.clone()) {
            return Err(function.wrong(&format!("is the second function with the name `{}`", tool.name)));
        }
        bytes += tool.schema_json.len();
        parsed.push(tool);
    }
    let bytes_max = limits::TOOL_SCHEMAS_BYTES_MAX;
    if bytes > bytes_max {
        return Err(member.wrong(&format!("must have at most {bytes_max} bytes of `parameters`, it has {bytes}")));
    }
    Ok(parsed)
}

/// The `function` of `{"type": "function", "function": …}`.
fn function_of<'a>(tool: &Member<'a>, expected: &str) -> Result<Member<'a>, Refusal> {
    let (mut kind, mut function, mut unknown) = (None, None, None);
    for (name, value) in tool.object()? {
        match name.as_str() {
            "type" => {
                let name = value.text(limits::SHORT_TEXT_BYTES_MAX)?;
                if name != "function" {
                    let why = format!("is `{}`; only tools of the type `function` are supported", name.escape_debug());
                    return Err(value.unsupported(&why));
                }
                kind = Some(());
            }
            "function" => function = Some(value),
            // Judged last: the tool's type explains it better.
            _ => unknown = Some(value),
        }
    }
    kind.ok_or_else(|| missing(tool, "type", "`function`"))?;
    if let Some(unknown) = unknown {
        return Err(unknown.unknown());
    }
    function.ok_or_else(|| missing(tool, "function", expected))
}

/// A function of these members, where `function` stands.
pub(super) fn parse_function(function: &Member<'_>, members: Vec<(String, Member<'_>)>) -> Result<Tool, Refusal> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, false);
    for (member, value) in members {
        match member.as_str() {
            "name" => name = Some(parse_name(&value)?),
            "description" => description = Some(value.text(limits::TOOL_DESCRIPTION_BYTES_MAX)?),
            "parameters" => schema = Some(parse_schema(&value)?),
            "strict" => strict = value.flag()?,
            _ => return Err(value.unknown()),
        }
    }
    Ok(Tool {
        name: name.ok_or_else(|| missing(function, "name", "a string"))?,
        description,
        schema_json: schema.unwrap_or_else(|| NO_ARGUMENTS.to_owned()),
        strict,
    })
}

/// As with OpenAI: a function without `parameters` takes nothing.
pub(super) const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// A function's name, also that of a call earlier in the conversation.
pub(super) fn parse_name(name: &Member<'_>) -> Result<String, Refusal> {
    let text = name.text(limits::SHORT_TEXT_BYTES_MAX)?;
    if Tool::is_name(&text) {
        return Ok(text);
    }
    Err(name.wrong("must be 1 to 64 letters (a-z), digits, underscores and hyphens"))
}

/// A JSON schema of an object. It goes to a plugin, so that what serde would check on the way is checked here; whether it can
/// be enforced is found out where it has to be.
pub(super) fn parse_schema(schema: &Member<'_>) -> Result<String, Refusal> {
    if schema.kind() != Kind::Object {
        return Err(schema.wrong("must be a JSON schema, an object"));
    }
    let json = schema.json_for_others(limits::TOOL_SCHEMA_BYTES_MAX)?;
    for (name, value) in schema.object()? {
        if name == "type" && serde_json::from_str::<Value>(value.json()).is_ok_and(|kind| kind != "object") {
            return Err(value.wrong("must be \"object\": the arguments of a call are one"));
        }
    }
    Ok(json.to_owned())
}

pub(super) fn parse_choice(choice: &Member<'_>) -> Result<Choice, Refusal> {
    let expected = "must be \"none\", \"auto\", \"required\", a function or allowed tools";
    match choice.kind() {
        Kind::Text => match choice.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Required),
            _ => Err(choice.wrong(expected)),
        },
        Kind::Object => {
            let mut allowed = None;
            for (name, value) in choice.object()? {
                match name.as_str() {
                    "allowed_tools" => allowed = Some(parse_allowed(&value)?),
                    "type" if value.json() == r#""allowed_tools""# => {}
                    // Judged as the choice of a function, which says what is wrong.
                    _ => return parse_named(choice).map(Choice::Named),
                }
            }
            allowed.ok_or_else(|| missing(choice, "allowed_tools", "an object with `mode` and `tools`"))
        }
        Kind::Array | Kind::Other => Err(choice.wrong(expected)),
    }
}

/// The name in `{"type": "function", "function": {"name": …}}`.
fn parse_named(choice: &Member<'_>) -> Result<String, Refusal> {
    let function = function_of(choice, "an object with `name`")?;
    let mut found = None;
    for (name, value) in function.object()? {
        match name.as_str() {
            "name" => found = Some(parse_name(&value)?),
            _ => return Err(value.unknown()),
        }
    }
    found.ok_or_else(|| missing(&function, "name", "a string"))
}

/// What is wrong with allowed functions that are none.
pub(super) const NAMES_NOBODY: &str = "must name at least one function; send `tool_choice` as \"none\" for none";

/// Whether one of the allowed functions has to be called.
pub(super) fn parse_mode(mode: &Member<'_>) -> Result<bool, Refusal> {
    match mode.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
        "auto" => Ok(false),
        "required" => Ok(true),
        _ => Err(mode.wrong("must be \"auto\" or \"required\"")),
    }
}

fn parse_allowed(allowed: &Member<'_>) -> Result<Choice, Refusal> {
    let (mut is_required, mut names) = (None, None);
    for (name, value) in allowed.object()? {
        match name.as_str() {
            "mode" => {
                is_required = Some(parse_mode(&value)?);
            }
            "tools" => {
                let tools = value.array(limits::TOOLS_MAX)?;
                if tools.is_empty() {
                    return Err(value.wrong(NAMES_NOBODY));
                }
                names = Some(tools.iter().map(parse_named).collect::<Result<_, _>>()?);
            }
            _ => return Err(value.unknown()),
        }
    }
    let names = names.ok_or_else(|| missing(allowed, "tools", "an array of functions"))?;
    Ok(Choice::Allowed(names, is_required.ok_or_else(|| missing(allowed, "mode", "`auto` or `required`"))?))
}

#[cfg(test)]
mod tests;
