//! `/v1/messages` over real sockets: Anthropic's form, both ways.

mod support;

use inference::{Finish, OutputFormat, Part, Role, ToolChoice};
use serde_json::{Value, json};
use support::fakes::{Act, FakePipeline};
use support::{Reply, Server, Setup};

/// A message with further members, or with others.
async fn ask(server: &Server, members: Value) -> Reply {
    server
        .ask(
            "/v1/messages",
            json!({"model": "fake/model", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}),
            members,
        )
        .await
}

#[tokio::test]
async fn an_answer_with_everything() {
    let server = Setup::everything().start().await;
    let whole = ask(&server, json!({})).await;
    assert_eq!(whole.status, 200, "{}", whole.body);
    assert_eq!(whole.header("request-id"), whole.header("x-request-id"));
    insta::assert_snapshot!("whole_message", whole.stable());
    insta::assert_snapshot!("streamed_message", ask(&server, json!({"stream": true})).await.stable());
}

#[tokio::test]
async fn every_end_has_its_word() {
    for (finish, stop_text, expected, sequence) in [
        (Finish::Stop, None, "end_turn", Value::Null),
        (Finish::Stop, Some(1), "stop_sequence", json!("b")),
        // The template's own, which stands behind the client's.
        (Finish::Stop, Some(2), "end_turn", Value::Null),
        (Finish::Length, None, "max_tokens", Value::Null),
    ] {
        let script = vec![Act::Piece("x".to_owned()), Act::EndAt(finish, stop_text)];
        let server = Setup::plays(script).start().await;
        let members = json!({"stop_sequences": ["a", "b"]});
        let whole = ask(&server, members.clone()).await.json();
        assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!(expected), &sequence), "{whole}");
        let mut members = members;
        members["stream"] = json!(true);
        let events = ask(&server, members).await.events();
        let delta = &events[events.len() - 2]["delta"];
        assert_eq!((&delta["stop_reason"], &delta["stop_sequence"]), (&json!(expected), &sequence), "{delta}");
    }
    let pipeline = FakePipeline { stops_at: Some(("l".to_owned(), Finish::Filtered)), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    assert_eq!(ask(&server, json!({})).await.json()["stop_reason"], "refusal");
}

#[tokio::test]
async fn a_conversation_becomes_the_houses() {
    let server = Setup::default().start().await;
    let members = json!({
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "weather?"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bonn"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}], "is_error": true},
                {"type": "text", "text": "Well?"},
            ]},
        ],
        "tools": [{"name": "weather", "description": "d", "input_schema": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["END"], "temperature": 0, "top_k": 3, "top_p": 0.5, "metadata": {"user_id": "u"},
    });
    let reply = ask(&server, members).await;
    // The form is understood; that no grammar holds the calls of this pipeline to a schema is another matter.
    assert_eq!(reply.json()["error"]["param"], "tools", "{}", reply.body);
    let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
    let roles: Vec<Role> = asked.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(asked.messages[1].parts.len(), 2);
    let [Part::Text(text), Part::ToolCall(call)] = asked.messages[2].parts.as_slice() else { panic!("{asked:?}") };
    assert_eq!(
        (text.as_str(), call.id.as_str(), call.arguments_json.as_str()),
        ("I look.", "t1", r#"{"city":"Bonn"}"#)
    );
    let [Part::ToolResult(result)] = asked.messages[3].parts.as_slice() else { panic!("{asked:?}") };
    assert_eq!((result.id.as_str(), result.content.as_str(), result.failed), ("t1", "rain", true));
    assert_eq!((asked.tools[0].name.as_str(), asked.tools[0].strict), ("weather", true));
    assert_eq!(asked.template_arguments, r#"{"enable_thinking":true}"#);
    assert_eq!((asked.stop.as_slice(), asked.max_tokens, asked.sampling.top_k), (&["END".to_owned()][..], Some(50), 3));
}

#[tokio::test]
async fn choices_of_tools_and_forms_are_translated() {
    let server = Setup::default().start().await;
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    for (choice, expected, is_parallel) in [
        (json!({"type": "auto", "disable_parallel_tool_use": true}), ToolChoice::Auto, false),
        (json!({"type": "any"}), ToolChoice::Required, true),
        (json!({"type": "tool", "name": "f"}), ToolChoice::Named("f".to_owned()), true),
        (json!({"type": "none"}), ToolChoice::None, true),
    ] {
        ask(&server, json!({"tools": [tool], "tool_choice": choice})).await;
        let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
        assert_eq!((asked.tool_choice, asked.parallel_tool_calls), (expected, is_parallel), "{choice}");
    }
    let form = json!({"type": "json_schema", "schema": {"type": "object"}});
    ask(&server, json!({"output_config": {"format": form}})).await;
    let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
    assert_eq!(asked.format, Some(OutputFormat::JsonSchema(r#"{"type":"object"}"#.to_owned())));
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name_in_this_form() {
    let server = Setup::default().start().await;
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    for (members, param) in [
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "tool", "content": "a"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}), "messages[1]"),
        (block(json!({"type": "image", "source": {}})), "messages[0].content[0].type"),
        (block(json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})), "messages[0].content[0].type"),
        (block(json!({"type": "text", "text": "a", "citations": [1]})), "messages[0].content[0].citations"),
        (block(json!({"type": "tool_result"})), "messages[0].content[0].tool_use_id"),
        (tool(json!({"type": "web_search_20250305", "name": "web_search"})), "tools[0].type"),
        (tool(json!({"name": "f"})), "tools[0].input_schema"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "disabled", "display": "omitted"}}), "thinking.display"),
        (json!({"service_tier": "priority"}), "service_tier"),
        (json!({"container": "c"}), "container"),
        (json!({"mcp_servers": []}), "mcp_servers"),
        (json!({"n": 2}), "n"),
        (json!({"temperature": 3}), "temperature"),
    ] {
        let reply = ask(&server, members.clone()).await;
        let error = reply.json();
        assert_eq!((reply.status, &error["type"]), (400, &json!("error")), "{members}: {error}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{members}");
        assert_eq!(error["error"]["param"], param, "{error}");
        assert_eq!(error["request_id"].as_str(), reply.header("request-id"));
    }
    assert!(server.engine.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn errors_have_this_form_wherever_they_come_from() {
    let server = Setup::default().start().await;
    let unknown = ask(&server, json!({"model": "another"})).await;
    assert_eq!(unknown.status, 404);
    insta::assert_snapshot!("unknown_model_of_a_message", unknown.stable());
    let body = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    for (request, status, kind) in [
        (format!("POST /v1/messages HTTP/1.1\r\nHost: evil.example\r\n{body}"), 403, "permission_error"),
        (
            "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            405,
            "invalid_request_error",
        ),
        (format!("POST /v1/messages/batches HTTP/1.1\r\nHost: localhost\r\n{body}"), 501, "api_error"),
    ] {
        let reply = server.send(&request).await;
        assert_eq!((reply.status, &reply.json()["error"]["type"]), (status, &json!(kind)), "{}", reply.body);
        assert_eq!(reply.header("allow"), (status == 405).then_some("post"));
    }
    // Its neighbours keep theirs.
    let reply = server.post("/v1/messagesx", &json!({})).await;
    assert_eq!((reply.status, &reply.json()["type"]), (404, &Value::Null));
    let server =
        Setup::plays(vec![Act::Piece("a".to_owned()), Act::Fail(inference::EngineFault::Stopped)]).start().await;
    let stream = ask(&server, json!({"stream": true})).await.stable();
    let (_, end) = stream.rsplit_once("event: ").expect("events");
    insta::assert_snapshot!("a_message_breaks_off", end);
}

/// A call that cannot be told as the model made it is not told as another one, whichever way the answer is read.
#[tokio::test]
async fn a_call_without_an_object_is_an_error_in_both_forms() {
    for arguments in [["{city: ", "\"Bonn\"}"], ["[1,", "2]"], ["", ""]] {
        let pipeline = FakePipeline { calls_tool: true, arguments: Some(arguments), ..FakePipeline::default() };
        let server = Setup { pipeline, ..Setup::default() }.start().await;
        let whole = ask(&server, json!({})).await;
        assert_eq!((whole.status, &whole.json()["error"]["code"]), (500, &json!("call_unreadable")), "{}", whole.body);
        let message = whole.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains("`weather`") && message.contains("strict"), "{message}");
        let events = ask(&server, json!({"stream": true})).await.events();
        let end = events.last().expect("an end");
        assert_eq!((&end["type"], &end["error"]["code"]), (&json!("error"), &json!("call_unreadable")), "{end}");
        // A chat carries whatever the model wrote.
        let chat = server.chat(support::WHOLE).await.json();
        let call = &chat["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["arguments"], json!(arguments.concat()), "{chat}");
    }
    // One that was cut short is none, and nobody is asked for anything.
    let pipeline =
        FakePipeline { arguments: Some(["{\"city", ""]), calls_tool: true, cuts_call: true, ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    let whole = ask(&server, json!({})).await.json();
    assert_eq!(whole["stop_reason"], "end_turn", "{whole}");
    assert_eq!(whole["content"][1]["input"], json!({}), "{whole}");
}

/// `stop_sequence` is for answers that one ended.
#[tokio::test]
async fn a_call_that_a_stop_text_ends_is_a_call() {
    let pipeline = FakePipeline { calls_tool: true, ..FakePipeline::default() };
    let script = vec![Act::Piece("x".to_owned()), Act::EndAt(Finish::Stop, Some(0))];
    let server = Setup { script, pipeline, ..Setup::default() }.start().await;
    let whole = ask(&server, json!({"stop_sequences": ["a"]})).await.json();
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("tool_use"), &Value::Null), "{whole}");
}
