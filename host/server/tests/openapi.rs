//! The OpenAPI document. That every answer of this room's tests is in it is checked wherever one is read (`support/documented.rs`).

mod support;

use std::collections::HashSet;

use serde_json::{Value, json};
use support::Setup;

fn document() -> Value {
    serde_json::from_str(server::openapi()).expect("JSON")
}

/// Each operation with its path and method.
fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| item.as_object().expect("an item").iter().map(move |(method, it)| (path, method, it)))
        .collect()
}

#[tokio::test]
async fn it_is_served_and_has_every_route() {
    let server = Setup::default().start().await;
    let reply = server.get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.body, server::openapi());
    let document = document();
    let documented: HashSet<String> = operations(&document).iter().map(|(path, ..)| (*path).clone()).collect();
    let routes: HashSet<String> = server::routes().map(|(path, _)| path.replace("{*id}", "{id}")).collect();
    assert_eq!(documented, routes);
    let names: HashSet<&str> = operations(&document).iter().filter_map(|(.., it)| it["operationId"].as_str()).collect();
    assert_eq!(names.len(), routes.len(), "every operation has a name of its own");
}

#[tokio::test]
async fn the_method_that_it_names_is_the_one_that_is_allowed() {
    let server = Setup::default().start().await;
    for (path, method, _) in operations(&document()) {
        let path = path.replace("{id}", "fake/model");
        for asked in ["GET", "POST", "PUT", "DELETE"] {
            let request =
                format!("{asked} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            let reply = server.send(&request).await;
            assert_eq!(reply.status != 405, asked.eq_ignore_ascii_case(method), "{asked} {path}: {reply:?}");
        }
    }
}

#[test]
fn all_that_it_refers_to_is_there_and_used() {
    fn references<'a>(value: &'a Value, found: &mut HashSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = HashSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    for kind in ["schemas", "parameters", "headers"] {
        for name in document["components"][kind].as_object().expect("components").keys() {
            assert!(found.contains(format!("#/components/{kind}/{name}").as_str()), "nobody refers to {name}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let root = json!({"components": document["components"], "allOf": [schema]});
        jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// What every operation with a body can answer, and in which form.
#[test]
fn errors_are_documented_in_the_form_that_they_have() {
    for (path, method, operation) in operations(&document()) {
        let form = if path.starts_with("/v1/messages") { "MessageError" } else { "Error" };
        let expected: &[&str] =
            if method == "post" { &["400", "403", "408", "413", "415", "503"] } else { &["400", "403"] };
        for status in expected {
            let schema = &operation["responses"][status]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, &format!("#/components/schemas/{form}"), "{method} {path}: {status}");
        }
    }
}
