//! `POST /v1/messages`: Anthropic's form, to the house's words and back.
//!
//! As with OpenAI's, every member is decided by name: taken, accepted because ignoring it cannot change the answer, or refused.

mod content;
mod error;
mod writer;

use inference::{ChatRequest, Message, OutputFormat, Role, Tool};
use serde_json::json;

use super::Refusal;
use super::format::schema;
use super::members::{Kind, Member};
use super::messages::missing as missing_in;
use super::request::{missing, missing_model, parse_stops};
use super::sampling::SamplingMembers;
use super::tools::{Choice, ToolMembers, parse_each, parse_name, parse_schema};
use super::writer::Parsed;
use crate::limits;
use crate::service::{Asked, Defaults};
use content::{check_cache_control, parse_messages, parse_texts};

pub(crate) use error::{MessageError, message_error};
use writer::MessageWriter;
pub(in crate::wire) use writer::{MessageDelta, MessageObject, Start};

/// Parses a body. Members that are absent or `null` take their values from `defaults`.
pub(crate) fn parse_message(body: &[u8], defaults: &Defaults) -> Result<Parsed, Refusal> {
    let request = parse(body, defaults)?;
    if request.max_tokens.is_none() {
        return Err(missing("max_tokens", "most tokens of the answer"));
    }
    let asked = Asked { wants_objects: true, ..Asked::chat(request) };
    Ok(Parsed { asked, writer: Box::new(move |head| Box::new(MessageWriter::new(head))) })
}

/// `POST /v1/messages/count_tokens` takes what says what the prompt is; what says how it is answered may stand there too.
pub(crate) fn parse_count_tokens(body: &[u8], defaults: &Defaults) -> Result<Asked, Refusal> {
    parse(body, defaults).map(Asked::chat)
}

fn parse(body: &[u8], defaults: &Defaults) -> Result<ChatRequest, Refusal> {
    let body = Member::body_of(body, limits::JSON_DEPTH_MAX)?;
    let mut request = ChatRequest::new("", Vec::new());
    let (mut model, mut messages, mut system) = (None, None, Vec::new());
    let mut sampling = SamplingMembers::new(&defaults.sampling);
    let mut tools = ToolMembers::default();

    for (name, value) in body.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "messages" => messages = Some(parse_messages(&value)?),
            "system" => system = parse_texts(&value)?,
            "max_tokens" => request.max_tokens = Some(value.count(1..=u64::from(u32::MAX))?),
            "stop_sequences" => request.stop = parse_stops(&value)?,
            "stream" => request.streaming = value.flag()?,
            "temperature" | "top_p" | "top_k" => drop(sampling.take(&name, &value)?),
            "tools" => tools.tools = parse_each(&value, parse_tool)?,
            "tool_choice" => {
                let (choice, is_serial) = parse_choice(&value)?;
                (tools.choice, tools.is_serial) = (Some((value, choice)), is_serial);
            }
            "thinking" => request.template_arguments = parse_thinking(&value)?,
            "output_config" => request.format = parse_output_config(&value)?,
            // What is computed is kept anyway.
            "cache_control" => check_cache_control(&value)?,
            "metadata" => check_metadata(&value)?,
            "service_tier" => check_is(&value, &["auto", "standard_only"])?,
            "speed" => check_is(&value, &["standard"])?,
            "prefill" | "container" | "mcp_servers" | "context_management" | "diagnostics" | "inference_geo"
            | "user_profile_id" | "workspace_id" | "output_format" => {
                return Err(value.unsupported("is not supported by this server; remove it"));
            }
            _ => return Err(value.unknown()),
        }
    }

    request.model = model.ok_or_else(missing_model)?;
    let messages = messages.ok_or_else(|| missing("messages", "an array of messages"))?;
    let system = (!system.is_empty()).then(|| Message { parts: system, ..Message::text(Role::System, "") });
    request.messages = system.into_iter().chain(messages).collect();
    request.sampling = sampling.finish();
    (request.tools, request.tool_choice, request.parallel_tool_calls) = tools.finish()?;
    Ok(request)
}

fn parse_tool<'a>(tool: &Member<'a>) -> Result<(Member<'a>, Tool), Refusal> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, false);
    // The kind explains members that are unknown otherwise.
    let members = tool.object()?;
    if let Some((_, kind)) = members.iter().find(|(member, kind)| member == "type" && kind.json() != r#""custom""#) {
        return Err(kind.unsupported("is not `custom`; tools that a server runs are not supported"));
    }
    for (member, value) in members {
        match member.as_str() {
            "name" => name = Some(parse_name(&value)?),
            "description" => description = Some(value.text(limits::TOOL_DESCRIPTION_BYTES_MAX)?),
            "input_schema" => schema = Some(parse_schema(&value)?),
            "strict" => strict = value.flag()?,
            "type" => {}
            "cache_control" => check_cache_control(&value)?,
            // Arguments are streamed as they come, either way.
            "eager_input_streaming" => drop(value.flag()?),
            "defer_loading" if !value.flag()? => {}
            "defer_loading" | "allowed_callers" | "input_examples" => {
                return Err(value.unsupported("is not supported by this server; remove it"));
            }
            _ => return Err(value.unknown()),
        }
    }
    let parsed = Tool {
        name: name.ok_or_else(|| missing_in(tool, "name", "a string"))?,
        description,
        schema_json: schema.ok_or_else(|| missing_in(tool, "input_schema", "a JSON schema"))?,
        strict,
    };
    Ok((tool.clone(), parsed))
}

/// Which calls, and whether one at most.
fn parse_choice(choice: &Member<'_>) -> Result<(Choice, bool), Refusal> {
    let (mut kind, mut name, mut is_serial) = (None, None, false);
    for (member, value) in choice.object()? {
        match member.as_str() {
            "type" => kind = Some(value),
            "name" => name = Some(parse_name(&value)?),
            "disable_parallel_tool_use" => is_serial = value.flag()?,
            _ => return Err(value.unknown()),
        }
    }
    let kind = kind.ok_or_else(|| missing_in(choice, "type", "`auto`, `any`, `tool` or `none`"))?;
    let parsed = match (kind.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str(), name) {
        ("auto", None) => Choice::Auto,
        ("any", None) => Choice::Required,
        ("none", None) => Choice::None,
        ("tool", Some(name)) => Choice::Named(name),
        ("tool", None) => return Err(missing_in(choice, "name", "the tool to use")),
        ("auto" | "any" | "none", Some(_)) => return Err(choice.wrong("names a tool; only the type `tool` does")),
        _ => return Err(kind.wrong("must be `auto`, `any`, `tool` or `none`")),
    };
    Ok((parsed, is_serial))
}

/// The variable that chat templates know. A budget is a wish at Anthropic, too; nothing here counts it.
fn parse_thinking(thinking: &Member<'_>) -> Result<String, Refusal> {
    let (mut kind, mut budget) = (None, None);
    for (member, value) in thinking.object()? {
        match member.as_str() {
            "type" => kind = Some(value),
            "budget_tokens" => budget = Some(value.count(1..=u64::from(u32::MAX))?),
            "display" => check_is(&value, &["summarized"])?,
            _ => return Err(value.unknown()),
        }
    }
    let kind = kind.ok_or_else(|| missing_in(thinking, "type", "`enabled`, `disabled` or `adaptive`"))?;
    match kind.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
        "enabled" if budget.is_none() => Err(missing_in(thinking, "budget_tokens", "tokens to think with")),
        "enabled" => Ok(json!({"enable_thinking": true}).to_string()),
        "disabled" => Ok(json!({"enable_thinking": false}).to_string()),
        // As the model is used to.
        "adaptive" => Ok("{}".to_owned()),
        _ => Err(kind.unsupported("must be `enabled`, `disabled` or `adaptive`")),
    }
}

fn parse_output_config(config: &Member<'_>) -> Result<Option<OutputFormat>, Refusal> {
    let mut format = None;
    for (member, value) in config.object()? {
        match member.as_str() {
            "format" => format = Some(parse_format(&value)?),
            "effort" => return Err(value.unsupported("is not supported by this server; remove it")),
            _ => return Err(value.unknown()),
        }
    }
    Ok(format)
}

fn parse_format(format: &Member<'_>) -> Result<OutputFormat, Refusal> {
    let mut found = None;
    for (member, value) in format.object()? {
        match member.as_str() {
            "type" => check_is(&value, &["json_schema"])?,
            "schema" => found = Some(schema(&value)?),
            _ => return Err(value.unknown()),
        }
    }
    found.ok_or_else(|| missing_in(format, "schema", "a JSON schema"))
}

/// Who asks, for statistics at Anthropic.
fn check_metadata(metadata: &Member<'_>) -> Result<(), Refusal> {
    for (member, value) in metadata.object()? {
        match member.as_str() {
            "user_id" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    Ok(())
}

fn check_is(value: &Member<'_>, allowed: &[&str]) -> Result<(), Refusal> {
    if value.kind() == Kind::Text && allowed.contains(&value.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str()) {
        return Ok(());
    }
    Err(value.unsupported(&format!("is not supported beyond `{}`", allowed.join("` and `"))))
}
