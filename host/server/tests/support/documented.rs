//! Holds every answer against the OpenAPI document: its status, its headers, its body and each event of a stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::Reply;

/// Headers that every HTTP answer may have.
const USUAL: [&str; 8] = [
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "x-accel-buffering",
];

/// Fails unless the document has this answer to this request.
pub(crate) fn check(request: &str, reply: &Reply) {
    // What is no HTTP has its answer from the connection, before there is a path.
    if reply.header("x-request-id").is_none() {
        return;
    }
    let mut line = request.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (line.next().unwrap_or_default().to_ascii_lowercase(), line.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default().trim_start_matches("http://localhost");
    let template = if path.starts_with("/v1/models/") { "/v1/models/{id}" } else { path };
    let operation = &document()["paths"][template][&method];
    if operation.is_null() {
        // Who has no key does not learn which paths there are.
        let expected =
            if document()["paths"][template].is_null() { [404, 501, 400, 401, 403] } else { [405, 405, 400, 401, 403] };
        assert!(expected.contains(&reply.status), "{method} {path} is not documented: {reply:?}");
        return;
    }

    let answers = &operation["responses"];
    let exact = &answers[reply.status.to_string()];
    let answer = if exact.is_null() { &answers[format!("{}XX", reply.status / 100)] } else { exact };
    assert!(!answer.is_null(), "{method} {path}: the status {} is not documented: {reply:?}", reply.status);
    for name in reply.head.lines().skip(1).filter_map(|line| line.split(':').next()) {
        let is_documented = USUAL.contains(&name) || answer["headers"].get(name).is_some();
        assert!(is_documented, "{method} {path}: the header {name} is not documented: {reply:?}");
    }
    let media_type = reply.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let content = &answer["content"][media_type];
    assert!(!content.is_null(), "{method} {path}: the type {media_type} is not documented: {reply:?}");
    match media_type {
        _ if !reply.is_whole => {}
        "application/json" => holds(&content["schema"], &reply.json(), path),
        "text/event-stream" => reply.events().iter().for_each(|event| holds(&content["x-event-schema"], event, path)),
        _ => {}
    }
}

fn holds(schema: &Value, value: &Value, path: &str) {
    static VALIDATORS: Mutex<BTreeMap<String, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let validator = Arc::clone(
        VALIDATORS.lock().expect("no test panicked in here").entry(schema.to_string()).or_insert_with(|| {
            let mut root = json!({"components": document()["components"]});
            root["allOf"] = json!([schema]);
            Arc::new(jsonschema::validator_for(&root).expect("a schema"))
        }),
    );
    let problems: Vec<String> = validator.iter_errors(value).map(|error| format!("{error:.400}")).collect();
    assert!(problems.is_empty(), "{path} answers what is not documented: {problems:?}\n{value}");
}

/// The document, with answers that may have no members but those it names.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut document = serde_json::from_str(server::openapi()).expect("JSON");
        close(&mut document);
        document
    })
}

fn close(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("type") == Some(&json!("object")) && members.get("properties").is_some_and(Value::is_object)
            {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
