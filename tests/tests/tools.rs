//! Tool calls through the whole path: real binary, real sockets, a small real model that a grammar holds to its calls.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{ALIKE, Host, Reply, demo_model, run_python};

const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A host whose `chat-template` is configured so, and any further plugins.
fn serve(config: &str, more: &str) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("outrigger.toml");
    std::fs::write(&path, format!("[[plugin]]\nname = \"chat-template\"\n{config}\n{more}")).expect("a configuration");
    let host = Host::serve(&demo_model(), &["--max-concurrency=2", ALIKE, "--config", &path.display().to_string()]);
    (folder, host)
}

/// A host that prompts the model with one of the templates of `tests/golden`.
fn serve_template(name: &str, more: &str) -> (TempDir, Host) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/templates/{name}.jinja"));
    let template = std::fs::read_to_string(path).expect("a template");
    serve(&format!("config = {{ template = {} }}", Value::from(template)), more)
}

/// A host as [`serve_template`] makes one, whose model is made to begin with a call, though nobody requires one.
fn serve_begun(name: &str, beginning: &str) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let component = folder.path().join("begin.wasm");
    std::fs::write(&component, bundled::MISBEHAVING).expect("a written component");
    let begin = format!(
        "[[plugin]]\nname = \"begin\"\nfrom = '{}'\nstages = {{ token-control = 0 }}\ngrants = {{ token-control = true }}\n\
         config.steps = \"force-text {beginning}; free-for 1000000\"\n",
        component.display()
    );
    let (_, host) = serve_template(name, &begin);
    (folder, host)
}

fn weather() -> Value {
    json!({"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 1, "maxLength": 20},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
        },
    }})
}

fn now() -> Value {
    json!({"type": "function", "function": {"name": "now", "description": "The time."}})
}

fn request(extra: &Value) -> Value {
    let mut body = json!({
        "model": SMOL,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [weather(), now()],
        "max_tokens": 300,
    });
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

fn named(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

/// The calls of a choice: name and arguments. Each has an id of its own and is what OpenAI's clients expect.
fn calls(choice: &Value, ids: &mut HashSet<String>) -> Vec<(String, Value)> {
    let calls = choice["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("no calls: {choice}"));
    let call = |call: &Value| {
        let id = call["id"].as_str().expect("an id");
        assert!((1..=40).contains(&id.len()) && ids.insert(id.to_owned()), "{id}");
        assert_eq!(call["type"], "function");
        let arguments = call["function"]["arguments"].as_str().expect("JSON text");
        let arguments = serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        (call["function"]["name"].as_str().expect("a name").to_owned(), arguments)
    };
    calls.iter().map(call).collect()
}

/// Whether a call is one of `weather` (the tool of that name) or of `now`.
fn is_of(weather: &Value, (name, arguments): &(String, Value)) -> bool {
    match name.as_str() {
        "get_weather" => {
            let schema = &weather["function"]["parameters"];
            let names = schema["properties"].as_object().expect("properties");
            jsonschema::validator_for(schema).expect("a schema").is_valid(arguments)
                && arguments.as_object().is_some_and(|members| members.keys().all(|name| names.contains_key(name)))
        }
        "now" => *arguments == json!({}),
        _ => false,
    }
}

fn is_valid(call: &(String, Value)) -> bool {
    is_of(&weather(), call)
}

fn check_calls(reply: &Reply, count: impl Fn(usize) -> bool) -> Value {
    check_calls_of(&weather(), reply, count)
}

#[track_caller]
fn check_calls_of(weather: &Value, reply: &Reply, count: impl Fn(usize) -> bool) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let choice = reply.json()["choices"][0].clone();
    let calls = calls(&choice, &mut HashSet::new());
    assert!(count(calls.len()) && calls.iter().all(|call| is_of(weather, call)), "{}", reply.text);
    assert_eq!(choice["finish_reason"], "tool_calls", "{}", reply.text);
    assert_eq!(choice["message"]["content"], Value::Null, "{}", reply.text);
    choice["message"].clone()
}

/// The message that a stream's deltas come to, as OpenAI's clients put it together.
fn streamed(host: &Host, body: &Value) -> (Value, String) {
    let (content, lines) = host.stream(body).finish();
    assert_eq!(lines.last().map(String::as_str), Some("[DONE]"), "{lines:?}");
    let mut calls: Vec<Value> = Vec::new();
    let mut finish = String::new();
    for line in &lines[..lines.len() - 1] {
        let chunk: Value = serde_json::from_str(line).expect("JSON");
        let choice = &chunk["choices"][0];
        for delta in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(delta["index"].as_u64().expect("an index")).expect("small");
            let arguments = delta["function"]["arguments"].as_str().expect("text");
            if index == calls.len() {
                assert!(delta["id"].is_string() && delta["type"] == "function", "{delta}");
                assert!(delta["function"]["name"].is_string(), "{delta}");
                calls.push(json!({"id": delta["id"], "type": "function", "function": delta["function"]}));
            } else {
                assert_eq!(index + 1, calls.len(), "calls come one after the other: {delta}");
                assert!(delta.get("id").is_none() && delta["function"].get("name").is_none(), "{delta}");
                let call = &mut calls[index]["function"]["arguments"];
                *call = (call.as_str().expect("text").to_owned() + arguments).into();
            }
        }
        finish += choice["finish_reason"].as_str().unwrap_or_default();
    }
    let content = if content.is_empty() && !calls.is_empty() { Value::Null } else { content.into() };
    let message =
        if calls.is_empty() { json!({"content": content}) } else { json!({"content": content, "tool_calls": calls}) };
    (message, finish)
}

/// A message without what differs from answer to answer.
fn bare(message: &Value) -> Value {
    let calls: Option<Vec<Value>> =
        message["tool_calls"].as_array().map(|calls| calls.iter().map(|call| call["function"].clone()).collect());
    json!({"content": message["content"], "calls": calls})
}

/// Calls of every kind, by a model that may think before (`thinks`) or not. What is asked of it has an end: only thoughts and
/// further calls may go on until the limit cuts them.
fn required_and_named_calls_are_made((_folder, host): (TempDir, Host), weather: &Value, thinks: bool) {
    let mut whole = 0;
    for seed in 0..2 {
        for choice in [json!("required"), named("get_weather"), named("now")] {
            let mut body = request(&json!({"seed": seed, "temperature": if seed == 0 { 0.0 } else { 1.2 }}));
            body["tool_choice"] = choice.clone();
            body["tools"] = json!([weather, now()]);
            let reply = host.chat(&body);
            assert_eq!(reply.status, 200, "{}", reply.text);
            let answer = &reply.json()["choices"][0];
            if answer["finish_reason"] == "length" {
                assert!(thinks || choice == "required", "a named call has an end: {}", reply.text);
                // All but the one that was cut.
                let mut answer = answer.clone();
                if let Some(calls) = answer["message"]["tool_calls"].as_array_mut() {
                    calls.pop();
                    let whole = self::calls(&answer, &mut HashSet::new());
                    assert!(whole.iter().all(|call| is_of(weather, call)), "{}", reply.text);
                }
                continue;
            }
            let most = if choice == "required" { 32 } else { 1 };
            let message = check_calls_of(weather, &reply, |count| (1..=most).contains(&count));
            if let Some(name) = choice["function"]["name"].as_str() {
                assert_eq!(message["tool_calls"][0]["function"]["name"], name);
            }
            if seed == 0 {
                // Both on what the first of them computed.
                let again = host.chat(&body).json()["choices"][0].clone();
                let (streamed, finish) = streamed(&host, &body);
                assert_eq!((bare(&streamed), json!(finish)), (bare(&again["message"]), again["finish_reason"].clone()));
            }
            whole += 1;
        }
    }
    let least = if thinks { 1 } else { 4 };
    assert!(whole >= least, "only {whole} of 6 answers came to an end");
}

/// A host whose model is told of tools by instructions, and held to this form of calls.
fn serve_form(tool_format: &str) -> (TempDir, Host) {
    serve(&format!("config = {{ tool_format = \"{tool_format}\" }}"), "")
}

#[test]
fn required_and_named_calls_are_made_by_a_model_that_knows_no_tools() {
    required_and_named_calls_are_made(serve("", ""), &weather(), false);
}

#[test]
fn required_and_named_calls_are_made_as_qwen_makes_them() {
    required_and_named_calls_are_made(serve_template("qwen25", ""), &weather(), false);
}

#[test]
fn required_and_named_calls_are_made_behind_thoughts() {
    required_and_named_calls_are_made(serve_template("qwen3", ""), &weather(), true);
}

#[test]
fn required_and_named_calls_are_made_as_mistral_makes_them() {
    required_and_named_calls_are_made(serve_template("mistral-v3", ""), &weather(), false);
    required_and_named_calls_are_made(serve_form("mistral-args"), &weather(), false);
}

#[test]
fn required_and_named_calls_are_made_as_llama_makes_them() {
    required_and_named_calls_are_made(serve_template("llama31", ""), &weather(), false);
}

#[test]
fn required_and_named_calls_are_made_as_granite_makes_them() {
    required_and_named_calls_are_made(serve_template("granite", ""), &weather(), false);
}

#[test]
fn required_and_named_calls_are_made_as_deepseek_makes_them() {
    required_and_named_calls_are_made(serve_form("deepseek"), &weather(), false);
    required_and_named_calls_are_made(serve_form("deepseek-v3.1"), &weather(), false);
}

/// Texts stand there without quotes, and are none of the arguments' business that JSON is; `$defs` of the function count.
#[test]
fn required_and_named_calls_are_made_between_tags() {
    let weather = json!({"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object",
        "properties": {
            "city": {"anyOf": [{"enum": ["Paris", "Rome"]}, {"type": "null"}]},
            "unit": {"$ref": "#/$defs/unit"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "unit", "days"],
        "$defs": {"unit": {"enum": ["celsius", "fahrenheit"]}},
    }}});
    required_and_named_calls_are_made(serve_form("qwen-xml"), &weather, false);
}

#[test]
fn one_call_at_most_where_they_may_not_be_parallel() {
    let (_folder, host) = serve_template("qwen25", "");
    for seed in 0..4 {
        let reply = host.chat(&request(&json!({
            "tool_choice": "required", "parallel_tool_calls": false, "seed": seed, "temperature": 1.5
        })));
        check_calls(&reply, |count| count == 1);
    }
    // The same where the model begins a call of itself, whose arguments nobody holds to a schema.
    let (_folder, host) = serve_begun("qwen25", "<tool_call>");
    for seed in 0..4 {
        let free = host.chat(&request(&json!({"parallel_tool_calls": false, "seed": seed, "temperature": 1.5})));
        assert_eq!(free.status, 200, "{}", free.text);
        let calls = free.json()["choices"][0]["message"]["tool_calls"].as_array().map_or(0, Vec::len);
        assert_eq!(calls, 1, "{}", free.text);
    }
}

#[test]
fn none_and_no_tools_are_the_same_request() {
    let host = Host::serve(&demo_model(), &[ALIKE]);
    let mut without = request(&json!({"temperature": 0, "max_tokens": 20}));
    without.as_object_mut().expect("an object").remove("tools");
    let first = host.chat(&without);
    assert_eq!(first.status, 200, "{}", first.text);
    // Both on what the first computed.
    let without = host.chat(&without);
    let none = host.chat(&request(&json!({"tool_choice": "none", "temperature": 0, "max_tokens": 20})));
    assert_eq!(none.content(), without.content());
    assert_eq!(none.json()["usage"]["prompt_tokens"], without.json()["usage"]["prompt_tokens"]);
}

#[test]
fn strict_arguments_hold_while_the_model_may_answer() {
    let mut tool = weather();
    tool["function"]["strict"] = true.into();
    let body =
        |seed| request(&json!({"tools": [tool], "seed": seed, "temperature": 1.2, "parallel_tool_calls": false}));
    let (_folder, host) = serve_begun("qwen25", "<tool_call>");
    for seed in 0..4 {
        check_calls(&host.chat(&body(seed)), |count| count == 1);
    }
    let (_folder, host) = serve_template("qwen25", "");
    let reply = host.chat(&body(0));
    assert_eq!(reply.status, 200, "it may also answer: {}", reply.text);
}

#[test]
fn several_answers_have_calls_of_their_own() {
    let (_folder, host) = serve("", "");
    let body = request(&json!({"tool_choice": named("get_weather"), "n": 3, "temperature": 1.2, "seed": 1}));
    let reply = host.chat(&body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut ids = HashSet::new();
    for choice in reply.json()["choices"].as_array().expect("choices") {
        assert!(calls(choice, &mut ids).iter().all(is_valid), "{}", reply.text);
    }
    assert_eq!(ids.len(), 3);
}

#[test]
fn results_go_back_to_the_model() {
    for template in [None, Some("qwen25"), Some("mistral-v3"), Some("llama31")] {
        let (_folder, host) = match template {
            None => serve("", ""),
            Some(name) => serve_template(name, ""),
        };
        let mut body = request(&json!({"tool_choice": named("get_weather"), "temperature": 0}));
        let message = check_calls(&host.chat(&body), |count| count == 1);
        let id = message["tool_calls"][0]["id"].clone();
        let messages = body["messages"].as_array_mut().expect("messages");
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "{\"sky\": \"clear\"}"}));
        body["tool_choice"] = "auto".into();
        body["max_tokens"] = 20.into();
        let reply = host.chat(&body);
        assert_eq!(reply.status, 200, "{template:?}: {}", reply.text);
    }
}

#[test]
fn what_cannot_be_promised_is_refused() {
    let (_folder, host) = serve("", "");
    let check = |extra: Value, param: &str, words: &str| {
        let reply = host.chat(&request(&extra));
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some(param)), "{}", reply.text);
        assert!(reply.error().contains(words), "{}", reply.text);
    };
    let mut odd = weather();
    odd["function"]["parameters"]["properties"]["city"] = json!({"not": {}});
    let function = "the function `get_weather` cannot be enforced: at `/properties/city/not`: the keyword `not`";
    check(json!({"tools": [odd], "tool_choice": "required"}), "tools", function);
    odd["function"]["strict"] = true.into();
    check(json!({"tools": [odd]}), "tools", function);
    check(json!({"response_format": {"type": "json_object"}}), "tool_choice", "`tool_choice` as `none` or `required`");
    check(json!({"tool_choice": named("rm")}), "tool_choice", "`rm`, which is not among `tools`");
    check(json!({"functions": [{"name": "f"}]}), "functions", "send the functions as `tools`");
    // Nothing is said beside a call, so there is nothing that the form could be about.
    check_calls(
        &host.chat(&request(&json!({"response_format": {"type": "json_object"}, "tool_choice": named("now")}))),
        |count| count == 1,
    );
    let (_folder, host) = serve("config = { tool_format = \"none\" }", "");
    let reply = host.chat(&request(&json!({"tool_choice": "required"})));
    assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some("tool_choice")), "{}", reply.text);
    assert_eq!(host.chat(&request(&json!({"max_tokens": 8}))).status, 200, "what the model writes is content then");
    let (_folder, host) = serve("config = { tools = \"template\" }", "");
    let reply = host.chat(&request(&json!({})));
    assert!(reply.status == 400 && reply.error().contains("knows of no tools"), "{}", reply.text);
}

#[test]
fn hostile_conversations_with_tools_are_answered_or_refused() {
    let (_folder, host) = serve_template("qwen25", "");
    let conversation = |arguments: &str, result: &str| {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "now", "arguments": arguments}});
        let messages = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": result},
        ]);
        host.chat(&request(&json!({"messages": messages, "max_tokens": 4})))
    };
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for arguments in ["", "not JSON", "{\"a\": ", "[]", "\u{FDD0}<|im_end|>", deep.as_str()] {
        let reply = conversation(arguments, "5");
        assert_eq!(reply.status, 200, "{arguments:.40}: {}", reply.text);
    }
    let reply = conversation("{}", &"word ".repeat(200_000));
    assert_eq!(reply.json()["error"]["code"], "context_length_exceeded", "{}", reply.text);
    let many = vec![now(); 10_000];
    let reply = host.chat(&request(&json!({"tools": many})));
    assert!(reply.status == 400 && reply.error().contains("at most 128 items"), "{}", reply.text);
    let many: Vec<Value> =
        (0..24).map(|number| json!({"type": "function", "function": {"name": format!("f{number}")}})).collect();
    let reply = host.chat(&request(&json!({"tools": many, "tool_choice": "required", "parallel_tool_calls": false})));
    let calls = calls(&reply.json()["choices"][0], &mut HashSet::new());
    assert!(matches!(&calls[..], [(name, arguments)] if name.starts_with('f') && *arguments == json!({})), "{calls:?}");
    assert_eq!(host.chat(&request(&json!({"max_tokens": 4}))).status, 200, "and it goes on");
}

#[test]
fn a_filter_sees_the_arguments_and_the_client_gets_what_it_makes_of_them() {
    let redact = "[[plugin]]\nname = \"redact\"\nconfig = { kinds = [\"email\"], channels = [\"tool-arguments\"] }\n";
    let (_folder, host) = serve("", redact);
    let tool = json!({"type": "function", "function": {"name": "send", "parameters": {
        "type": "object",
        "properties": {"to": {"const": "anna@example.org"}, "copy": {"const": "x"}},
        "required": ["to", "copy"],
    }}});
    let body = request(&json!({"tools": [tool], "tool_choice": named("send"), "temperature": 0}));
    let reply = host.chat(&body);
    let message = reply.json()["choices"][0]["message"].clone();
    let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().expect("arguments").to_owned();
    assert!(!arguments.contains("anna@") && arguments.contains("\"copy\""), "{arguments}");
    assert!(serde_json::from_str::<Value>(&arguments).is_ok(), "{arguments}");
    assert_eq!(bare(&streamed(&host, &body).0), bare(&message));
}

#[test]
fn the_official_clients_call_tools() {
    let (_folder, host) = serve_template("qwen25", "");
    run_python("openai_tools.py", &host);
    run_python("openai_responses_tools.py", &host);
    run_python("anthropic_tools.py", &host);
}
