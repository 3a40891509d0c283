//! `POST /v1/responses`: OpenAI's newer form, without what it remembers: each request brings its whole conversation.
//!
//! As with the others, every member is decided by name: taken, accepted because ignoring it cannot change the answer, or refused.

mod input;
mod object;
mod writer;

use inference::{ChatRequest, Message, OutputFormat, Role, Tool};
use serde_json::value::RawValue;

use super::Refusal;
use super::format::schema;
use super::members::{Kind, Member};
use super::messages::missing as missing_in;
use super::request::{missing, missing_model, parse_metadata, parse_template_arguments};
use super::sampling::SamplingMembers;
use super::tools::{Choice, NAMES_NOBODY, ToolMembers, parse_each, parse_function, parse_mode, parse_name};
use super::writer::Parsed;
use crate::limits;
use crate::service::{Asked, Defaults};
use input::parse_input;
use object::Echo;
use writer::ResponseWriter;

/// Parses a body. Members that are absent or `null` take their values from `defaults`.
pub(crate) fn parse_response(body: &[u8], defaults: &Defaults) -> Result<Parsed, Refusal> {
    let body = Member::body_of(body, limits::JSON_DEPTH_MAX)?;
    let mut request = ChatRequest::new("", Vec::new());
    let (mut model, mut input, mut instructions, mut stream_options) = (None, None, None, None);
    let mut sampling = SamplingMembers::new(&defaults.sampling);
    let mut tools = ToolMembers::default();
    let mut echo = Echo::default();

    for (name, value) in body.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "input" => input = Some(parse_input(&value)?),
            "instructions" => instructions = Some(value.text(usize::MAX)?),
            "max_output_tokens" => request.max_tokens = Some(value.count(1..=u64::from(u32::MAX))?),
            "stream" => request.streaming = value.flag()?,
            "stream_options" => {
                check_stream_options(&value)?;
                stream_options = Some(value);
            }
            "tools" => {
                tools.tools = parse_each(&value, parse_tool)?;
                echo.tools = Some(value.compact());
            }
            "tool_choice" => {
                let choice = parse_choice(&value)?;
                echo.tool_choice = Some(value.compact());
                tools.choice = Some((value, choice));
            }
            "parallel_tool_calls" => tools.is_serial = !value.flag()?,
            "text" => {
                let (format, said) = parse_text(&value)?;
                (request.format, echo.format) = (format, said);
            }
            "metadata" => {
                parse_metadata(&value)?;
                echo.metadata = Some(value.compact());
            }
            "chat_template_kwargs" => request.template_arguments = parse_template_arguments(&value)?,
            _ if sampling.take(&name, &value)? => {}
            _ => judge(&name, &value)?,
        }
    }

    if let Some(options) = stream_options.filter(|_| !request.streaming) {
        return Err(options.wrong("is for streams; set `stream` to true"));
    }
    request.model = model.ok_or_else(missing_model)?;
    let input = input.ok_or_else(|| missing("input", "a string or an array of items"))?;
    let system = instructions.as_ref().map(|text| Message::text(Role::System, text.clone()));
    request.messages = system.into_iter().chain(input).collect();
    request.sampling = sampling.finish();
    (request.tools, request.tool_choice, request.parallel_tool_calls) = tools.finish()?;
    echo.instructions = instructions;
    (echo.max_output_tokens, echo.is_parallel) = (request.max_tokens, request.parallel_tool_calls);
    (echo.temperature, echo.top_p) = (request.sampling.temperature, request.sampling.top_p);
    Ok(Parsed { asked: Asked::chat(request), writer: Box::new(move |head| Box::new(ResponseWriter::new(head, echo))) })
}

/// Members that change nothing here: accepted where they ask for what happens anyway, refused where they do not.
fn judge(name: &str, value: &Member<'_>) -> Result<(), Refusal> {
    let text = || value.text(limits::SHORT_TEXT_BYTES_MAX);
    let (is_noop, remedy) = match name {
        "user" | "safety_identifier" | "prompt_cache_key" => (text().map(|_| true)?, ""),
        "store" | "background" => (!value.flag()?, "is not supported: nothing is stored; leave it out or send false"),
        "service_tier" => {
            (matches!(text()?.as_str(), "auto" | "default"), "is not supported; leave it out or send `auto`")
        }
        "truncation" => (text()? == "disabled", "is not supported; leave it out or send `disabled`"),
        "top_logprobs" => {
            let count = value.count(0..=limits::TOP_LOGPROBS_MAX)?;
            (count == 0, "is not supported here; ask /v1/chat/completions for log probabilities")
        }
        "include" => (value.is_empty(), "is not supported by this server; remove it"),
        "reasoning" => (value.is_empty() || asks_for_the_usual(value)?, "is not supported by this server; remove it"),
        "previous_response_id" | "conversation" => {
            (false, "is not supported: nothing is stored; send the whole conversation as `input`")
        }
        "max_tool_calls" | "prompt" | "prompt_cache_retention" | "context_management" | "moderation" => {
            (false, "is not supported by this server; remove it")
        }
        _ => return Err(value.unknown()),
    };
    if is_noop { Ok(()) } else { Err(value.unsupported(remedy)) }
}

/// Whether this asks for no more thoughts than come by themselves.
fn asks_for_the_usual(reasoning: &Member<'_>) -> Result<bool, Refusal> {
    Ok(reasoning.object()?.iter().all(|(name, value)| name == "effort" && value.json() == r#""medium""#))
}

fn check_stream_options(options: &Member<'_>) -> Result<(), Refusal> {
    for (name, value) in options.object()? {
        match name.as_str() {
            "include_obfuscation" if !value.flag()? => {}
            "include_obfuscation" => return Err(value.unsupported("is not supported; leave it out or send false")),
            _ => return Err(value.unknown()),
        }
    }
    Ok(())
}

/// Here a function's members stand beside its `type`.
fn parse_tool<'a>(tool: &Member<'a>) -> Result<(Member<'a>, Tool), Refusal> {
    let members = tool.object()?;
    let kind = members.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind);
    let kind = kind.ok_or_else(|| missing_in(tool, "type", "`function`"))?;
    let name = kind.text(limits::SHORT_TEXT_BYTES_MAX)?;
    if name != "function" {
        let why = format!("is `{}`; only tools of the type `function` are supported", name.escape_debug());
        return Err(kind.unsupported(&why));
    }
    let members = members.into_iter().filter(|(name, _)| name != "type").collect();
    Ok((tool.clone(), parse_function(tool, members)?))
}

fn parse_choice(choice: &Member<'_>) -> Result<Choice, Refusal> {
    if choice.kind() != Kind::Object {
        return super::tools::parse_choice(choice);
    }
    let (mut kind, mut name, mut mode, mut names) = (None, None, None, None);
    for (member, value) in choice.object()? {
        match member.as_str() {
            "type" => kind = Some(value),
            "name" => name = Some(parse_name(&value)?),
            "mode" => mode = Some(parse_mode(&value)?),
            "tools" => {
                let tools = value.array(limits::TOOLS_MAX)?;
                if tools.is_empty() {
                    return Err(value.wrong(NAMES_NOBODY));
                }
                names = Some(tools.iter().map(parse_allowed).collect::<Result<_, _>>()?);
            }
            _ => return Err(value.unknown()),
        }
    }
    let kind = kind.ok_or_else(|| missing_in(choice, "type", "`function` or `allowed_tools`"))?;
    match (kind.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str(), name, names, mode) {
        ("function", Some(name), None, None) => Ok(Choice::Named(name)),
        ("function", None, ..) => Err(missing_in(choice, "name", "the function to call")),
        ("allowed_tools", None, Some(names), Some(is_required)) => Ok(Choice::Allowed(names, is_required)),
        ("function" | "allowed_tools", ..) => {
            Err(choice.wrong("must have `name`, or `mode` and `tools`, as its type wants"))
        }
        _ => Err(kind.unsupported("must be `function` or `allowed_tools`")),
    }
}

fn parse_allowed(tool: &Member<'_>) -> Result<String, Refusal> {
    let mut found = None;
    for (name, value) in tool.object()? {
        match name.as_str() {
            "type" if value.json() == r#""function""# => {}
            "name" => found = Some(parse_name(&value)?),
            _ => return Err(value.unsupported("is not supported; only functions, by `name`")),
        }
    }
    found.ok_or_else(|| missing_in(tool, "name", "a string"))
}

/// The form of the answer, and as what it was asked for.
fn parse_text(text: &Member<'_>) -> Result<(Option<OutputFormat>, Option<Box<RawValue>>), Refusal> {
    let mut found = (None, None);
    for (name, value) in text.object()? {
        match name.as_str() {
            "format" => found = (parse_format(&value)?, Some(value.compact())),
            // As it comes.
            "verbosity" if value.json() == r#""medium""# => {}
            "verbosity" => return Err(value.unsupported("is not supported by this server; remove it")),
            _ => return Err(value.unknown()),
        }
    }
    Ok(found)
}

fn parse_format(format: &Member<'_>) -> Result<Option<OutputFormat>, Refusal> {
    let (mut kind, mut found) = (None, None);
    for (name, value) in format.object()? {
        match name.as_str() {
            "type" => kind = Some(value),
            "schema" => found = Some((schema(&value)?, value)),
            "name" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "description" => drop(value.text(limits::FORMAT_TEXT_BYTES_MAX)?),
            "strict" => drop(value.flag()?),
            _ => return Err(value.unknown()),
        }
    }
    let kind = kind.ok_or_else(|| missing_in(format, "type", "`text`, `json_object` or `json_schema`"))?;
    match (kind.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str(), found) {
        ("text", None) => Ok(None),
        ("json_object", None) => Ok(Some(OutputFormat::JsonObject)),
        ("json_schema", Some((schema, _))) => Ok(Some(schema)),
        ("json_schema", None) => Err(missing_in(format, "schema", "a JSON schema")),
        ("text" | "json_object", Some((_, member))) => Err(member.wrong("is for the type `json_schema`")),
        _ => Err(kind.wrong("must be `text`, `json_object` or `json_schema`")),
    }
}
