use outrigger_plugin::types::Tool;

use super::*;
use crate::config::Config;
use crate::event::Event;
use crate::parse::Parser;

fn tool(name: &str, schema: &str, strict: bool) -> Tool {
    Tool { name: name.to_owned(), description: None, schema_json: schema.to_owned(), strict }
}

fn conversation(tool_choice: Choice, single_call: bool, strict: bool) -> Conversation {
    let weather = r#"{"properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let tools = vec![tool("get_weather", weather, strict), tool("now", r#"{"type":"object"}"#, false)];
    Conversation { tools, tool_choice, single_call, ..Conversation::default() }
}

fn grammar(template: &str, conversation: &Conversation, prefix: &str) -> Option<String> {
    let reading = Reading::new(&Config::default(), template);
    let token = |mark: &str| match mark {
        "[TOOL_CALLS]" => Some(9),
        _ => None,
    };
    of(conversation, &reading, template, prefix, &token).unwrap()
}

#[test]
fn nothing_is_held_to_anything_without_need() {
    assert_eq!(grammar("<tool_call>", &conversation(Choice::Auto, false, false), ""), None);
    assert_eq!(grammar("<tool_call>", &Conversation { single_call: true, ..Conversation::default() }, ""), None);
}

#[test]
fn required_calls_are_of_the_models_form() {
    let expected = r#"start:  "<tool_call>"  (call_0 | call_1) ("\n<tool_call>" (call_0 | call_1)){0,31} 
call_0: "\n{\"name\": \"get_weather\", \"arguments\": " arguments_0 "}\n</tool_call>"
arguments_0: %json {"properties":{"city":{"type":"string"}},"required":["city"],"type":"object","additionalProperties":false}
call_1: "\n{\"name\": \"now\", \"arguments\": " arguments_1 "}\n</tool_call>"
arguments_1: %json {"type":"object","properties":{},"additionalProperties":false}
"#;
    assert_eq!(grammar("<tool_call>", &conversation(Choice::Required, false, false), "").unwrap(), expected);
}

#[test]
fn a_named_call_is_one_call_and_marks_are_tokens() {
    let named = conversation(Choice::Named("now".to_owned()), false, false);
    let expected = r#"start:  <[9]> " [" (call_1)  "]"
call_1: "{\"name\": \"now\", \"arguments\": " arguments_1 "}"
arguments_1: %json {"type":"object","properties":{},"additionalProperties":false}
"#;
    assert_eq!(grammar("[TOOL_CALLS]", &named, "").unwrap(), expected);
}

#[test]
fn an_opened_thought_comes_first() {
    let required = conversation(Choice::Required, true, false);
    let opened = grammar("<think><tool_call>", &required, "<think>\n").unwrap();
    assert!(opened.starts_with("start: thought \"<tool_call>\""), "{opened}");
    assert!(opened.contains("thinking[lazy]: /(.|\\n)*<\\/think>/"), "{opened}");
    let optional = grammar("<think><tool_call>", &required, "").unwrap();
    assert!(optional.starts_with("start: (\"<think>\" thought)? "), "{optional}");
}

#[test]
fn a_strict_function_binds_calls_and_leaves_text() {
    let strict = grammar("<tool_call>", &conversation(Choice::Auto, false, true), "").unwrap();
    assert!(strict.starts_with("start:  (TEXT? | opened "), "{strict}");
    assert!(strict.contains("arguments_1: %json {\"type\":\"object\"}\n"), "{strict}");
    let single = grammar("", &conversation(Choice::Auto, true, false), "").unwrap();
    assert!(single.starts_with("start:  ("), "{single}");
}

#[test]
fn schemas_that_hold_together_stay_open() {
    for (given, is_closed) in [
        (r#"{"type":"object","properties":{"a":{"type":"object","properties":{}}}}"#, true),
        (r#"{"type":"object","properties":{"a":{}},"allOf":[{"properties":{"b":{}}}]}"#, false),
        (r#"{"type":"object","additionalProperties":true,"properties":{}}"#, false),
        (r##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}}"##, false),
    ] {
        let text = schema(&tool("f", given, false)).unwrap().to_string();
        assert_eq!(text.contains("\"additionalProperties\":false"), is_closed, "{text}");
    }
}

/// What `tests/golden/calls.json` holds: grammars, and answers that they take and do not take. The host compiles them
/// (`host/grammar/tests/it/calls.rs`). `UPDATE_FIXTURES=1` writes it anew.
#[test]
fn the_grammars_are_those_of_the_fixtures() {
    let cases: Vec<Value> = TEMPLATES.iter().flat_map(|template| KINDS.map(|kind| case(template, kind))).collect();
    let text = serde_json::to_string_pretty(&cases).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/calls.json");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == text,
        "run with UPDATE_FIXTURES=1 and read the changes"
    );
}

/// A template that spells the marks of each form, and which of them are control tokens: from 257 on.
const TEMPLATES: [(&str, &[&str]); 11] = [
    ("<tool_call>", &[]),
    ("<think><tool_call>", &[]),
    ("<|tool_call|>", &["<|tool_call|>"]),
    ("<|python_tag|>", &["<|python_tag|>"]),
    ("[TOOL_CALLS]", &["[TOOL_CALLS]"]),
    ("[THINK][TOOL_CALLS][ARGS]", &["[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"]),
    ("<｜tool▁call▁begin｜>", &[]),
    (
        "'<｜tool▁call▁begin｜>' + '<｜tool▁sep｜>' + tool['function']['arguments']",
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ],
    ),
    ("<tool_call><function=", &[]),
    ("<|channel|><|message|>", &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"]),
    ("", &[]),
];

/// What the grammar takes the parser reads, with the arguments that were written.
fn check_read(reading: &Reading, tools: &[Tool], prefix: &str, answer: &str) {
    let mut calls: Vec<(String, String)> = Vec::new();
    for event in Parser::new(reading, tools, prefix).push(answer, true) {
        match event {
            Event::CallStart(name) => calls.push((name, String::new())),
            Event::Arguments(text) | Event::Written(text) => calls.last_mut().unwrap().1.push_str(&text),
            Event::Content(_) | Event::Reasoning(_) | Event::CallEnd | Event::Syntax(_) => {}
        }
    }
    let written = ["get_weather", "now"].into_iter().filter(|name| answer.contains(name));
    let expected: Vec<(&str, Value)> =
        written.map(|name| (name, if name == "now" { json!({}) } else { json!({"city": "Paris"}) })).collect();
    let read: Vec<(&str, Value)> =
        calls.iter().map(|(name, json)| (name.as_str(), serde_json::from_str(json).unwrap())).collect();
    assert_eq!(read, expected, "{answer}");
}

const KINDS: [&str; 4] = ["required", "single", "named", "strict"];

fn case(&(template, tokens): &(&str, &[&str]), kind: &str) -> Value {
    let asked = match kind {
        "required" => conversation(Choice::Required, false, false),
        "single" => conversation(Choice::Auto, true, false),
        "named" => conversation(Choice::Named("now".to_owned()), false, false),
        _ => conversation(Choice::Auto, false, true),
    };
    let reading = Reading::new(&Config::default(), template);
    let number =
        |mark: &str| tokens.iter().position(|token| *token == mark).map(|place| 257 + u32::try_from(place).unwrap());
    let is_thinking = template.starts_with("<think>");
    let prefix = if is_thinking { "<think>" } else { "" };
    let grammar = of(&asked, &reading, template, prefix, &number).unwrap().expect("a grammar");

    let format = reading.calls.unwrap();
    let (first, between, last) = format.list();
    let call = |name: &str, key: &str, value: &str| match format {
        Format::QwenXml if key.is_empty() => format!("<tool_call>\n<function={name}>\n</function>\n</tool_call>"),
        Format::QwenXml => format!(
            "<tool_call>\n<function={name}>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"
        ),
        _ => {
            let [before, between, behind] = format.frame();
            let arguments = if key.is_empty() { "{}".to_owned() } else { format!("{{\"{key}\": \"{value}\"}}") };
            format!("{before}{name}{between}{arguments}{behind}")
        }
    };
    let alone = |call: &str| format!("{first}{call}{last}");
    let (paris, now) = (call("get_weather", "city", "Paris"), call("now", "", ""));
    let (unknown, wrong) = (alone(&call("rm", "", "")), alone(&call("get_weather", "town", "Paris")));
    let said = if format == Format::Harmony { "<|channel|>final<|message|>Hi <there>." } else { "Hi <there>." };
    let (mut taken, mut refused) = (Vec::new(), vec![unknown]);
    // Where text may stand before a call.
    let is_marked = !format.opens().is_empty() && !format.is_bare();
    match kind {
        "named" => {
            taken.push(alone(&now));
            refused.extend([alone(&paris), said.to_owned(), String::new()]);
        }
        "required" => {
            taken.extend([alone(&paris), alone(&now)]);
            refused.extend([said.to_owned(), String::new(), wrong, alone(&paris) + " Hi"]);
        }
        "strict" => {
            taken.extend([alone(&paris), alone(&now), said.to_owned()]);
            refused.push(wrong);
        }
        _ => taken.extend([alone(&paris), alone(&now), said.to_owned()]),
    }
    if is_marked && matches!(kind, "strict" | "single") {
        taken.push(format!("Hi <there>.\n{}", alone(&now)));
    }
    if let Some(between) = between {
        let two = format!("{first}{paris}{between}{now}{last}");
        if matches!(kind, "required" | "strict") { taken.push(two) } else { refused.push(two) }
    }
    if is_thinking {
        taken = taken.iter().map(|answer| format!("So </thing>.\n</think>\n\n{answer}")).collect();
    }
    if template.starts_with("[THINK]") {
        taken.push(format!("[THINK]So.[/THINK]{}", alone(&now)));
    }
    if format == Format::Harmony {
        taken.push(format!("<|channel|>analysis<|message|>So.<|end|><|start|>assistant{}", alone(&now)));
    }
    for answer in &taken {
        check_read(&reading, &asked.tools, prefix, answer);
    }
    let numbered = |answer: &String| {
        tokens
            .iter()
            .enumerate()
            .fold(answer.clone(), |answer, (place, token)| answer.replace(token, &format!("⟦{}⟧", 257 + place)))
    };
    json!({
        "name": format!("{format:?} {kind}"),
        "grammar": grammar,
        "taken": taken.iter().map(numbered).collect::<Vec<_>>(),
        "refused": refused.iter().map(numbered).collect::<Vec<_>>(),
    })
}
