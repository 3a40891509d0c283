//! A conversation as templates see it: the variables of Hugging Face's `apply_chat_template`.

use std::cell::LazyCell;

use outrigger_plugin::types::{Error, Message, Part, Role, Tool, ToolCall, ToolResult};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::guard::Guard;
use crate::jinja;
use crate::render::ModelFacts;

/// What is to be rendered.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Which calls the answer may hold.
    pub tool_choice: Choice,
    /// Whether it may hold no more than one.
    pub single_call: bool,
    /// Whether the prompt ends where the model is to answer.
    pub add_generation_prompt: bool,
    /// The request's `chat_template_kwargs`, a JSON object.
    pub arguments_json: String,
    /// Now, for `strftime_now`.
    pub unix_seconds: u64,
}

/// Which calls an answer may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// One, of this function.
    Named(String),
}

/// How the arguments of tool calls are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// As the object that their JSON says.
    Object,
    /// As JSON text.
    Text,
}

/// Variables that the house sets; a request must not say otherwise, nor hide the functions of templates.
const RESERVED: [&str; 6] = ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

/// The first of these variables that must not be set, and why.
pub(crate) fn reserved<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<(&'a str, &'static str)> {
    let functions = LazyCell::new(jinja::functions);
    names.find_map(|name| {
        let name = name.as_str();
        if RESERVED.contains(&name) {
            Some((name, "it is set from the request itself"))
        } else if functions.iter().any(|function| function == name) {
            Some((name, "templates call the function of that name"))
        } else {
            None
        }
    })
}

impl Conversation {
    pub(crate) fn has_tool_calls(&self) -> bool {
        self.calls().next().is_some()
    }

    fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// Whether there are calls or results of calls.
    pub(crate) fn has_tool_parts(&self) -> bool {
        let is_result = |part: &Part| matches!(part, Part::ToolResult(_));
        self.has_tool_calls() || self.messages.iter().flat_map(|message| &message.parts).any(is_result)
    }

    /// A call whose arguments are no JSON object, which most templates take for granted.
    pub(crate) fn call_without_object(&self) -> Option<&ToolCall> {
        self.calls().find(|call| !matches!(arguments(call, Arguments::Object), Value::Object(_)))
    }

    /// Gives every call an id of nine letters and digits, as Mistral's templates demand: a call and its result the same one.
    pub(crate) fn shorten_ids(&mut self) {
        for part in self.messages.iter_mut().flat_map(|message| &mut message.parts) {
            match part {
                Part::ToolCall(ToolCall { id, .. }) | Part::ToolResult(ToolResult { id, .. }) => *id = short_id(id),
                _ => {}
            }
        }
    }

    /// Every variable that the template sees.
    pub(crate) fn variables(
        &self,
        config: &Config,
        facts: &ModelFacts,
        arguments: Arguments,
        guard: &Guard<'_>,
    ) -> Result<Map<String, Value>, Error> {
        let mut messages = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            self.show(message, arguments, &mut messages)?;
        }
        let tools = self.tools.iter().map(show_tool).collect::<Result<Vec<Value>, Error>>()?;

        let mut client = json!({
            "messages": messages,
            "tools": if tools.is_empty() { Value::Null } else { Value::Array(tools) },
            "kwargs": self.template_arguments()?,
        });
        guard.protect(&mut client)?;

        let mut variables = config.kwargs.clone();
        if let Value::Object(kwargs) = client["kwargs"].take() {
            variables.extend(kwargs);
        }
        variables.insert("messages".to_owned(), client["messages"].take());
        variables.insert("tools".to_owned(), client["tools"].take());
        variables.insert("documents".to_owned(), Value::Null);
        variables.insert("add_generation_prompt".to_owned(), self.add_generation_prompt.into());
        // A token that the model lacks is undefined, as it is for Hugging Face.
        for (name, text) in [("bos_token", &facts.bos_text), ("eos_token", &facts.eos_text)] {
            if !text.is_empty() {
                variables.insert(name.to_owned(), text.as_str().into());
            }
        }
        Ok(variables)
    }

    /// The same without `chat_template_kwargs`; `None` where it has none.
    pub(crate) fn without_template_arguments(&self) -> Option<Self> {
        let has_some = !matches!(self.arguments_json.trim(), "" | "{}");
        has_some.then(|| Self { arguments_json: String::new(), ..self.clone() })
    }

    fn template_arguments(&self) -> Result<Map<String, Value>, Error> {
        if self.arguments_json.trim().is_empty() {
            return Ok(Map::new());
        }
        let arguments: Map<String, Value> = serde_json::from_str(&self.arguments_json)
            .map_err(|error| Error::Invalid(format!("`chat_template_kwargs` must be a JSON object: {error}")))?;
        match reserved(arguments.keys()) {
            Some((name, reason)) => {
                Err(Error::Invalid(format!("`chat_template_kwargs` must not set `{name}`: {reason}")))
            }
            None => Ok(arguments),
        }
    }

    /// Appends `message` in Hugging Face's form: one entry, and one more for each tool result.
    fn show(&self, message: &Message, arguments: Arguments, shown: &mut Vec<Value>) -> Result<(), Error> {
        let mut texts: Vec<&str> = Vec::new();
        let mut calls = Vec::new();
        let mut results = Vec::new();
        for part in &message.parts {
            match part {
                Part::Text(text) => texts.push(text),
                Part::ToolCall(call) => calls.push(show_call(call, arguments)),
                Part::ToolResult(result) => results.push(result),
                Part::Media(media) => return Err(unsupported(&format!("media of type {}", media.mime))),
                Part::Other((kind, _)) => return Err(unsupported(&format!("a part of type {kind}"))),
            }
        }
        if !texts.is_empty() || !calls.is_empty() || results.is_empty() {
            let mut entry = Map::new();
            entry.insert("role".to_owned(), role(message.role).into());
            if let Some(name) = &message.name {
                entry.insert("name".to_owned(), name.as_str().into());
            }
            entry.insert("content".to_owned(), texts.join("\n").into());
            if !calls.is_empty() {
                entry.insert("tool_calls".to_owned(), Value::Array(calls));
            }
            shown.push(Value::Object(entry));
        }
        for result in results {
            let mut entry = Map::new();
            entry.insert("role".to_owned(), role(Role::Tool).into());
            if let Some(name) = message.name.as_deref().or_else(|| self.called(&result.id)) {
                entry.insert("name".to_owned(), name.into());
            }
            entry.insert("content".to_owned(), result.content.as_str().into());
            entry.insert("tool_call_id".to_owned(), result.id.as_str().into());
            shown.push(Value::Object(entry));
        }
        Ok(())
    }

    /// The function that the call `id` named.
    fn called(&self, id: &str) -> Option<&str> {
        self.calls().find(|call| call.id == id).map(|call| call.name.as_str())
    }
}

fn short_id(id: &str) -> String {
    const LENGTH: usize = 9;
    if id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a: what is mixed up is seen by the model alone, and only within one conversation.
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut digits = format!("{:0width$x}", hash >> 28, width = LENGTH);
    digits.truncate(LENGTH);
    digits
}

fn show_call(call: &ToolCall, as_what: Arguments) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments(call, as_what) },
    })
}

fn arguments(call: &ToolCall, as_what: Arguments) -> Value {
    let text = || Value::from(call.arguments_json.as_str());
    match as_what {
        Arguments::Text => text(),
        // What a function is called with that takes nothing.
        Arguments::Object if call.arguments_json.trim().is_empty() => Value::Object(Map::new()),
        // What the model wrote back then need not be JSON.
        Arguments::Object => serde_json::from_str(&call.arguments_json).unwrap_or_else(|_| text()),
    }
}

pub(crate) fn show_tool(tool: &Tool) -> Result<Value, Error> {
    let schema: Value = serde_json::from_str(&tool.schema_json)
        .map_err(|error| Error::Invalid(format!("the parameters of tool `{}` are not JSON: {error}", tool.name)))?;
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    function.insert("parameters".to_owned(), schema);
    Ok(json!({ "type": "function", "function": function }))
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn unsupported(what: &str) -> Error {
    Error::Invalid(format!("a message holds {what}, and this model's prompts are text only; send text"))
}
