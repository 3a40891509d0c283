//! `POST /v1/chat/completions`: from the body to the house's words.
//!
//! Every member of OpenAI's request is decided here, by name: taken, accepted because ignoring it cannot change the
//! answer, or refused. What is not listed is refused as unknown. Nothing is ignored silently.

use std::num::NonZeroU32;

use inference::{ChatRequest, Message, Operation, ToolChoice};

use super::Refusal;
use super::format::FormatMembers;
use super::members::{Kind, Member};
use super::messages::parse_messages;
use super::response::{ChatForm, ChunkWriter};
use super::sampling::{SamplingMembers, parse_stop_tokens};
use super::tools::ToolMembers;
use super::writer::Parsed;
use crate::limits;
use crate::service::{Asked, Defaults};

/// What a body of `POST /v1/chat/completions` asks for, or what is wrong with it: for who has a request in a file.
pub fn chat_request(body: &[u8]) -> Result<ChatRequest, String> {
    let parsed = parse_chat(body, &Defaults::default());
    parsed.map(|parsed| parsed.asked.request).map_err(|refusal| refusal.message)
}

/// Parses a body. Members that are absent or `null` take their values from `defaults`.
pub(crate) fn parse_chat(body: &[u8], defaults: &Defaults) -> Result<Parsed, Refusal> {
    let body = Member::body_of(body, limits::JSON_DEPTH_MAX)?;

    let mut model: Option<String> = None;
    let mut messages: Option<Vec<Message>> = None;
    let mut sampling = SamplingMembers::new(&defaults.sampling);
    let mut max_tokens: Option<u32> = None;
    let mut stop = Vec::new();
    let mut stop_tokens = Vec::new();
    let mut ignore_end = false;
    let mut has_logprobs = false;
    let mut top_logprobs: Option<(Member<'_>, u32)> = None;
    let mut is_streamed = false;
    let mut stream_options: Option<(Member<'_>, bool)> = None;
    let mut format = FormatMembers::default();
    let mut template_arguments = "{}".to_owned();
    let mut choices = NonZeroU32::MIN;
    let mut tools = ToolMembers::default();

    for (name, value) in body.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "messages" => messages = Some(parse_messages(&value)?),
            "stream" => is_streamed = value.flag()?,
            "stream_options" => {
                let include_usage = parse_stream_options(&value)?;
                stream_options = Some((value, include_usage));
            }
            "max_tokens" | "max_completion_tokens" => {
                let tokens = value.count(1..=u64::from(u32::MAX))?;
                if max_tokens.is_some_and(|other| other != tokens) {
                    return Err(value.wrong("contradicts the other of `max_tokens` and `max_completion_tokens`"));
                }
                max_tokens = Some(tokens);
            }
            "stop" => stop = parse_stop(&value)?,
            "stop_token_ids" => stop_tokens = parse_stop_tokens(&value)?,
            "ignore_eos" => ignore_end = value.flag()?,
            "logprobs" => has_logprobs = value.flag()?,
            "top_logprobs" => {
                let count = value.count(0..=limits::TOP_LOGPROBS_MAX)?;
                top_logprobs = Some((value, count));
            }
            "n" => choices = NonZeroU32::new(value.count(1..=limits::N_MAX)?).unwrap_or(NonZeroU32::MIN),
            "chat_template_kwargs" => template_arguments = parse_template_arguments(&value)?,
            _ if sampling.take(&name, &value)? => {}
            _ if format.take(&name, &value)? => {}
            _ if tools.take(&name, &value)? => {}
            _ => judge(&name, &value)?,
        }
    }

    let include_usage = include_usage(stream_options, is_streamed)?;
    let logprobs = match top_logprobs {
        Some((member, 1..)) if !has_logprobs => {
            return Err(member.wrong("is for log probabilities; set `logprobs` to true"));
        }
        Some((_, count)) if has_logprobs => Some(count),
        _ => has_logprobs.then_some(0),
    };
    let (tools, tool_choice, parallel_tool_calls) = tools.finish()?;
    let request = ChatRequest {
        operation: Operation::Chat,
        model: model.ok_or_else(missing_model)?,
        messages: messages.ok_or_else(|| missing("messages", "an array of messages"))?,
        tools,
        tool_choice,
        parallel_tool_calls,
        sampling: sampling.finish(),
        max_tokens,
        stop,
        streaming: is_streamed,
        stop_tokens,
        ignore_end,
        logprobs,
        format: format.finish(),
        template_arguments,
    };
    let is_calls = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let form = ChatForm { include_usage, has_logprobs: request.logprobs.is_some(), is_calls, choices: choices.get() };
    Ok(Parsed {
        asked: Asked { choices, ..Asked::chat(request) },
        writer: Box::new(move |head| Box::new(ChunkWriter::new(head, form))),
    })
}

/// Whether a stream ends with the usage, which is asked for beside `stream` only.
pub(super) fn include_usage(options: Option<(Member<'_>, bool)>, is_streamed: bool) -> Result<bool, Refusal> {
    match options {
        Some((member, _)) if !is_streamed => Err(member.wrong("is for streams; set `stream` to true")),
        Some((_, include_usage)) => Ok(include_usage),
        None => Ok(false),
    }
}

/// Members that change nothing here: accepted where they ask for what happens anyway, refused where they do not.
fn judge(name: &str, value: &Member<'_>) -> Result<(), Refusal> {
    let is_noop = match name {
        // Who asks, for an operator's statistics at OpenAI; the cache here is not keyed by clients.
        "user" | "safety_identifier" | "prompt_cache_key" => value.text(limits::SHORT_TEXT_BYTES_MAX).map(|_| true)?,
        "metadata" => parse_metadata(value).map(|()| true)?,
        // Nothing is stored for later retrieval, and there is one tier.
        "store" => !value.flag()?,
        "service_tier" => matches!(value.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str(), "auto" | "default"),
        // In text.
        "modalities" => value.json().split_whitespace().collect::<String>() == r#"["text"]"#,
        // As it comes, where that is asked for.
        "reasoning_effort" | "verbosity" => value.text(limits::SHORT_TEXT_BYTES_MAX)? == "medium",
        "audio" | "prediction" | "prompt_cache_retention" | "web_search_options" | "moderation" => false,
        _ => return Err(value.unknown()),
    };
    if is_noop { Ok(()) } else { Err(value.unsupported(remedy(name))) }
}

fn remedy(name: &str) -> &'static str {
    match name {
        "store" => "is not supported: nothing is stored; leave it out or send false",
        "service_tier" => "is not supported; leave it out or send `auto`",
        "modalities" => "is not supported beyond [\"text\"]",
        _ => "is not supported by this server; remove it",
    }
}

pub(super) fn parse_stream_options(options: &Member<'_>) -> Result<bool, Refusal> {
    let mut include_usage = false;
    for (name, value) in options.object()? {
        match name.as_str() {
            "include_usage" => include_usage = value.flag()?,
            // Padding against an observer of packet sizes: not giving it must not go unnoticed.
            "include_obfuscation" if !value.flag()? => {}
            "include_obfuscation" => return Err(value.unsupported("is not supported; leave it out or send false")),
            _ => return Err(value.unknown()),
        }
    }
    Ok(include_usage)
}

/// A string, or an array of strings.
pub(super) fn parse_stop(stop: &Member<'_>) -> Result<Vec<String>, Refusal> {
    match stop.kind() {
        Kind::Text => Ok(vec![parse_stop_text(stop)?]),
        Kind::Array => parse_stops(stop),
        Kind::Object | Kind::Other => Err(stop.wrong("must be a string or an array of strings")),
    }
}

/// An array of texts that end an answer.
pub(super) fn parse_stops(stops: &Member<'_>) -> Result<Vec<String>, Refusal> {
    stops.array(limits::STOP_TEXTS_MAX)?.iter().map(parse_stop_text).collect()
}

fn parse_stop_text(stop: &Member<'_>) -> Result<String, Refusal> {
    match stop.text(limits::STOP_TEXT_BYTES_MAX)? {
        text if text.is_empty() => Err(stop.wrong("must not be empty: it would end every answer at once")),
        text => Ok(text),
    }
}

/// Variables for the chat template: any JSON object. It goes to a plugin as text, so what serde would check on the way
/// is checked here.
pub(super) fn parse_template_arguments(arguments: &Member<'_>) -> Result<String, Refusal> {
    if arguments.kind() != Kind::Object {
        return Err(arguments.wrong("must be an object"));
    }
    Ok(arguments.json_for_others(limits::TEMPLATE_ARGUMENTS_BYTES_MAX)?.to_owned())
}

pub(super) fn parse_metadata(metadata: &Member<'_>) -> Result<(), Refusal> {
    let pairs = metadata.entries(limits::METADATA_PAIRS_MAX, "pairs")?;
    pairs.iter().try_for_each(|(_, value)| value.text(limits::SHORT_TEXT_BYTES_MAX).map(drop))
}

pub(super) fn missing_model() -> Refusal {
    missing("model", "the name of a model; GET /v1/models lists what is served")
}

pub(super) fn missing(name: &str, expected: &str) -> Refusal {
    Refusal::member(name, "missing_required_parameter", format!("`{name}` is required: {expected}"))
}

#[cfg(test)]
mod tests;
