//! Between the words of the house and those of the WIT file, both ways, and the checks on what a guest gives back.

use std::collections::HashSet;

use inference::{
    Call, ChatRequest, Finish, Message, Operation, OutputFormat, Part, PipelineError, Prompt, Role, Sampling, Segment,
    Stage, Token, Tool, ToolCall, ToolChoice, ToolResult, Usage,
};

use crate::bindings::exports::outrigger::plugin::prompt;
use crate::bindings::outrigger::plugin::types;
use crate::extra;
use crate::fault::Fault;
use crate::limits::{MARK_BYTES_MAX, MARKS_MAX, STOP_TEXT_BYTES_MAX, STOP_TEXTS_MAX};
use crate::spec::Modify;

/// The call, with the headers that the plugin was granted.
pub(crate) fn call(call: &Call, granted: &[String]) -> types::Call {
    let is_granted = |name: &str| granted.iter().any(|header| header.eq_ignore_ascii_case(name));
    types::Call {
        request_id: call.request_id.as_str().to_owned(),
        traceparent: call.traceparent.clone(),
        model: call.model.clone(),
        headers: call.headers.iter().filter(|(name, _)| is_granted(name)).cloned().collect(),
    }
}

pub(crate) fn request(request: &ChatRequest) -> types::Request {
    let sampling = &request.sampling;
    types::Request {
        operation: operation(request.operation),
        model: request.model.clone(),
        messages: messages(&request.messages),
        inputs: Vec::new(),
        tools: tools(&request.tools),
        sampling: types::Sampling {
            max_tokens: request.max_tokens,
            temperature: Some(sampling.temperature),
            top_p: Some(sampling.top_p),
            top_k: Some(sampling.top_k),
            min_p: Some(sampling.min_p),
            seed: sampling.seed,
            stop: request.stop.clone(),
        },
        grammar: request.format.as_ref().map(grammar),
        streaming: request.streaming,
        extra: extra::of(request),
    }
}

/// A policy's replacement: checked like a request at the door, and changed in nothing but what was granted.
pub(crate) fn replacement(
    new: types::Request,
    original: &ChatRequest,
    granted: &[Modify],
    vocabulary_size: u32,
) -> Result<ChatRequest, Fault> {
    let refuse = |what: &str| Err(Fault::contract(format!("a replaced request {what}")));
    if new.operation != operation(original.operation) || !new.inputs.is_empty() || new.streaming != original.streaming {
        return refuse("is of another kind than the one it replaces");
    }
    if new.model != original.model {
        return refuse("asks for another model");
    }
    let mut changed = ChatRequest {
        operation: original.operation,
        model: new.model,
        messages: new.messages.into_iter().map(message_back).collect::<Result<_, _>>()?,
        tools: new.tools.into_iter().map(tool_back).collect(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        sampling: sampling_back(&new.sampling, &original.sampling),
        max_tokens: new.sampling.max_tokens,
        stop: new.sampling.stop,
        stop_tokens: Vec::new(),
        ignore_end: false,
        logprobs: None,
        format: new.grammar.map(grammar_back),
        streaming: new.streaming,
        template_arguments: original.template_arguments.clone(),
    };
    extra::apply(&new.extra, &mut changed)?;
    extra::check_tokens(&changed, original, vocabulary_size)?;
    check_request(&changed, original)?;
    let parts = [
        (Modify::Messages, changed.messages != original.messages),
        (Modify::Tools, changed.tools != original.tools),
        (Modify::Sampling, !same_sampling(&changed, original)),
        (Modify::Grammar, changed.format != original.format),
        (Modify::Extra, new.extra != extra::of(original)),
    ];
    match parts.iter().find(|(part, is_changed)| *is_changed && !granted.contains(part)) {
        Some((part, _)) => {
            let part = part.as_str();
            refuse(&format!("differs in its {part}, which is not granted; grant `modify = [\"{part}\"]` if it may"))
        }
        None => Ok(changed),
    }
}

/// What `sampling` of the WIT file covers; the rest travels in `extra`.
fn same_sampling(a: &ChatRequest, b: &ChatRequest) -> bool {
    let values = |request: &ChatRequest| {
        let Sampling { temperature, top_k, top_p, min_p, seed, .. } = request.sampling;
        (temperature, top_k, top_p, min_p, seed, request.max_tokens)
    };
    values(a) == values(b) && a.stop == b.stop
}

fn check_request(request: &ChatRequest, original: &ChatRequest) -> Result<(), Fault> {
    let refuse = |what: &str| Err(Fault::contract(format!("a replaced request {what}")));
    let Sampling { temperature, top_p, min_p, .. } = request.sampling;
    if request.messages.is_empty() {
        return refuse("has no messages");
    }
    if !(0.0..=2.0).contains(&temperature) || !(0.0..=1.0).contains(&top_p) || !(0.0..=1.0).contains(&min_p) {
        return refuse("has a temperature, top_p or min_p that is out of range");
    }
    if request.max_tokens == Some(0) {
        return refuse("asks for no tokens");
    }
    if request.tools.iter().any(|tool| !Tool::is_name(&tool.name) || !is_object(&tool.schema_json)) {
        return refuse("has a tool with a name that no function may have, or with a schema that is not a JSON object");
    }
    let names: HashSet<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    if names.len() < request.tools.len() {
        return refuse("has two tools of one name");
    }
    match &request.tool_choice {
        ToolChoice::Required if names.is_empty() => return refuse("asks for a call and has no tools"),
        ToolChoice::Named(name) if !names.contains(name.as_str()) => {
            return refuse("asks for a call of a function that is not among its tools");
        }
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Named(_) => {}
    }
    // The client's own stop texts passed the door; only more or other ones are judged.
    if request.stop == original.stop { Ok(()) } else { check_stop(&request.stop) }
}

fn is_object(json: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| value.is_object())
}

fn check_stop(stop: &[String]) -> Result<(), Fault> {
    if stop.len() > STOP_TEXTS_MAX || stop.iter().any(|text| text.is_empty() || text.len() > STOP_TEXT_BYTES_MAX) {
        return Err(Fault::contract(format!(
            "asks for stop texts that are empty, longer than {STOP_TEXT_BYTES_MAX} bytes or more than {STOP_TEXTS_MAX}"
        )));
    }
    Ok(())
}

fn check_marks(marks: &[String]) -> Result<(), Fault> {
    if marks.len() > MARKS_MAX || marks.iter().any(|mark| mark.is_empty() || mark.len() > MARK_BYTES_MAX) {
        return Err(Fault::contract(format!(
            "asks for marks that are empty, longer than {MARK_BYTES_MAX} bytes or more than {MARKS_MAX}"
        )));
    }
    Ok(())
}

fn operation(operation: Operation) -> types::Operation {
    match operation {
        Operation::Chat => types::Operation::Chat,
        Operation::Completion => types::Operation::Completion,
    }
}

/// What the client is told where a policy made more of a prompt than its text.
const NO_PLACE: &str = "it puts messages around the prompt, and a prompt that is completed as it stands has no place for them; \
                        send the text as a message to /v1/chat/completions";

/// Whether a policy left of a prompt what can be completed: one text.
pub(crate) fn check_raw(request: &ChatRequest, plugin: &str) -> Result<(), PipelineError> {
    if request.operation == Operation::Chat || request.raw_prompt().is_some() {
        return Ok(());
    }
    // No fault: clients choose the endpoint, and could have the plugin refused to all others.
    let (plugin, message) = (plugin.to_owned(), NO_PLACE.to_owned());
    Err(PipelineError::Invalid { plugin, stage: Stage::Policy, message })
}

/// The prompt of a request that no template renders: its text as it stands.
pub(crate) fn raw_prompt(request: &ChatRequest) -> Prompt {
    let segments = request.raw_prompt().map(Segment::Content).into_iter().collect();
    Prompt { segments, ..Prompt::default() }
}

pub(crate) fn messages(messages: &[Message]) -> Vec<types::Message> {
    messages
        .iter()
        .map(|message| types::Message {
            role: role(message.role),
            name: message.name.clone(),
            parts: message.parts.iter().map(part).collect(),
        })
        .collect()
}

fn message_back(message: types::Message) -> Result<Message, Fault> {
    Ok(Message {
        role: role_back(message.role),
        name: message.name,
        parts: message.parts.into_iter().map(part_back).collect::<Result<_, _>>()?,
    })
}

fn part(part: &Part) -> types::Part {
    match part {
        Part::Text(text) => types::Part::Text(text.clone()),
        Part::ToolCall(ToolCall { id, name, arguments_json }) => types::Part::ToolCall(types::ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments_json: arguments_json.clone(),
        }),
        Part::ToolResult(ToolResult { id, content, failed }) => {
            types::Part::ToolResult(types::ToolResult { id: id.clone(), content: content.clone(), failed: *failed })
        }
    }
}

fn part_back(part: types::Part) -> Result<Part, Fault> {
    match part {
        types::Part::Text(text) => Ok(Part::Text(text)),
        types::Part::ToolCall(types::ToolCall { id, name, arguments_json }) => {
            Ok(Part::ToolCall(ToolCall { id, name, arguments_json }))
        }
        types::Part::ToolResult(types::ToolResult { id, content, failed }) => {
            Ok(Part::ToolResult(ToolResult { id, content, failed }))
        }
        types::Part::Media(_) => Err(Fault::contract("a replaced request refers to media that it did not have")),
        types::Part::Other((kind, _)) => {
            Err(Fault::contract(format!("a replaced request has a part of the kind {kind:?}, which nobody can render")))
        }
    }
}

fn role(role: Role) -> types::Role {
    match role {
        Role::System => types::Role::System,
        Role::Developer => types::Role::Developer,
        Role::User => types::Role::User,
        Role::Assistant => types::Role::Assistant,
        Role::Tool => types::Role::Tool,
    }
}

fn role_back(role: types::Role) -> Role {
    match role {
        types::Role::System => Role::System,
        types::Role::Developer => Role::Developer,
        types::Role::User => Role::User,
        types::Role::Assistant => Role::Assistant,
        types::Role::Tool => Role::Tool,
    }
}

pub(crate) fn tools(tools: &[Tool]) -> Vec<types::Tool> {
    tools
        .iter()
        .map(|tool| types::Tool {
            name: tool.name.clone(),
            description: tool.description.clone(),
            schema_json: tool.schema_json.clone(),
            strict: tool.strict,
        })
        .collect()
}

/// What the request asks of the answer's calls. Where it forbids them, no tools are told of.
pub(crate) fn tool_choice(choice: &ToolChoice) -> prompt::ToolChoice {
    match choice {
        ToolChoice::Auto | ToolChoice::None => prompt::ToolChoice::Auto,
        ToolChoice::Required => prompt::ToolChoice::Required,
        ToolChoice::Named(name) => prompt::ToolChoice::Named(name.clone()),
    }
}

fn tool_back(tool: types::Tool) -> Tool {
    Tool { name: tool.name, description: tool.description, schema_json: tool.schema_json, strict: tool.strict }
}

fn sampling_back(new: &types::Sampling, original: &Sampling) -> Sampling {
    let default = Sampling::default();
    Sampling {
        temperature: new.temperature.unwrap_or(default.temperature),
        top_p: new.top_p.unwrap_or(default.top_p),
        top_k: new.top_k.unwrap_or(default.top_k),
        min_p: new.min_p.unwrap_or(default.min_p),
        seed: new.seed,
        ..original.clone()
    }
}

/// A rendered prompt, if it is one that can be run.
pub(crate) fn prompt(rendered: prompt::Rendered, vocabulary_size: u32) -> Result<Prompt, Fault> {
    check_stop(&rendered.stop)?;
    check_marks(&rendered.marks)?;
    let segments = rendered.segments.into_iter().map(|segment| match segment {
        prompt::Segment::Template(text) => Ok(Segment::Template(text)),
        prompt::Segment::Content(text) => Ok(Segment::Content(text)),
        prompt::Segment::Tokens(tokens) => match tokens.iter().find(|&&token| token >= vocabulary_size) {
            Some(token) => {
                Err(Fault::contract(format!("the prompt has token {token}, and the vocabulary {vocabulary_size}")))
            }
            None => Ok(Segment::Tokens(tokens.into_iter().map(Token).collect())),
        },
    });
    Ok(Prompt {
        segments: segments.collect::<Result<_, _>>()?,
        stop: rendered.stop,
        prefix: rendered.prefix,
        format: rendered.grammar.map(grammar_back),
        marks: rendered.marks,
    })
}

/// Not compiled here: a policy may still replace it, and what cannot be compiled is refused before the engine sees it.
fn grammar(format: &OutputFormat) -> types::Grammar {
    match format.clone() {
        OutputFormat::JsonObject => types::Grammar::JsonObject,
        OutputFormat::JsonSchema(text) => types::Grammar::JsonSchema(text),
        OutputFormat::Regex(text) => types::Grammar::Regex(text),
        OutputFormat::Lark(text) => types::Grammar::Lark(text),
        OutputFormat::Gbnf(text) => types::Grammar::Gbnf(text),
    }
}

fn grammar_back(grammar: types::Grammar) -> OutputFormat {
    match grammar {
        types::Grammar::JsonObject => OutputFormat::JsonObject,
        types::Grammar::JsonSchema(text) => OutputFormat::JsonSchema(text),
        types::Grammar::Regex(text) => OutputFormat::Regex(text),
        types::Grammar::Lark(text) => OutputFormat::Lark(text),
        types::Grammar::Gbnf(text) => OutputFormat::Gbnf(text),
    }
}

pub(crate) fn finish(finish: Finish) -> types::Finish {
    match finish {
        Finish::Stop => types::Finish::Stop,
        Finish::Length => types::Finish::Length,
        Finish::ToolCalls => types::Finish::ToolCalls,
        Finish::Filtered => types::Finish::Filtered,
        Finish::Cancelled => types::Finish::Cancelled,
        Finish::Failed => types::Finish::Failed,
    }
}

/// How a filter ends an answer. That a client left, the host failed or the model called a tool is not a filter's to say.
pub(crate) fn finish_back(finish: types::Finish) -> Finish {
    match finish {
        types::Finish::Stop | types::Finish::ToolCalls => Finish::Stop,
        types::Finish::Length => Finish::Length,
        types::Finish::Filtered | types::Finish::Cancelled | types::Finish::Failed => Finish::Filtered,
    }
}

pub(crate) fn usage(usage: Usage) -> types::Usage {
    types::Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cached_tokens: usage.cached_tokens,
    }
}
