//! From a conversation to a prompt.

use minijinja::{ErrorKind, Value};
use outrigger_plugin::model::Span;
use outrigger_plugin::types::Error;
use serde_json::Value as Json;

use crate::config::{Config, Fallback};
use crate::conversation::{Arguments, Conversation};
use crate::guard::{Guard, Segment, split};
use crate::jinja::{self, Raised};
use crate::limits::MESSAGE_BYTES_MAX;

/// What is known of the model.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Its name, for messages.
    pub id: String,
    /// Its own chat template.
    pub template: Option<String>,
    /// What templates call `bos_token`; empty where there is none.
    pub bos_text: String,
    /// What templates call `eos_token`; empty where there is none.
    pub eos_text: String,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Its text, each part with where it came from.
    pub segments: Vec<Segment>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// What the answer already starts with.
    pub prefix: String,
    /// Which template wrote it.
    pub template: Template,
}

/// Where a template came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// The model file.
    Model,
    /// The plugin's configuration.
    Config,
    /// This plugin, because there was none.
    Fallback,
}

/// The form in which most models without a template of their own were trained, or at least tuned.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model without a template need not know this as a control token, so it ends the answer as text too.
const CHATML_STOP: &str = "<|im_end|>";

/// How a prompt ends that has the model think first.
const THINK: &str = "<think>";

/// Renders `conversation`. `control_tokens` says where a text spells the model's control tokens.
pub fn render(
    config: &Config,
    facts: &ModelFacts,
    conversation: &Conversation,
    control_tokens: &dyn Fn(&str) -> Vec<Span>,
) -> Result<Rendered, Error> {
    let (source, template) = choose(config, facts)?;
    let guard = Guard::new(control_tokens);
    let text = render_either_way(source, config, facts, conversation, &guard)?;
    let stop = if template == Template::Fallback { vec![CHATML_STOP.to_owned()] } else { Vec::new() };
    let prefix = if conversation.add_generation_prompt { prefix(&text) } else { String::new() };
    Ok(Rendered { segments: split(text), stop, prefix, template })
}

fn choose<'a>(config: &'a Config, facts: &'a ModelFacts) -> Result<(&'a str, Template), Error> {
    if let Some(template) = &config.template {
        return Ok((template, Template::Config));
    }
    match (&facts.template, config.fallback) {
        (Some(template), _) => Ok((template, Template::Model)),
        (None, Fallback::Chatml) => Ok((CHATML, Template::Fallback)),
        (None, Fallback::Refuse) => Err(Error::Invalid(format!(
            "model `{}` has no chat template, so it cannot chat; use a model that was tuned for chat",
            facts.id
        ))),
    }
}

/// Templates disagree on what the arguments of a tool call are: most take an object, as Hugging Face documents, some
/// append the text that `OpenAI` clients send. A template of the second kind fails on an object, so it is tried with
/// text then.
fn render_either_way(
    source: &str,
    config: &Config,
    facts: &ModelFacts,
    conversation: &Conversation,
    guard: &Guard<'_>,
) -> Result<String, Error> {
    let attempt = |arguments| {
        let variables = conversation.variables(config, facts, arguments, guard)?;
        jinja::render(source, conversation.unix_seconds, as_jinja(Json::Object(variables))).map_err(Failure::Render)
    };
    let first = match attempt(Arguments::Object) {
        Ok(text) => return Ok(text),
        Err(Failure::Given(error)) => return Err(error),
        Err(Failure::Render(error)) => error,
    };
    if conversation.has_tool_calls()
        && first.kind() != ErrorKind::OutOfFuel
        && Raised::in_error(&first).is_none()
        && let Ok(text) = attempt(Arguments::Text)
    {
        return Ok(text);
    }
    Err(explain(&first))
}

/// JSON as the engine's values; members keep their order.
fn as_jinja(json: Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => truth.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(as_jinja).collect(),
        Json::Object(members) => Value::from_pairs(members.into_iter().map(|(name, member)| (name, as_jinja(member)))),
    }
}

enum Failure {
    /// The conversation cannot be shown to a template at all.
    Given(Error),
    /// The template failed.
    Render(minijinja::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Given(error)
    }
}

/// What a template says with `raise_exception` is for the client; every other failure is the template's own.
fn explain(error: &minijinja::Error) -> Error {
    if let Some(raised) = Raised::in_error(error) {
        let mut message = raised.0.clone();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        return Error::Invalid(message);
    }
    let mut message = format!("the chat template failed: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    Error::Internal(message)
}

/// The part of the answer that the prompt already holds: an opened `<think>`, so that the parser knows.
fn prefix(text: &str) -> String {
    let open = text.trim_end();
    if open.ends_with(THINK) { text[open.len() - THINK.len()..].to_owned() } else { String::new() }
}
