//! A conversation as templates see it: the variables of Hugging Face's `apply_chat_template`.

use outrigger_plugin::types::{Error, Message, Part, Role, Tool, ToolCall};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::guard::Guard;
use crate::render::ModelFacts;

/// What is to be rendered.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether the prompt ends where the model is to answer.
    pub add_generation_prompt: bool,
    /// The request's `chat_template_kwargs`, a JSON object.
    pub arguments_json: String,
    /// Now, for `strftime_now`.
    pub unix_seconds: u64,
}

/// How the arguments of tool calls are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// As the object that their JSON says.
    Object,
    /// As JSON text.
    Text,
}

/// Variables that the house sets; a request must not say otherwise.
const RESERVED: [&str; 6] = ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];

impl Conversation {
    pub(crate) fn has_tool_calls(&self) -> bool {
        self.messages.iter().flat_map(|message| &message.parts).any(|part| matches!(part, Part::ToolCall(_)))
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

    fn template_arguments(&self) -> Result<Map<String, Value>, Error> {
        if self.arguments_json.trim().is_empty() {
            return Ok(Map::new());
        }
        let arguments: Map<String, Value> = serde_json::from_str(&self.arguments_json)
            .map_err(|error| Error::Invalid(format!("`chat_template_kwargs` must be a JSON object: {error}")))?;
        match arguments.keys().find(|name| RESERVED.contains(&name.as_str())) {
            Some(name) => Err(Error::Invalid(format!(
                "`chat_template_kwargs` must not set `{name}`: it is set from the request itself"
            ))),
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
        self.messages.iter().flat_map(|message| &message.parts).find_map(|part| match part {
            Part::ToolCall(call) if call.id == id => Some(call.name.as_str()),
            _ => None,
        })
    }
}

fn show_call(call: &ToolCall, arguments: Arguments) -> Value {
    let text = || Value::from(call.arguments_json.as_str());
    let arguments = match arguments {
        Arguments::Text => text(),
        // What the model wrote back then need not be JSON.
        Arguments::Object => serde_json::from_str(&call.arguments_json).unwrap_or_else(|_| text()),
    };
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

fn show_tool(tool: &Tool) -> Result<Value, Error> {
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
