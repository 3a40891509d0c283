//! What becomes of requests and answers.

use json_guard::JsonGuard;
use outrigger_plugin::prelude::*;
use outrigger_plugin::testing::{self, Sent, call, chat};
use outrigger_plugin::types::Tool;
use outrigger_plugin::{Rejection, Verdict};

const SCHEMA: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

fn config(more: &str) -> String {
    format!(r#"{{"schema": {SCHEMA}{more}}}"#)
}

fn inspect(config: &str, request: Request) -> Verdict {
    testing::plugin::<JsonGuard>(config).unwrap().inspect(request, &call()).unwrap().verdict
}

fn asking(grammar: Grammar) -> Request {
    Request { grammar: Some(grammar), ..chat("Where?") }
}

fn rejected(verdict: Verdict) -> String {
    match verdict {
        Verdict::Reject(Rejection { status: 400, code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_operator_s_schema_is_named() {
    let expected = asking(Grammar::JsonSchema(SCHEMA.to_owned()));
    assert_eq!(inspect(&config(""), chat("Where?")), Verdict::Replace(expected.clone()));
    assert_eq!(inspect(&config(""), expected), Verdict::Accept, "it is asked for already");
    assert_eq!(inspect("{}", chat("Where?")), Verdict::Accept);
}

#[test]
fn another_form_is_replaced_kept_or_refused() {
    let other = || asking(Grammar::JsonObject);
    let replaced = asking(Grammar::JsonSchema(SCHEMA.to_owned()));
    assert_eq!(inspect(&config(""), other()), Verdict::Replace(replaced));
    assert_eq!(inspect(&config(r#", "other_form": "keep""#), other()), Verdict::Accept);
    assert_eq!(rejected(inspect(&config(r#", "other_form": "reject""#), other())), "form_not_allowed");
    let free = asking(Grammar::Regex("a*".to_owned()));
    assert_eq!(rejected(inspect(&config(r#", "other_form": "reject""#), free)), "form_not_allowed");
}

#[test]
fn tools_are_no_way_around_the_form() {
    let tool = Tool { name: "f".to_owned(), description: None, schema_json: "{}".to_owned(), strict: false };
    let with_tools = || Request { tools: vec![tool.clone()], ..chat("Where?") };
    assert_eq!(rejected(inspect(&config(""), with_tools())), "tools_not_allowed");
    assert_eq!(inspect(&config(r#", "tools": "pass""#), with_tools()), Verdict::Accept);
    assert_eq!(inspect("{}", with_tools()), Verdict::Accept);
}

/// A request for JSON beside tools, and which of them may be called.
fn choosing(choice: &str) -> Request {
    let tool = Tool { name: "f".to_owned(), description: None, schema_json: "{}".to_owned(), strict: false };
    let extra = vec![("tool_choice".to_owned(), choice.to_owned())];
    Request { tools: vec![tool], extra, ..asking(Grammar::JsonSchema(SCHEMA.to_owned())) }
}

#[test]
fn where_a_call_is_required_no_form_is_asked_of_it() {
    for choice in [r#""required""#, r#"{"type":"function","function":{"name":"f"}}"#] {
        let mut guard = testing::plugin::<JsonGuard>(r#"{"on_invalid": "fail"}"#).unwrap();
        guard.inspect(choosing(choice), &call()).unwrap();
        assert_eq!(testing::stream(&mut guard, &[""]).unwrap().notes, [], "{choice}");
        assert_eq!(rejected(inspect(&config(""), choosing(choice))), "tools_not_allowed");
    }
}

#[test]
fn tools_that_must_not_be_called_are_none() {
    let none = choosing(r#""none""#);
    assert_eq!(inspect(&config(""), none.clone()), Verdict::Accept, "the form is asked for already");
    let mut guard = testing::plugin::<JsonGuard>("{}").unwrap();
    guard.inspect(none, &call()).unwrap();
    assert_eq!(testing::stream(&mut guard, &["{}"]).unwrap().notes[0].1, "`city` is missing");
}

#[test]
fn a_check_that_would_take_too_long_lets_the_answer_pass() {
    let doubling = r##"{"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}"##;
    let config = format!(r#"{{"schema": {doubling}, "on_invalid": "fail"}}"#);
    check(&config, "1", "1", None, "not checked: it would take too many steps");
}

fn guard(config: &str, grammar: Option<Grammar>) -> Result<JsonGuard> {
    let mut guard = testing::plugin::<JsonGuard>(config)?;
    guard.inspect(Request { grammar, ..chat("Where?") }, &call())?;
    Ok(guard)
}

#[track_caller]
fn check(config: &str, answer: &str, expected: &str, stop: Option<Finish>, note: &str) {
    let Sent { text, stop: stopped, notes } = testing::every_chunking(|| guard(config, None), answer);
    assert_eq!((text.as_str(), stopped), (expected, stop), "{answer:?} with {config}");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].1.contains(note), "{notes:?}");
}

#[test]
fn a_valid_answer_passes_untouched() {
    for on_invalid in ["annotate", "stop", "fail"] {
        let config = config(&format!(r#", "on_invalid": "{on_invalid}""#));
        check(&config, r#" {"city": "Zürich"} "#, r#" {"city": "Zürich"} "#, None, "valid");
    }
}

#[test]
fn an_answer_that_is_not_valid_is_noted() {
    check(&config(""), r#"{"town": "x"}"#, r#"{"town": "x"}"#, None, "`city` is missing");
    check(&config(""), r#"{"city": "x"#, r#"{"city": "x"#, None, "ends before its JSON does");
    check(&config(""), "Sure: {}", "Sure: {}", None, "stops being JSON at byte 0");
    check(&config(""), r#"{"city": "\ud800"}"#, r#"{"city": "\ud800"}"#, None, "not JSON");
}

#[test]
fn an_answer_that_is_not_valid_is_stopped_where_that_shows() {
    let stops = config(r#", "on_invalid": "stop""#);
    check(&stops, r#"{"city": "é"} And é more"#, r#"{"city": "é"} "#, Some(Finish::Filtered), "at byte 15");
    check(&stops, r#"{"town": "x"}"#, r#"{"town": "x"}"#, Some(Finish::Filtered), "`city` is missing");
}

#[test]
fn an_answer_that_is_not_valid_fails_the_request() {
    let mut guard = guard(&config(r#", "on_invalid": "fail""#), None).unwrap();
    let error = testing::stream(&mut guard, &["{\"city\"", ": oops"]).unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("at byte 9")), "{error:?}");
}

#[test]
fn what_the_request_asked_for_is_checked_without_any_configuration() {
    let check = |grammar, answer: &str| {
        let notes = testing::every_chunking(|| guard("{}", Some(grammar_of(grammar))), answer).notes;
        notes.into_iter().map(|(_, value)| value).collect::<String>()
    };
    assert_eq!(check("object", "{}"), "valid");
    assert_eq!(check("object", "[]"), "it is no JSON object");
    assert_eq!(check(SCHEMA, "{}"), "`city` is missing");
    assert_eq!(testing::every_chunking(|| guard("{}", None), "Hello").notes, [], "nothing was asked for");
}

fn grammar_of(text: &str) -> Grammar {
    if text == "object" { Grammar::JsonObject } else { Grammar::JsonSchema(text.to_owned()) }
}

#[test]
fn nothing_stays_from_one_request_to_the_next() {
    let mut guard = guard(&config(r#", "tools": "pass""#), None).unwrap();
    let tool = Tool { name: "f".to_owned(), description: None, schema_json: "{}".to_owned(), strict: false };
    guard.inspect(Request { tools: vec![tool], ..chat("Where?") }, &call()).unwrap();
    assert_eq!(testing::stream(&mut guard, &["no JSON"]).unwrap().notes, []);
}

#[test]
fn a_long_answer_is_not_read_without_end() {
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let mut guard = guard("{}", Some(Grammar::JsonSchema("{}".to_owned()))).unwrap();
    let sent = testing::stream(&mut guard, &[&long[..1000], &long[1000..]]).unwrap();
    assert_eq!(sent.text, long);
    assert!(sent.notes[0].1.contains("more than 1048576 bytes"), "{:?}", sent.notes);
}

#[test]
fn a_schema_is_a_table_or_json_in_its_own_order() {
    const TEXT: &str = r#"{"properties":{"z":{},"a":{}}}"#;
    let config = format!(r#"{{"schema": {TEXT:?}}}"#);
    assert_eq!(inspect(&config, chat("Where?")), Verdict::Replace(asking(Grammar::JsonSchema(TEXT.to_owned()))));
    for (config, words) in [(r#"{"schema": "[]"}"#, "has to be an object"), (r#"{"schema": "{"}"#, "is not JSON")] {
        let error = format!("{:?}", testing::plugin::<JsonGuard>(config).unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}
