//! What a model writes under a grammar of `chat-template`, whatever it writes, is read by the same plugin as calls whose arguments
//! are what the function's schema wants: for every form of calls.

use chat_template::{Choice, Config, Conversation, Event, ModelFacts, Parser, Rendered, Vocabulary, render};
use grammar::Author;
use inference::{Constraint, Grammar, OutputFormat, Token};
use outrigger_plugin::types::Tool;
use serde_json::{Value, json};

use crate::writer::{CONTROL, END, House, Random, Words};

/// Templates by the marks of their forms, and which of those are control tokens.
const FORMS: [(&str, &[&str]); 10] = [
    ("<tool_call>", &[]),
    ("<|tool_call|>", &["<|tool_call|>"]),
    ("<|python_tag|>", &["<|python_tag|>"]),
    ("[TOOL_CALLS]", &["[TOOL_CALLS]"]),
    ("[TOOL_CALLS][ARGS]", &["[TOOL_CALLS]", "[ARGS]"]),
    ("<｜tool▁call▁begin｜>", &[]),
    (
        "{# '<｜tool▁call▁begin｜>' + '<｜tool▁sep｜>' + tool['function']['arguments'] #}",
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ],
    ),
    (XML, &[]),
    ("<|channel|><|message|>", &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"]),
    ("", &[]),
];
const XML: &str = "<tool_call><function=";

/// What a writer likes to write besides JSON: marks where they do not belong, and values that look like other ones.
const WORDS: [&str; 12] = [
    "</parameter>",
    "\n<parameter=",
    "<parameter=more>",
    "</function>",
    "\n</tool_call>",
    "Paris",
    "\"Paris\"",
    "null",
    "5",
    "[1",
    "\n</parameter>",
    "celsius",
];

fn functions() -> Vec<Value> {
    let unit = json!({"enum": ["celsius", "fahrenheit"]});
    let point = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    let values = [
        json!({"type": "string"}),
        json!({"type": "string", "maxLength": 5}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "City"}),
        json!({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}),
        json!({"type": ["string", "null"]}),
        json!({"type": ["string", "integer", "boolean"]}),
        json!({"oneOf": [{"type": "string"}, {"type": "integer", "minimum": 3, "maximum": 9}]}),
        json!({}),
        unit.clone(),
        json!({"type": "string", "enum": ["", "a\nb", "null", "5", " x"]}),
        json!({"enum": ["a", "5", 5, 6, null, true, {"b": [1]}]}),
        json!({"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "null"}]}),
        json!({"const": "only"}),
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "boolean"}),
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 2}),
        point.clone(),
        json!({"$ref": "#/$defs/unit"}),
        json!({"$ref": "#/$defs/point"}),
        json!({"anyOf": [{"$ref": "#/$defs/point"}, {"type": "string"}, {"type": "null"}]}),
    ];
    let function = |value: Value| {
        let properties = json!({"value": value, "note": {"type": "string"}, "many": {"type": ["number", "null"]}});
        let required = ["value"];
        json!({"type": "object", "properties": properties, "required": required, "$defs": {"unit": unit, "point": point}})
    };
    let mut functions = values.map(function).to_vec();
    functions.push(json!({"$ref": "#/$defs/all", "$defs": {"all": functions[0], "unit": unit, "point": point}}));
    functions
}

fn asked(template: &str, controls: &[&str], schema: &Value) -> (Rendered, Vec<Tool>) {
    let tools = vec![Tool { name: "f".to_owned(), description: None, schema_json: schema.to_string(), strict: false }];
    let config = Config { template: Some(template.to_owned()), ..Config::default() };
    let conversation = Conversation {
        tools: tools.clone(),
        tool_choice: Choice::Required,
        single_call: true,
        ..Conversation::default()
    };
    let number = |mark: &str| controls.iter().position(|known| *known == mark).map(control);
    let vocabulary = Vocabulary { control_tokens: &|_| Vec::new(), token: &number };
    (render(&config, &ModelFacts::default(), &conversation, &vocabulary).expect("a prompt"), tools)
}

fn control(place: usize) -> u32 {
    CONTROL.0 + u32::try_from(place).expect("few")
}

/// Writes at random until the answer is complete, first this and that, later what closes something.
fn write(house: &House, grammar: &Grammar, controls: &[&str], random: &mut Random) -> Option<String> {
    let size = house.vocabulary.size();
    let words = size - u32::try_from(WORDS.len()).expect("few");
    let mut constraint: Box<dyn Constraint> = grammar.begin();
    let mut bytes = Vec::new();
    for step in 0..1_200 {
        let mask = constraint.allowed().expect("an answer can go on");
        let allowed: Vec<Token> = (0..size).map(Token).filter(|&token| mask.contains(token)).collect();
        assert!(!allowed.is_empty(), "every beginning can go on: {:?}", String::from_utf8_lossy(&bytes));
        let marks = CONTROL.0..control(controls.len());
        let closes = |token: &&Token| {
            let mut piece = Vec::new();
            house.vocabulary.append_piece(**token, &mut piece);
            **token == END
                || marks.contains(&token.0)
                || matches!(piece.as_slice(), b"\"" | b"}" | b"]" | b"\n</parameter>" | b"\x80" | b"\xbf")
        };
        let late = if step > 50 { 10 } else { 2 };
        let token = if random.below(late) > 0
            && let Some(&token) = allowed.iter().rfind(closes)
        {
            token
        } else if let own = allowed.iter().filter(|token| token.0 >= words).collect::<Vec<_>>()
            && !own.is_empty()
            && random.below(2) > 0
        {
            *own[random.below(own.len())]
        } else {
            allowed[random.below(allowed.len())]
        };
        if token == END {
            return Some(String::from_utf8(bytes).expect("whole characters"));
        }
        if marks.contains(&token.0) {
            bytes.extend(controls[(token.0 - CONTROL.0) as usize].as_bytes());
        } else {
            house.vocabulary.append_piece(token, &mut bytes);
        }
        constraint.accept(token).expect("it was allowed");
        if constraint.is_complete() {
            return Some(String::from_utf8(bytes).expect("whole characters"));
        }
    }
    None
}

/// The arguments of the one call that an answer is.
fn arguments(rendered: &Rendered, tools: &[Tool], answer: &str) -> Result<String, String> {
    let mut arguments = None;
    let (mut begun, mut ended) = (0, 0);
    for event in Parser::new(&rendered.reading, tools, &rendered.prefix).push(answer, true) {
        match event {
            Event::CallStart(_) => begun += 1,
            Event::CallEnd => ended += 1,
            Event::Arguments(text) | Event::Written(text) => arguments.get_or_insert_with(String::new).push_str(&text),
            Event::Content(text) if !text.trim().is_empty() => return Err(format!("content: {text:?}")),
            Event::Content(_) | Event::Reasoning(_) | Event::Syntax(_) => {}
        }
    }
    if (begun, ended) == (1, 1) { arguments.ok_or("no arguments".to_owned()) } else { Err(format!("{begun} calls")) }
}

#[test]
fn what_a_grammar_takes_is_read_as_its_schema_wants() {
    let functions = functions();
    for (template, controls) in FORMS {
        let house = House::of(Words::with_words(controls.len().max(1), &WORDS));
        let mut written = 0;
        for schema in &functions {
            let (rendered, tools) = asked(template, controls, schema);
            let is_limited = schema["properties"]["value"]["maxLength"].is_u64();
            let Some(lark) = rendered.grammar.clone() else {
                assert!(template == XML && is_limited, "no grammar: {template} {schema}");
                continue;
            };
            let grammar = house.compiler.compile(&OutputFormat::Lark(lark.clone()), Author::Prompt);
            let grammar = grammar.unwrap_or_else(|error| panic!("{error}: {lark}"));
            let validator = jsonschema::validator_for(schema).expect("a schema");
            for seed in 0..12 {
                let Some(answer) = write(&house, &grammar, controls, &mut Random(seed)) else { continue };
                let context = || format!("{answer:?} under\n{lark}");
                let json =
                    arguments(&rendered, &tools, &answer).unwrap_or_else(|error| panic!("{error} in {}", context()));
                match serde_json::from_str::<Value>(&json) {
                    Ok(value) => assert!(validator.is_valid(&value), "{value} of {}", context()),
                    // JSON bounds no exponent, and takes any surrogate; this reader does not.
                    Err(error) if json.contains(['e', 'E']) && error.to_string().starts_with("number out of") => {}
                    Err(error) if json.contains("\\ud") => assert!(error.is_syntax(), "{error}"),
                    Err(error) => panic!("{error}: {json} of {}", context()),
                }
                written += 1;
            }
        }
        assert!(written > 120, "only {written} answers for {template}");
    }
}

#[test]
fn a_text_is_written_without_quotes_where_other_kinds_may_stand_too() {
    let answer = |value: &str| {
        format!("<tool_call>\n<function=f>\n<parameter=value>\n{value}\n</parameter>\n</function>\n</tool_call>")
    };
    let house = House::of(Words::new());
    let check = |schema: &Value, value: &str, expected: Option<Value>| {
        let schema =
            json!({"properties": {"value": schema}, "required": ["value"], "$defs": {"unit": {"enum": ["c", "f"]}}});
        let (rendered, tools) = asked(XML, &[], &schema);
        let lark = OutputFormat::Lark(rendered.grammar.clone().expect("a grammar"));
        let grammar = house.compiler.compile(&lark, Author::Prompt).unwrap_or_else(|error| panic!("{error}"));
        let is_taken = crate::writer::takes(&grammar, &answer(value));
        let read = is_taken.then(|| arguments(&rendered, &tools, &answer(value)).expect("a call"));
        let read = read.map(|json| serde_json::from_str::<Value>(&json).expect("JSON")["value"].clone());
        assert_eq!(read, expected, "{value} of {schema}");
    };
    let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    check(&optional, "Paris", Some("Paris".into()));
    check(&optional, "null", Some(Value::Null));
    check(&json!({}), "Paris", Some("Paris".into()));
    check(&json!({"type": ["string", "null"]}), "a</parameter>b", Some("a</parameter>b".into()));
    check(&json!({"type": "string"}), "</parameter>", None);
    check(&json!({"type": "string"}), "a\n</parameter>\n<parameter=note>\nb", None);
    check(&json!({"type": "string"}), "a</parameter></function>", None);
    check(&json!({"$ref": "#/$defs/unit"}), "c", Some("c".into()));
    check(&json!({"$ref": "#/$defs/unit"}), "\"c\"", None);
    check(&json!({"type": "array"}), "[\"</parameter></function>\"]", Some(json!(["</parameter></function>"])));
}
