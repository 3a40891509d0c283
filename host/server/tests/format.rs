//! The form that an answer must have, from the body to the engine.

mod support;

use inference::{Grammar, OutputFormat, Token};
use support::fakes::FakePipeline;
use support::{Server, Setup};

fn body(members: &str) -> String {
    format!(r#"{{"model":"fake/model","messages":[{{"role":"user","content":"hi"}}],{members}}}"#)
}

/// The grammar of the last request that the engine took.
fn taken(server: &Server) -> Option<Grammar> {
    server.engine.taken.lock().unwrap().last().expect("a request").grammar.clone()
}

/// What the grammar lets an answer begin with.
fn beginnings(grammar: &Grammar) -> String {
    let mut constraint = grammar.begin();
    let mask = constraint.allowed().unwrap();
    (0..=u8::MAX).filter(|&byte| mask.contains(Token(byte.into()))).map(char::from).collect()
}

#[tokio::test]
async fn every_form_reaches_the_engine() {
    let server = Setup::default().start().await;
    for (members, expected) in [
        (r#""response_format":{"type":"json_object"}"#, Some("{")),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"boolean"}}}"#,
            Some("ft"),
        ),
        (r#""json_schema":{"type":"null"}"#, Some("n")),
        (r#""grammar":"root ::= [xy] root2\nroot2 ::= \"z\"""#, Some("xy")),
        (r#""structured_outputs":{"regex":"a|b+"}"#, Some("ab")),
        (r#""structured_outputs":{"choice":["no","yes"]}"#, Some("ny")),
        (r#""structured_outputs":{"grammar":"start: \"s\""}"#, Some("s")),
        (r#""response_format":{"type":"text"}"#, None),
    ] {
        let reply = server.chat(&body(members)).await;
        assert_eq!(reply.status, 200, "{members}: {}", reply.stable());
        assert_eq!(taken(&server).as_ref().map(beginnings).as_deref(), expected, "{members}");
    }
}

#[tokio::test]
async fn the_same_form_is_compiled_once() {
    let server = Setup::default().start().await;
    let body = body(r#""structured_outputs":{"regex":"[0-9]+"}"#);
    assert_eq!(server.chat(&body).await.status, 200);
    let first = taken(&server);
    assert_eq!(server.chat(&body).await.status, 200);
    assert!(first.is_some() && first == taken(&server));
}

#[tokio::test]
async fn what_cannot_be_enforced_never_reaches_the_engine() {
    let server = Setup::default().start().await;
    for (members, expected) in [
        (r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"not":{}}}}"#, "at `/not`"),
        (r#""structured_outputs":{"regex":"(a"}"#, "unclosed group at byte 0"),
        (r#""grammar":"root = 1""#, "line 1: `::=` is expected"),
    ] {
        let reply = server.chat(&body(members)).await;
        assert_eq!(reply.status, 400, "{members}");
        let text = reply.stable();
        assert!(text.contains(expected) && text.contains(r#""code":"invalid_output_format""#), "{text}");
    }
    assert!(server.engine.taken.lock().unwrap().is_empty());
    assert_eq!(server.service.active(), 0);
}

#[tokio::test]
async fn a_prompt_may_ask_for_a_form_too() {
    let digits = Some(OutputFormat::Regex("[0-9]+".to_owned()));
    let pipeline = FakePipeline { format: digits, ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    assert_eq!(server.chat(&body(r#""seed":1"#)).await.status, 200);
    assert_eq!(taken(&server).as_ref().map(beginnings).as_deref(), Some("0123456789"));
    // The same from both is one.
    assert_eq!(server.chat(&body(r#""structured_outputs":{"regex":"[0-9]+"}"#)).await.status, 200);
    let reply = server.chat(&body(r#""response_format":{"type":"json_object"}"#)).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.stable().contains("by a JSON object and the model's prompt for one by a regular expression"),
        "{}",
        reply.stable()
    );
}

#[tokio::test]
async fn a_prompts_form_that_cannot_be_had_is_not_the_clients_fault() {
    let pipeline = FakePipeline { format: Some(OutputFormat::Regex("(".to_owned())), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    let reply = server.chat(&body(r#""seed":1"#)).await;
    assert_eq!(reply.status, 500, "{}", reply.stable());
    assert!(reply.stable().contains("plugin_error"), "{}", reply.stable());
}

const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;

#[tokio::test]
async fn calls_that_must_be_made_need_the_prompts_grammar() {
    let server = Setup::default().start().await;
    for (wish, param) in [
        (r#","tool_choice":"required""#, "tool_choice"),
        (r#","tool_choice":{"type":"function","function":{"name":"f"}}"#, "tool_choice"),
        (r#","parallel_tool_calls":false"#, "parallel_tool_calls"),
    ] {
        let reply = server.chat(&body(&format!("{TOOLS}{wish}"))).await;
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some(param)), "{}", reply.stable());
    }
    for wish in ["", r#","tool_choice":"none","parallel_tool_calls":false"#] {
        assert_eq!(server.chat(&body(&format!("{TOOLS}{wish}"))).await.status, 200, "{wish}");
    }
    let json = r#""response_format":{"type":"json_object"}"#;
    let reply = server.chat(&body(&format!("{TOOLS},{json}"))).await;
    assert!(reply.status == 400 && reply.stable().contains("an answer by a JSON object"), "{}", reply.stable());
    assert_eq!(server.chat(&body(&format!(r#"{TOOLS},{json},"tool_choice":"none""#))).await.status, 200);

    // With it the answer is held to that, whatever else the request asks of its form.
    let format = Some(OutputFormat::Lark("start: <[7]> \"x\"".to_owned()));
    let pipeline = FakePipeline { format, ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    for more in ["", &format!(",{json}")] {
        let reply = server.chat(&body(&format!(r#"{TOOLS},"tool_choice":"required"{more}"#))).await;
        assert_eq!(reply.status, 200, "{}", reply.stable());
        assert_eq!(taken(&server).as_ref().map(beginnings).as_deref(), Some("\u{7}"), "a token by its number");
    }
}
