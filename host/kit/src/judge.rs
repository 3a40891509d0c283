//! What was expected beside what happened.

use inference::{ChatRequest, Message, OutputFormat, Part, PipelineError, Prompt, Segment, Steer, Vocabulary};
use plugin::FaultStatus;
use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use crate::answer::{described, finish_name};
use crate::case::{AtMost, Expect, Rejected};
use crate::drive::Run;
use crate::limits::DIFF_LINES_MAX;
use crate::steps::{self, ExpectedStep};

/// Everything about a run that is not as expected, each in a few lines for people.
pub(crate) fn objections(expect: &Expect, run: &Run, vocabulary: &dyn Vocabulary) -> Vec<String> {
    let mut found = Vec::new();
    judge_error(expect, run, &mut found);
    if let Some(expected) = &expect.steps {
        judge_steps(expected, run, vocabulary, &mut found);
    }
    let request = run.prepared.as_ref().map(|(request, _)| request);
    let prompt = run.prepared.as_ref().map(|(_, prompt)| prompt);
    if let (Some(expected), Some(request)) = (&expect.request, request) {
        judge_request(expected, request, &mut found);
    }
    let mut differs = |what: &str, expected: Option<&str>, got: &str| {
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            found.push(difference(what, expected, got));
        }
    };
    if let Some(prompt) = prompt {
        differs("prompt", expect.prompt.as_deref(), &text_of(prompt));
        let expected = expect.segments.as_ref().map(|segments| {
            segments.iter().flatten().map(|(kind, text)| format!("{kind} {text:?}\n")).collect::<String>()
        });
        differs("segments", expected.as_deref(), &segments_of(prompt));
    }
    if run.sent.error.is_none() {
        differs("output", expect.output.as_deref(), &run.sent.content);
        differs("reasoning", expect.reasoning.as_deref(), &run.sent.reasoning);
        differs("finish", expect.finish.as_deref(), finish_name(run.sent.finish()));
        let expected = expect.tool_calls.as_ref().map(|calls| {
            calls.iter().map(|call| format!("{}({})\n", call.name, json!(call.arguments))).collect::<String>()
        });
        let got: String =
            run.sent.calls.iter().map(|call| format!("{}({})\n", call.name, normal(&call.arguments))).collect();
        differs("tool_calls", expected.as_deref(), &got);
    }
    for (name, value) in expect.notes.iter().flatten() {
        let there: Vec<_> =
            run.sent.notes.iter().filter(|(noted, _)| noted == name).map(|(_, it)| it.as_str()).collect();
        if !there.contains(&value.as_str()) {
            let all: Vec<_> = run.sent.notes.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
            let all = if all.is_empty() { "there is none".to_owned() } else { format!("there is {}", all.join(", ")) };
            found.push(format!("the note {name} = {value:?} is missing; {all}"));
        }
    }
    judge_use(expect.at_most, run, &mut found);
    found
}

fn judge_error(expect: &Expect, run: &Run, found: &mut Vec<String>) {
    let error = run.sent.error.as_ref();
    let late = run.late_fault.as_ref();
    let late_text = late.map(|FaultStatus { stage, kind, detail, .. }| {
        format!("the answer went through, and behind it the plugin failed in its {stage} stage ({kind}): {detail}")
    });
    let got = error.map(described).or(late_text.clone()).unwrap_or_else(|| "it went through".to_owned());
    match (&expect.rejected, error) {
        (Some(expected), Some(PipelineError::Rejected { status, code, message, .. })) => {
            judge_rejection(expected, *status, code, message, found);
            return;
        }
        (Some(_), _) => {
            found.push(format!("the request was to be rejected, and was not: {got}"));
            return;
        }
        (None, _) => {}
    }
    match (&expect.invalid, error) {
        (Some(text), Some(PipelineError::Invalid { message, .. })) if message.contains(text.as_str()) => return,
        (Some(text), _) => {
            found.push(format!("the request was to be called invalid with {text:?}, and was not: {got}"));
            return;
        }
        (None, _) => {}
    }
    match (&expect.fault, error) {
        (Some(expected), Some(PipelineError::Fault { kind, .. })) if kind.as_str() == expected => {}
        (Some(expected), None) if late.is_some_and(|fault| fault.kind == expected) => {}
        (Some(expected), _) => {
            found.push(format!("a fault of the kind `{expected}` was expected, and there was none: {got}"));
        }
        (None, Some(error)) => found.push(described(error)),
        // The audit's faults reach nobody but the log.
        (None, None) => found.extend(late_text),
    }
}

/// Steps that say the same, one behind the other, stand there once.
fn judge_steps(expected: &[ExpectedStep], run: &Run, vocabulary: &dyn Vocabulary, found: &mut Vec<String>) {
    let Some(steps) = &run.steps else {
        if run.sent.error.is_none() {
            found.push(
                "steps are expected, and no plugin controls the tokens: is `token-control` one of its stages?"
                    .to_owned(),
            );
        }
        return;
    };
    let shown = |steer: &Steer| steps::line(steer, vocabulary, usize::MAX) + "\n";
    let got: String = steps.iter().map(shown).collect();
    let wanted = expected.iter().enumerate().map(|(place, expected)| match steps.get(place) {
        Some(step) if expected.is(step) => shown(step),
        _ => shown(&expected.steer()),
    });
    let wanted: String = wanted.collect();
    if wanted != got {
        found.push(difference("steps", &wanted, &got));
    }
}

fn judge_rejection(expected: &Rejected, status: u16, code: &str, message: &str, found: &mut Vec<String>) {
    if expected.status.is_some_and(|expected| expected != status) {
        found.push(difference(
            "rejected.status",
            &expected.status.unwrap_or_default().to_string(),
            &status.to_string(),
        ));
    }
    for (what, expected, got) in [("code", &expected.code, code), ("message", &expected.message, message)] {
        if let Some(expected) = expected.as_ref().filter(|expected| *expected != got) {
            found.push(difference(&format!("rejected.{what}"), expected, got));
        }
    }
}

fn judge_request(expected: &toml::Table, request: &ChatRequest, found: &mut Vec<String>) {
    let got = request_json(request);
    for (name, expected) in expected {
        let expected = json!(expected);
        let got = got.get(name).cloned().unwrap_or(Value::Null);
        if !is_within(&expected, &got) {
            let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
            found.push(difference(&format!("request.{name}"), &pretty(&expected), &pretty(&got)));
        }
    }
}

/// Whether everything that was expected is there: members of an object may be more, elements of a list not.
fn is_within(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            expected.iter().all(|(name, value)| got.get(name).is_some_and(|got| is_within(value, got)))
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| is_within(expected, got))
        }
        (Value::Number(expected), Value::Number(got)) => expected.as_f64() == got.as_f64(),
        (expected, got) => expected == got,
    }
}

/// The request in `OpenAI`'s form, as far as plugins can change it. What the contract has no field for is there where it is not as
/// usual.
#[must_use]
pub(crate) fn request_json(request: &ChatRequest) -> Value {
    let sampling = &request.sampling;
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("model", json!(request.model));
    put("messages", request.messages.iter().map(message_json).collect());
    let tool = |tool: &inference::Tool| {
        let schema: Value = serde_json::from_str(&tool.schema_json).unwrap_or_default();
        let function =
            json!({"name": tool.name, "description": tool.description, "parameters": schema, "strict": tool.strict});
        json!({"type": "function", "function": function})
    };
    put("tools", request.tools.iter().map(tool).collect());
    put("max_tokens", json!(request.max_tokens));
    put("temperature", decimal(sampling.temperature));
    put("top_p", decimal(sampling.top_p));
    put("top_k", json!(sampling.top_k));
    put("min_p", decimal(sampling.min_p));
    put("seed", json!(sampling.seed));
    put("stop", json!(request.stop));
    put("stream", json!(request.streaming));
    let arguments: Value = serde_json::from_str(&request.template_arguments).unwrap_or_default();
    put("chat_template_kwargs", arguments);
    let format = request.format.as_ref().map(|format| match format {
        OutputFormat::JsonObject => json!({"type": "json_object"}),
        OutputFormat::JsonSchema(schema) => {
            let schema: Value = serde_json::from_str(schema).unwrap_or_default();
            json!({"type": "json_schema", "json_schema": {"schema": schema}})
        }
        other => json!({"type": other.kind(), "text": other.text()}),
    });
    put("response_format", json!(format));
    for (name, json) in plugin::extra_members(request) {
        body.entry(name).or_insert_with(|| serde_json::from_str(&json).unwrap_or_default());
    }
    Value::Object(body)
}

/// A number as it was written: 0.8, which has more digits in 64 bits.
fn decimal(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().unwrap_or_default())
}

fn message_json(message: &Message) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    let mut of_call = None;
    for part in &message.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::ToolCall(call) => {
                let function = json!({"name": call.name, "arguments": call.arguments_json});
                calls.push(json!({"id": call.id, "type": "function", "function": function}));
            }
            Part::ToolResult(result) => {
                text.push_str(&result.content);
                of_call = Some(&result.id);
            }
        }
    }
    let mut body = json!({"role": message.role.as_str(), "content": text});
    let mut put = |name: &str, value: Value| body[name] = value;
    if let Some(name) = &message.name {
        put("name", json!(name));
    }
    if let Some(id) = of_call {
        put("tool_call_id", json!(id));
    }
    if !calls.is_empty() {
        put("tool_calls", json!(calls));
    }
    body
}

fn judge_use(at_most: AtMost, run: &Run, found: &mut Vec<String>) {
    let Some(used) = &run.used else { return };
    let figures = [
        ("instructions", at_most.instructions, used.instructions.unwrap_or(0)),
        ("memory_bytes", at_most.memory_bytes, used.memory_bytes as u64),
        ("held_bytes", at_most.held_bytes, used.held_bytes as u64),
    ];
    for (name, limit, got) in figures {
        if let Some(limit) = limit.filter(|limit| got > *limit) {
            found.push(format!("{name} is {got}, and {limit} is the most that the case allows"));
        }
    }
}

/// A prompt as one text; tokens as their numbers.
#[must_use]
pub(crate) fn text_of(prompt: &Prompt) -> String {
    prompt.segments.iter().map(|segment| segment_text(segment).1).collect()
}

fn segments_of(prompt: &Prompt) -> String {
    segment_lines(prompt).map(|line| line + "\n").collect()
}

/// A prompt's segments, a line for each.
pub(crate) fn segment_lines(prompt: &Prompt) -> impl Iterator<Item = String> {
    prompt.segments.iter().map(|segment| {
        let (kind, text) = segment_text(segment);
        format!("{kind} {text:?}")
    })
}

fn segment_text(segment: &Segment) -> (&'static str, String) {
    match segment {
        Segment::Template(text) => ("template", text.clone()),
        Segment::Content(text) => ("content", text.clone()),
        Segment::Tokens(tokens) => ("tokens", tokens.iter().map(|token| format!("[{}]", token.0)).collect()),
    }
}

/// JSON text without the spaces that do not count; as it is where it is none.
fn normal(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}

/// Two texts, and where they differ.
pub(crate) fn difference(what: &str, expected: &str, got: &str) -> String {
    let is_line = |text: &str| !text.trim_end_matches('\n').contains('\n');
    if is_line(expected) && is_line(got) {
        return format!("{what} differs\n  expected {expected:?}\n  got      {got:?}");
    }
    let diff = TextDiff::from_lines(expected, got);
    let mut text = format!("{what} differs (- expected, + got)");
    for (number, change) in diff.iter_all_changes().enumerate() {
        if number == DIFF_LINES_MAX {
            text.push_str("\n  …");
            break;
        }
        let sign = match change.tag() {
            ChangeTag::Delete => "-",
            ChangeTag::Insert => "+",
            ChangeTag::Equal => " ",
        };
        text.extend(["\n  ", sign, " "]);
        text.extend(change.value().trim_end_matches('\n').escape_debug());
    }
    text
}

#[cfg(test)]
mod tests {
    use inference::{Token, ToolChoice};

    use super::*;

    #[test]
    fn what_policies_see_as_extra_can_be_expected() {
        let mut request = crate::case::request_of("Hi").expect("a request");
        request.tool_choice = ToolChoice::Required;
        request.parallel_tool_calls = false;
        request.sampling.presence_penalty = 1.5;
        request.sampling.logit_bias = vec![(Token(3), -100.0)];
        request.stop_tokens = vec![Token(9)];
        request.logprobs = Some(2);
        let check = |expected: &str, is_met: bool| {
            let mut found = Vec::new();
            judge_request(&expected.parse().expect("TOML"), &request, &mut found);
            assert_eq!(found.is_empty(), is_met, "{expected}: {found:?}");
        };
        for (expected, other) in [
            ("tool_choice = 'required'", "tool_choice = 'none'"),
            ("parallel_tool_calls = false", "parallel_tool_calls = true"),
            ("presence_penalty = 1.5", "presence_penalty = 0.5"),
            ("logit_bias = { 3 = -100 }", "logit_bias = { 3 = 100 }"),
            ("stop_token_ids = [9]", "stop_token_ids = []"),
            ("top_logprobs = 2", "top_logprobs = 3"),
        ] {
            check(expected, true);
            check(other, false);
        }
    }
}
