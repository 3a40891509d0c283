//! From a conversation to a prompt.

use minijinja::{ErrorKind, Value};
use outrigger_plugin::model::Span;
use outrigger_plugin::types::Error;
use serde_json::Value as Json;

use crate::config::{Config, Fallback, ToolPrompt};
use crate::conversation::{Arguments, Conversation};
use crate::format::Format;
use crate::generic::{Missing, Place, rewrite};
use crate::grammar;
use crate::guard::{Guard, Segment, cut};
use crate::jinja::{self, Raised};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::parse::Reading;

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
    /// Control tokens that the answer has to show.
    pub marks: Vec<String>,
    /// What the answer has to match, in Lark.
    pub grammar: Option<String>,
    /// How the answer is to be read.
    pub reading: Reading,
}

/// What is asked about the model's tokens.
pub struct Vocabulary<'a> {
    /// Where a text spells control tokens.
    pub control_tokens: &'a dyn Fn(&str) -> Vec<Span>,
    /// The number of the control token that is spelled so.
    pub token: &'a dyn Fn(&str) -> Option<u32>,
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

/// Renders `conversation`. `control_tokens` says where a text spells the model's control tokens.
pub fn render(
    config: &Config,
    facts: &ModelFacts,
    conversation: &Conversation,
    vocabulary: &Vocabulary<'_>,
) -> Result<Rendered, Error> {
    let (source, template) = choose(config, facts)?;
    let reading = Reading::new(config, source);
    let told = |conversation: &Conversation| told(config, source, facts, conversation, &reading, vocabulary);
    let segments = told(conversation).map_err(|error| match (error, conversation.without_template_arguments()) {
        // Whose fault it is shows without them.
        (Error::Internal(message), Some(without)) if told(&without).is_ok() => {
            let mut message = format!("the chat template fails with these `chat_template_kwargs`: {message}");
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            Error::Invalid(message)
        }
        (error, _) => error,
    })?;
    let stop = if template == Template::Fallback { vec![CHATML_STOP.to_owned()] } else { Vec::new() };
    let prefix = if conversation.add_generation_prompt { prefix(&segments, &reading) } else { String::new() };
    let grammar = grammar::of(conversation, &reading, source, &prefix, vocabulary.token)?;
    let marks = reading.marks(!conversation.tools.is_empty());
    Ok(Rendered { segments, stop, prefix, template, marks, grammar, reading })
}

/// Tells the model of the functions too, one way or the other.
fn told(
    config: &Config,
    source: &str,
    facts: &ModelFacts,
    conversation: &Conversation,
    reading: &Reading,
    vocabulary: &Vocabulary<'_>,
) -> Result<Vec<Segment>, Error> {
    let attempt =
        |conversation: &Conversation| segments(source, config, facts, conversation, vocabulary.control_tokens);
    let mut missing = match config.tools {
        ToolPrompt::Auto | ToolPrompt::Template => Missing::of(source),
        ToolPrompt::Generic => Missing { tools: true, calls: true },
    };
    missing.tools &= !conversation.tools.is_empty();
    missing.calls &= conversation.has_tool_parts();
    if missing.tools && config.tools == ToolPrompt::Template {
        return Err(Error::Invalid(format!(
            "the chat template of model `{}` knows of no tools; leave `tools` out, or have the operator set the plugin's \
             `tools` to \"auto\"",
            facts.id
        )));
    }
    if !missing.tools && !missing.calls {
        return if matches!(reading.calls, Some(Format::Mistral | Format::MistralArgs)) && conversation.has_tool_parts()
        {
            let mut conversation = conversation.clone();
            conversation.shorten_ids();
            attempt(&conversation)
        } else {
            attempt(conversation)
        };
    }
    let format = reading.calls.unwrap_or(Format::Json);
    match attempt(&rewrite(conversation, missing, format, Place::System)?) {
        // Some templates know no system message.
        Err(Error::Invalid(_)) if missing.tools => attempt(&rewrite(conversation, missing, format, Place::User)?),
        result => result,
    }
}

fn segments(
    source: &str,
    config: &Config,
    facts: &ModelFacts,
    conversation: &Conversation,
    control_tokens: &dyn Fn(&str) -> Vec<Span>,
) -> Result<Vec<Segment>, Error> {
    let guard = Guard::new(control_tokens);
    let mut segments = cut(render_either_way(source, config, facts, conversation, &guard)?);
    if let Some(stricter) = guard.stricter(&segments) {
        let strict = cut(render_either_way(source, config, facts, conversation, &stricter)?);
        if guard.tokens(&segments) != guard.tokens(&strict) {
            segments = strict;
        }
    }
    Ok(segments)
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
    match conversation.call_without_object() {
        Some(call) if Raised::in_error(&first).is_none() => Err(Error::Invalid(format!(
            "the arguments of the call `{}` are not a JSON object, and this model's chat template needs one; send an object, \
             or leave the call and its result out",
            call.id
        ))),
        _ => Err(explain(&first)),
    }
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

/// The part of the answer that the prompt already holds: a mark that opens thoughts, so that the parser knows.
fn prefix(segments: &[Segment], reading: &Reading) -> String {
    let Some(Segment::Template(text)) = segments.last() else { return String::new() };
    let said = text.trim_end();
    let open = reading.thoughts.iter().find(|pair| said.ends_with(&pair.open));
    open.map(|pair| text[said.len() - pair.open.len()..].to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
