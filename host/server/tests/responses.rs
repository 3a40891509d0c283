//! `/v1/responses` over real sockets: OpenAI's newer form, both ways.

mod support;

use inference::{EngineFault, Finish, OutputFormat, Part, Role, ToolChoice};
use serde_json::{Value, json};
use support::fakes::{Act, FakePipeline};
use support::{Reply, Server, Setup};

/// A response with further members, or with others.
async fn ask(server: &Server, members: Value) -> Reply {
    server.ask("/v1/responses", json!({"model": "fake/model", "input": "Hi"}), members).await
}

#[tokio::test]
async fn an_answer_with_everything() {
    let server = Setup::everything().start().await;
    let whole = ask(&server, json!({"metadata": {"a": "b"}, "temperature": 0.5, "instructions": "Be brief."})).await;
    assert_eq!(whole.status, 200, "{}", whole.body);
    insta::assert_snapshot!("whole_response", whole.stable());
    let streamed = ask(&server, json!({"stream": true})).await;
    insta::assert_snapshot!("streamed_response", streamed.stable());
    let numbers: Vec<u64> = streamed.events().iter().map(|it| it["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_that_was_cut_is_incomplete() {
    let server = Setup::plays(vec![Act::Piece("x".to_owned()), Act::End(Finish::Length)]).start().await;
    let whole = ask(&server, json!({})).await.json();
    assert_eq!((&whole["status"], &whole["output"][0]["status"]), (&json!("incomplete"), &json!("incomplete")));
    assert_eq!(whole["incomplete_details"], json!({"reason": "max_output_tokens"}));
    let events = ask(&server, json!({"stream": true})).await.events();
    let last = events.last().expect("an end");
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.incomplete"), &json!("incomplete")));
    let pipeline = FakePipeline { stops_at: Some(("l".to_owned(), Finish::Filtered)), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    assert_eq!(ask(&server, json!({})).await.json()["incomplete_details"], json!({"reason": "content_filter"}));
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_in_its_form() {
    let script = vec![Act::Piece("a".to_owned()), Act::Fail(EngineFault::Stopped)];
    let server = Setup::plays(script).start().await;
    let events = ask(&server, json!({"stream": true})).await.events();
    let [.., error, failed] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("engine_failed")));
    assert_eq!((&failed["type"], &failed["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(failed["response"]["error"]["code"], "engine_failed");
    // Before the stream has begun it is an error like any other.
    let unknown = ask(&server, json!({"model": "another", "stream": true})).await;
    assert_eq!((unknown.status, unknown.error().0.as_str()), (404, "model_not_found"));
    let long = ask(&server, json!({"input": "x".repeat(600)})).await;
    assert_eq!((long.status, &long.json()["error"]["param"]), (400, &json!("input")));
}

#[tokio::test]
async fn a_conversation_becomes_the_houses() {
    let server = Setup::default().start().await;
    let members = json!({
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{}", "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        ],
        "tools": [{"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": false}],
        "tool_choice": "auto", "max_output_tokens": 7, "store": false, "previous_response_id": null, "include": [],
        "reasoning": {"effort": "medium", "summary": null}, "text": {"verbosity": "medium"}, "truncation": "disabled",
    });
    let reply = ask(&server, members).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["tools"][0]["name"], "weather");
    let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
    let roles: Vec<Role> = asked.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool]);
    let [Part::Text(text), Part::ToolCall(call)] = asked.messages[3].parts.as_slice() else { panic!("{asked:?}") };
    assert_eq!((text.as_str(), call.id.as_str(), call.name.as_str()), ("I look.", "c1", "weather"));
    let [Part::ToolResult(result)] = asked.messages[4].parts.as_slice() else { panic!("{asked:?}") };
    assert_eq!((result.id.as_str(), result.content.as_str()), ("c1", "rain"));
    assert_eq!((asked.max_tokens, asked.tools[0].schema_json.as_str()), (Some(7), r#"{"type":"object"}"#));
}

#[tokio::test]
async fn choices_of_tools_and_forms_are_translated() {
    let server = Setup::default().start().await;
    let tool = |name: &str| json!({"type": "function", "name": name});
    for (choice, expected, offered) in [
        (json!("required"), ToolChoice::Required, 2),
        (json!("none"), ToolChoice::None, 2),
        (tool("f"), ToolChoice::Named("f".to_owned()), 2),
        (json!({"type": "allowed_tools", "mode": "auto", "tools": [tool("g")]}), ToolChoice::Auto, 1),
    ] {
        ask(&server, json!({"tools": [tool("f"), tool("g")], "tool_choice": choice})).await;
        let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
        assert_eq!((asked.tool_choice, asked.tools.len()), (expected, offered), "{choice}");
    }
    let form = json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true});
    ask(&server, json!({"text": {"format": form}})).await;
    let asked = server.pipeline.asked.lock().unwrap().pop().expect("a request");
    assert_eq!(asked.format, Some(OutputFormat::JsonSchema(r#"{"type":"object"}"#.to_owned())));
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let server = Setup::default().start().await;
    let item = |item: Value| json!({"input": [item]});
    for (members, code, param) in [
        (json!({"store": true}), "unsupported_parameter", "store"),
        (json!({"previous_response_id": "resp_1"}), "unsupported_parameter", "previous_response_id"),
        (json!({"conversation": "conv_1"}), "unsupported_parameter", "conversation"),
        (json!({"background": true}), "unsupported_parameter", "background"),
        (json!({"include": ["reasoning.encrypted_content"]}), "unsupported_parameter", "include"),
        (json!({"reasoning": {"effort": "low"}}), "unsupported_parameter", "reasoning"),
        (json!({"truncation": "auto"}), "unsupported_parameter", "truncation"),
        (json!({"top_logprobs": 2}), "unsupported_parameter", "top_logprobs"),
        (json!({"prompt": {"id": "p"}}), "unsupported_parameter", "prompt"),
        (json!({"text": {"verbosity": "low"}}), "unsupported_parameter", "text.verbosity"),
        (json!({"text": {"format": {"type": "json_schema"}}}), "missing_required_parameter", "text.format.schema"),
        (json!({"tools": [{"type": "web_search"}]}), "unsupported_parameter", "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "missing_required_parameter", "tools[0].name"),
        (json!({"tool_choice": "required"}), "invalid_value", "tool_choice"),
        (
            json!({"tools": [{"type": "function", "name": "f"}],
                "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}}),
            "invalid_value",
            "tool_choice.tools",
        ),
        (json!({"tool_choice": {"type": "mcp"}}), "unsupported_parameter", "tool_choice.type"),
        (
            json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
            "unsupported_parameter",
            "stream_options.include_obfuscation",
        ),
        (json!({"stream_options": {"include_obfuscation": false}}), "invalid_value", "stream_options"),
        (json!({"input": []}), "invalid_value", "input"),
        (json!({"input": null}), "missing_required_parameter", "input"),
        (item(json!({"type": "item_reference", "id": "i"})), "unsupported_parameter", "input[0].type"),
        (item(json!({"role": "tool", "content": "a"})), "invalid_value", "input[0].role"),
        (
            item(json!({"role": "user", "content": [{"type": "input_image"}]})),
            "unsupported_parameter",
            "input[0].content[0].type",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "name": "f"})),
            "missing_required_parameter",
            "input[0].arguments",
        ),
        (json!({"messages": []}), "unknown_parameter", "messages"),
    ] {
        let reply = ask(&server, members.clone()).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (400, code), "{members}: {}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param, "{members}");
    }
    assert!(server.engine.taken.lock().unwrap().is_empty());
}

/// What the client said is shown as it said it, in one line; blanks between are nobody's.
#[tokio::test]
async fn what_is_shown_again_stays_one_line() {
    let server = Setup::default().start().await;
    let tools = "[\n  {\"type\": \"function\",\r\n \"name\": \"f\", \"description\": \"a \\n b\"}\n]";
    let body = format!(
        r#"{{"model": "fake/model", "input": "Hi", "stream": true, "metadata": {{"a" : "b c"}}, "tools": {tools}}}"#
    );
    let reply = server.send(&support::post("/v1/responses", &body)).await;
    let events = reply.events();
    for event in [&events[0], &events[events.len() - 1]] {
        let response = &event["response"];
        let function = json!({"type": "function", "name": "f", "description": "a \n b"});
        assert_eq!((&response["tools"], &response["metadata"]), (&json!([function]), &json!({"a": "b c"})), "{event}");
    }
}

/// An item that broke off is not said to be whole.
#[tokio::test]
async fn what_broke_off_is_incomplete() {
    let script = vec![Act::Piece("half a".to_owned()), Act::Fail(inference::EngineFault::Stopped)];
    let events = ask(&Setup::plays(script).start().await, json!({"stream": true})).await.events();
    let end = events.last().expect("an end");
    assert_eq!((&end["type"], &end["response"]["status"]), (&json!("response.failed"), &json!("failed")), "{end}");
    assert_eq!(end["response"]["output"][0]["status"], "incomplete", "{end}");
}
