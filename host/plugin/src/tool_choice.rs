//! `tool_choice` as a request's body says it: how a policy sees it in `request.extra`.

use inference::ToolChoice;
use serde_json::{Value, json};

pub(crate) fn json(choice: &ToolChoice) -> String {
    let word = match choice {
        ToolChoice::Auto => "auto",
        ToolChoice::None => "none",
        ToolChoice::Required => "required",
        ToolChoice::Named(name) => {
            return json!({"type": "function", "function": {"name": name}}).to_string();
        }
    };
    Value::from(word).to_string()
}

pub(crate) fn parse(text: &str) -> Option<ToolChoice> {
    match serde_json::from_str(text).ok()? {
        Value::String(word) => match word.as_str() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            "required" => Some(ToolChoice::Required),
            _ => None,
        },
        value => match (&value["type"], &value["function"]["name"]) {
            (Value::String(kind), Value::String(name)) if kind == "function" => Some(ToolChoice::Named(name.clone())),
            _ => None,
        },
    }
}
