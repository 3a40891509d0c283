//! `POST /v1/completions`: prompts as they stand, completed. The form that OpenAI calls legacy.

use std::num::NonZeroU32;
use std::sync::Arc;

use inference::{ChatRequest, Operation, Token};

use super::Refusal;
use super::completion_writer::{CompletionForm, CompletionWriter};
use super::format::FormatMembers;
use super::members::{Kind, Member};
use super::request::{include_usage, missing, missing_model, parse_stop, parse_stream_options};
use super::sampling::{SamplingMembers, parse_stop_tokens};
use super::writer::Parsed;
use crate::limits;
use crate::service::{Asked, Defaults, Input};

/// Parses a body. Members that are absent or `null` take their values from `defaults`.
pub(crate) fn parse_completion(body: &[u8], defaults: &Defaults) -> Result<Parsed, Refusal> {
    let body = Member::body_of(body, limits::JSON_DEPTH_MAX)?;

    let mut request = ChatRequest { operation: Operation::Completion, ..ChatRequest::new("", Vec::new()) };
    let mut model: Option<String> = None;
    let mut prompts: Option<(Member<'_>, Vec<Input>)> = None;
    let mut sampling = SamplingMembers::new(&defaults.sampling);
    let mut stream_options: Option<(Member<'_>, bool)> = None;
    let mut format = FormatMembers::default();
    let mut choices = NonZeroU32::MIN;
    let mut best_of: Option<(Member<'_>, u32)> = None;
    let mut echo: Option<Member<'_>> = None;

    for (name, value) in body.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "prompt" => {
                let parsed = parse_prompts(&value)?;
                prompts = Some((value, parsed));
            }
            "stream" => request.streaming = value.flag()?,
            "stream_options" => {
                let include_usage = parse_stream_options(&value)?;
                stream_options = Some((value, include_usage));
            }
            "max_tokens" => request.max_tokens = Some(value.count(1..=u64::from(u32::MAX))?),
            "stop" => request.stop = parse_stop(&value)?,
            "stop_token_ids" => request.stop_tokens = parse_stop_tokens(&value)?,
            "ignore_eos" => request.ignore_end = value.flag()?,
            "logprobs" => request.logprobs = Some(value.count(0..=limits::TOP_LOGPROBS_MAX)?),
            "n" => choices = NonZeroU32::new(value.count(1..=limits::N_MAX)?).unwrap_or(NonZeroU32::MIN),
            "best_of" => {
                let count = value.count(1..=limits::N_MAX)?;
                best_of = Some((value, count));
            }
            "echo" => echo = value.flag()?.then_some(value),
            "user" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "suffix" if value.is_empty() => {}
            "suffix" => {
                return Err(value
                    .unsupported("is not supported: what stands before a gap is completed, not the gap; remove it"));
            }
            _ if sampling.take(&name, &value)? => {}
            _ if format.take(&name, &value)? => {}
            _ => return Err(value.unknown()),
        }
    }

    let (member, prompts) = prompts.ok_or_else(|| missing("prompt", "a string, or an array of strings or tokens"))?;
    if let Some((member, _)) = best_of.filter(|&(_, count)| count != choices.get()) {
        return Err(member.unsupported("is not supported beyond `n`: every answer is sent; leave it out"));
    }
    let echoed = echo.map(|echo| echoed(&echo, &prompts, &request)).transpose()?;
    let include_usage = include_usage(stream_options, request.streaming)?;
    let has_logprobs = request.logprobs.is_some();
    request.model = model.ok_or_else(missing_model)?;
    (request.sampling, request.format) = (sampling.finish(), format.finish());
    let asked = Asked { prompts: Arc::from(prompts), choices, ..Asked::chat(request) };
    let (answers, answers_max) = (asked.answers(), limits::COMPLETIONS_MAX);
    if answers > answers_max {
        return Err(
            member.wrong(&format!("and `n` ask for {answers} answers; at most {answers_max} are given at once"))
        );
    }
    let form = CompletionForm { include_usage, has_logprobs, echoed, choices: choices.get(), answers };
    Ok(Parsed { asked, writer: Box::new(move |head| Box::new(CompletionWriter::new(head, form))) })
}

/// What every answer begins with: the prompts, as the client wrote them. Nothing that a plugin made of them is shown.
fn echoed(echo: &Member<'_>, prompts: &[Input], request: &ChatRequest) -> Result<Vec<String>, Refusal> {
    if request.logprobs.is_some() {
        return Err(
            echo.unsupported("is not supported beside `logprobs`: those of a prompt are not computed; leave one out")
        );
    }
    let text = |prompt: &Input| match prompt {
        Input::Text(text) => Ok(text.clone()),
        Input::Tokens(_) => Err(echo.unsupported("is not supported for a prompt of tokens; send its text")),
    };
    prompts.iter().map(text).collect()
}

/// A text, texts, one prompt's tokens or several prompts' tokens.
fn parse_prompts(prompt: &Member<'_>) -> Result<Vec<Input>, Refusal> {
    match prompt.kind() {
        Kind::Text => Ok(vec![parse_prompt(prompt)?]),
        Kind::Array if prompt.starts_with_number() => Ok(vec![parse_prompt(prompt)?]),
        Kind::Array if prompt.is_empty() => Err(prompt.wrong("must have at least one prompt")),
        Kind::Array => prompt.array(limits::COMPLETIONS_MAX as usize)?.iter().map(parse_prompt).collect(),
        Kind::Object | Kind::Other => Err(prompt.wrong(EXPECTED)),
    }
}

const EXPECTED: &str = "must be a string, an array of strings, an array of tokens or an array of such arrays";

fn parse_prompt(prompt: &Member<'_>) -> Result<Input, Refusal> {
    if prompt.is_empty() {
        return Err(prompt.wrong("must not be empty"));
    }
    match prompt.kind() {
        Kind::Text => prompt.text(usize::MAX).map(Input::Text),
        Kind::Array => Ok(Input::Tokens(prompt.numbers()?.into_iter().map(Token).collect())),
        Kind::Object | Kind::Other => Err(prompt.wrong(EXPECTED)),
    }
}
