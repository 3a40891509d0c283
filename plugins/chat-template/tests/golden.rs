//! The fixtures of `tests/golden`: what this crate renders is, byte for byte, what jinja2 renders in Hugging Face's
//! settings.

use std::path::{Path, PathBuf};
use std::{env, fs};

use chat_template::{Config, Conversation, ModelFacts, Segment, Vocabulary, render};
use outrigger_plugin::types::{Error, Message, Part, Role, Tool, ToolCall, ToolResult};
use serde_json::Value;

/// `NOW` of `tests/golden/generate.py`.
const NOW: u64 = 1_707_231_845;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A message in Hugging Face's form as the host would send it.
fn message(hf: &Value) -> Message {
    let role = match hf["role"].as_str() {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        other => panic!("role {other:?}"),
    };
    let mut parts = Vec::new();
    if role == Role::Tool {
        parts.push(Part::ToolResult(ToolResult {
            id: text(&hf["tool_call_id"]),
            content: text(&hf["content"]),
            failed: false,
        }));
    } else {
        parts.push(Part::Text(text(&hf["content"])));
    }
    for call in hf["tool_calls"].as_array().into_iter().flatten() {
        parts.push(Part::ToolCall(ToolCall {
            id: text(&call["id"]),
            name: text(&call["function"]["name"]),
            arguments_json: call["function"]["arguments"].to_string(),
        }));
    }
    Message { role, name: hf["name"].as_str().map(str::to_owned), parts }
}

fn conversation(hf: &Value) -> Conversation {
    let tools = hf["tools"].as_array().into_iter().flatten().map(|tool| Tool {
        name: text(&tool["function"]["name"]),
        description: tool["function"]["description"].as_str().map(str::to_owned),
        schema_json: tool["function"]["parameters"].to_string(),
        strict: false,
    });
    Conversation {
        messages: hf["messages"].as_array().unwrap().iter().map(message).collect(),
        tools: tools.collect(),
        add_generation_prompt: hf["add_generation_prompt"].as_bool().unwrap_or(true),
        arguments_json: hf.get("kwargs").map(Value::to_string).unwrap_or_default(),
        unix_seconds: NOW,
        ..Conversation::default()
    }
}

#[test]
fn renderings_are_those_of_jinja2() {
    let folder = golden();
    let styles: Value = serde_json::from_str(&read(&folder.join("styles.json"))).unwrap();
    let mut count = 0;
    let mut wrong = Vec::new();
    for (name, style) in styles.as_object().unwrap() {
        let facts = ModelFacts {
            id: name.clone(),
            template: Some(read(&folder.join(format!("templates/{name}.jinja")))),
            bos_text: text(&style["bos"]),
            eos_text: text(&style["eos"]),
        };
        for which in style["conversations"].as_array().unwrap() {
            let which = which.as_str().unwrap();
            let mut hf: Value =
                serde_json::from_str(&read(&folder.join(format!("conversations/{which}.json")))).unwrap();
            // Hugging Face leaves out the functions of which this template does not know; this plugin tells of them.
            if name == "deepseek-r1" {
                hf["tools"] = Value::Null;
            }
            let rendered = render(
                &Config::default(),
                &facts,
                &conversation(&hf),
                &Vocabulary { control_tokens: &|_| Vec::new(), token: &|_| None },
            );
            let (kind, ours) = match rendered {
                Ok(rendered) => match &rendered.segments[..] {
                    [Segment::Template(text)] => ("txt", text.clone()),
                    other => panic!("{name}/{which}: {other:?}"),
                },
                Err(Error::Invalid(message)) => ("error", message),
                Err(other) => ("fault", other.to_string()),
            };
            let expected = fs::read_to_string(folder.join(format!("expected/{name}/{which}.{kind}"))).ok();
            if expected.as_ref() != Some(&ours) {
                wrong.push(format!("--- {name}/{which}.{kind}\n{ours}\n+++ jinja2\n{}", expected.unwrap_or_default()));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 70, "only {count} renderings were compared");
}
