//! Every member of the request, taken or refused.

use inference::{Finish, Part, Role, Sampling, Usage};

use super::*;
use crate::service::Finished;
use crate::wire::Head;

/// A request with `members` beside its model and messages.
fn with(members: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{members}}}"#)
}

fn parse(body: &str) -> Result<Parsed, Refusal> {
    parse_chat(body.as_bytes(), &Defaults::default())
}

fn accepted(body: &str) -> ChatRequest {
    parse(body).unwrap_or_else(|refusal| panic!("{body} is refused: {refusal:?}")).asked.request
}

fn refused(body: &str) -> Refusal {
    parse(body).err().unwrap_or_else(|| panic!("{body} is accepted"))
}

/// Whether a stream would tell what it cost.
fn ends_with_usage(parsed: Parsed) -> bool {
    let head =
        Head { id: String::new(), created: 0, model: String::new(), fingerprint: String::new(), prompt_tokens: 0 };
    let finished = Finished {
        choice: 0,
        finish: Finish::Stop,
        stop_text: None,
        timings: None,
        annotations: Vec::new(),
        usage: Some(Usage::default()),
    };
    (parsed.writer)(head).finish(&finished).contains("total_tokens")
}

fn check_refused(members: &str, code: &str, param: &str) {
    let refusal = refused(&with(members));
    assert_eq!((refusal.code, refusal.param.as_deref()), (code, Some(param)), "{members}: {}", refusal.message);
    assert!(refusal.message.starts_with(&format!("`{param}`")), "{}", refusal.message);
}

#[test]
fn a_full_request_is_taken_whole() {
    let request = accepted(&with(
        r#""temperature":0.5,"top_p":0.9,"top_k":20,"min_p":0.1,"presence_penalty":-1,"frequency_penalty":1.5,
           "repetition_penalty":1.1,"seed":18446744073709551615,"max_completion_tokens":9,"stop":["a","b"],
           "stream":true,"chat_template_kwargs":{"enable_thinking":false, "n":[1,{}]}"#,
    ));
    let expected = ChatRequest {
        operation: inference::Operation::Chat,
        model: "m".to_owned(),
        messages: vec![Message { role: Role::User, name: None, parts: vec![Part::Text("hi".to_owned())] }],
        tools: Vec::new(),
        tool_choice: inference::ToolChoice::Auto,
        parallel_tool_calls: true,
        sampling: Sampling {
            temperature: 0.5,
            top_k: 20,
            top_p: 0.9,
            min_p: 0.1,
            presence_penalty: -1.0,
            frequency_penalty: 1.5,
            repeat_penalty: 1.1,
            seed: Some(u64::MAX),
            ..Sampling::default()
        },
        max_tokens: Some(9),
        stop: vec!["a".to_owned(), "b".to_owned()],
        streaming: true,
        stop_tokens: Vec::new(),
        ignore_end: false,
        logprobs: None,
        format: None,
        template_arguments: r#"{"enable_thinking":false, "n":[1,{}]}"#.to_owned(),
    };
    assert_eq!(request, expected);
}

#[test]
fn what_is_absent_or_null_takes_the_default() {
    let sampling = Sampling { temperature: 0.1, ..Sampling::default() };
    let defaults = Defaults { sampling: sampling.clone(), max_tokens: Some(5) };
    for members in [r#""n":1"#, r#""temperature":null,"max_tokens":null,"tools":null,"unheard_of":null"#] {
        let parsed = parse_chat(with(members).as_bytes(), &defaults).expect("accepted");
        let request = &parsed.asked.request;
        assert_eq!(request.sampling, sampling, "{members}");
        // The service fills it in: a policy must be able to tell what the client said.
        assert_eq!((request.max_tokens, request.streaming), (None, false));
        assert_eq!(request.template_arguments, "{}");
        assert!(!ends_with_usage(parsed));
    }
}

#[test]
fn as_many_answers_as_are_asked_for() {
    for (members, choices) in [(r#""seed":1"#, 1), (r#""n":1"#, 1), (r#""n":16"#, 16)] {
        let parsed = parse_chat(with(members).as_bytes(), &Defaults::default()).expect("accepted");
        assert_eq!(parsed.asked.choices.get(), choices, "{members}");
    }
    assert_eq!(refused(&with(r#""n":17"#)).message, "`n` must be an integer from 1 to 16, it is 17");
}

#[test]
fn messages_in_every_role() {
    let request = accepted(
        r#"{"model":"m","messages":[
            {"role":"system","content":"s"},
            {"role":"developer","content":[{"type":"text","text":"d1"},{"type":"text","text":"d2"}]},
            {"role":"user","name":"joe","content":""},
            {"role":"assistant","content":null,"reasoning_content":"hm","refusal":null,"annotations":[],
             "tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]},
            {"role":"assistant","content":"a","tool_calls":[]}]}"#,
    );
    let text = |text: &str| Part::Text(text.to_owned());
    let call = inference::ToolCall { id: "c1".to_owned(), name: "f".to_owned(), arguments_json: "{}".to_owned() };
    let result = inference::ToolResult { id: "c1".to_owned(), content: "42".to_owned(), failed: false };
    let parts: Vec<_> = request.messages.iter().map(|message| (message.role, message.parts.clone())).collect();
    assert_eq!(
        parts,
        [
            (Role::System, vec![text("s")]),
            (Role::Developer, vec![text("d1"), text("d2")]),
            (Role::User, vec![text("")]),
            (Role::Assistant, vec![Part::ToolCall(call)]),
            (Role::Tool, vec![Part::ToolResult(result)]),
            (Role::Assistant, vec![text("a")]),
        ]
    );
    assert_eq!(request.messages[2].name.as_deref(), Some("joe"));
}

#[test]
fn members_that_cannot_change_the_answer_are_accepted() {
    accepted(&with(
        r#""user":"u","metadata":{"a":"b"},"store":false,"service_tier":"auto","n":1,"logprobs":false,"top_logprobs":0,
           "response_format":{"type":"text"},"modalities":["text"],"tools":[],"functions":[],"tool_choice":"none",
           "function_call":"auto","parallel_tool_calls":true,"logit_bias":{},"safety_identifier":"s",
           "prompt_cache_key":"k","reasoning_effort":"medium","verbosity":"medium","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}"#,
    ));
}

#[test]
fn members_that_would_change_it_are_refused_by_name() {
    for (members, param) in [
        (r#""functions":[{"name":"f"}]"#, "functions"),
        (r#""function_call":{"name":"f"}"#, "function_call"),
        (r#""guided_json":{}"#, "guided_json"),
        (r#""store":true"#, "store"),
        (r#""service_tier":"priority""#, "service_tier"),
        (r#""modalities":["text","audio"]"#, "modalities"),
        (r#""audio":{"voice":"alloy"}"#, "audio"),
        (r#""reasoning_effort":"high""#, "reasoning_effort"),
        (r#""verbosity":"low""#, "verbosity"),
        (r#""prediction":{"type":"content"}"#, "prediction"),
        (r#""web_search_options":{}"#, "web_search_options"),
        (r#""stream":true,"stream_options":{"include_obfuscation":true}"#, "stream_options.include_obfuscation"),
    ] {
        check_refused(members, "unsupported_parameter", param);
    }
}

#[test]
fn unknown_members_are_refused_by_name() {
    for name in ["cache_prompt", "n_predict", "n_discard", "lora", "id_slot", "Temperature"] {
        check_refused(&format!(r#""{name}":1"#), "unknown_parameter", name);
    }
    check_refused(r#""stream":true,"stream_options":{"x":1}"#, "unknown_parameter", "stream_options.x");
}

#[test]
fn numbers_have_bounds() {
    for (name, low, high) in [
        ("temperature", "-0.1", "2.1"),
        ("top_p", "-0.1", "1.1"),
        ("min_p", "-1", "2"),
        ("presence_penalty", "-2.1", "2.1"),
        ("frequency_penalty", "-3", "1e300"),
        ("repeat_penalty", "0", "2.5"),
        ("repetition_penalty", "0", "2.5"),
        ("top_k", "-1", "1000001"),
        ("max_tokens", "0", "4294967296"),
        ("max_completion_tokens", "-1", "4294967296"),
        ("seed", "-1", "18446744073709551616"),
        ("n", "0", "1.5"),
        ("n", "-1", "17"),
        ("n", "1000000", "1e6"),
    ] {
        check_refused(&format!(r#""{name}":{low}"#), "invalid_value", name);
        check_refused(&format!(r#""{name}":{high}"#), "invalid_value", name);
        check_refused(&format!(r#""{name}":"1""#), "invalid_value", name);
    }
    let refusal = refused(&with(r#""temperature":3"#));
    assert_eq!(refusal.message, "`temperature` must be a number from 0 to 2, it is 3");
    let refusal = refused(&with(r#""max_tokens":true"#));
    assert_eq!(refusal.message, "`max_tokens` must be an integer from 1 to 4294967295");
}

#[test]
fn the_two_names_of_the_token_limit_may_not_disagree() {
    assert_eq!(accepted(&with(r#""max_tokens":5,"max_completion_tokens":5"#)).max_tokens, Some(5));
    check_refused(r#""max_tokens":5,"max_completion_tokens":6"#, "invalid_value", "max_completion_tokens");
}

#[test]
fn stop_texts_are_few_short_and_not_empty() {
    assert_eq!(accepted(&with(r#""stop":"x""#)).stop, ["x"]);
    assert!(accepted(&with(r#""stop":[]"#)).stop.is_empty());
    let texts = |count: usize| format!(r#""stop":[{}]"#, vec![r#""x""#; count].join(","));
    assert_eq!(accepted(&with(&texts(16))).stop.len(), 16);
    check_refused(&texts(17), "invalid_value", "stop");
    check_refused(r#""stop":"""#, "invalid_value", "stop");
    check_refused(r#""stop":["a",""]"#, "invalid_value", "stop[1]");
    check_refused(&format!(r#""stop":["{}"]"#, "x".repeat(257)), "invalid_value", "stop[0]");
    check_refused(r#""stop":[1]"#, "invalid_value", "stop[0]");
    check_refused(r#""stop":{}"#, "invalid_value", "stop");
}

#[test]
fn stream_options_are_for_streams() {
    check_refused(r#""stream_options":{"include_usage":true}"#, "invalid_value", "stream_options");
    let parsed = parse(&with(r#""stream_options":{"include_usage":true},"stream":true"#)).expect("accepted");
    assert!(ends_with_usage(parsed));
}

fn check_messages(messages: &str, code: &str, param: &str, message: &str) {
    let refusal = refused(&format!(r#"{{"model":"m","messages":{messages}}}"#));
    assert_eq!((refusal.code, refusal.param.as_deref(), refusal.message.as_str()), (code, Some(param), message));
}

#[test]
fn messages_that_cannot_be_used_name_their_place() {
    check_messages("[]", "invalid_value", "messages", "`messages` must have at least one message");
    check_messages("\"hi\"", "invalid_value", "messages", "`messages` must be an array");
    check_messages(
        r#"[{"role":"user","content":"a"},{"role":"robot","content":"b"}]"#,
        "invalid_value",
        "messages[1].role",
        "`messages[1].role` must be one of `system`, `developer`, `user`, `assistant`, `tool`, it is `robot`",
    );
    check_messages(
        r#"[{"content":"a"}]"#,
        "missing_required_parameter",
        "messages[0].role",
        "`messages[0].role` is required: one of `system`, `developer`, `user`, `assistant`, `tool`",
    );
    check_messages(
        r#"[{"role":"user"}]"#,
        "missing_required_parameter",
        "messages[0].content",
        "`messages[0].content` is required: a string or text parts",
    );
    check_messages(
        r#"[{"role":"user","content":5}]"#,
        "invalid_value",
        "messages[0].content",
        "`messages[0].content` must be a string or an array of text parts",
    );
    check_messages(
        r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]"#,
        "unsupported_parameter",
        "messages[0].content[0].type",
        "`messages[0].content[0].type` is `image_url`; only `text` parts are supported",
    );
    check_messages(
        r#"[{"role":"user","content":"a","tool_call_id":"c"}]"#,
        "invalid_value",
        "messages[0].tool_call_id",
        "`messages[0].tool_call_id` is for tool messages only",
    );
    check_messages(
        r#"[{"role":"tool","content":"a"}]"#,
        "missing_required_parameter",
        "messages[0].tool_call_id",
        "`messages[0].tool_call_id` is required: tool messages answer a call",
    );
    check_messages(
        r#"[{"role":"user","content":"a","weight":1}]"#,
        "unknown_parameter",
        "messages[0].weight",
        "`messages[0].weight` is not a known member of this request; remove it",
    );
    let many = format!("[{}]", vec![r#"{"role":"user","content":"a"}"#; 1025].join(","));
    check_messages(&many, "invalid_value", "messages", "`messages` must have at most 1024 items, it has 1025");
}

#[test]
fn bodies_that_are_no_request() {
    for (body, message) in [
        ("", "the body is not valid JSON: it ends too early (EOF while parsing a value at line 1 column 0)"),
        ("[]", "the body must be an object"),
        ("null", "the body must be an object"),
        ("{\"a\" 1}", "the body is not valid JSON: expected `:` at line 1 column 6"),
        ("{} {}", "the body is not valid JSON: trailing characters at line 1 column 4"),
        (r#"{"model":"a","model":"b"}"#, "the body names the member `model` twice"),
    ] {
        let refusal = refused(body);
        assert_eq!((refusal.message.as_str(), refusal.code, refusal.param), (message, "invalid_body", None));
    }
    let refusal = parse_chat(b"{\"model\":\"\xff\"}", &Defaults::default()).expect_err("not UTF-8");
    assert_eq!(refusal.message, "the body is not UTF-8 (byte 10)");
    assert_eq!(refused("{}").param.as_deref(), Some("model"));
    assert_eq!(refused(r#"{"model":"m"}"#).param.as_deref(), Some("messages"));
    let deep = format!(r#""chat_template_kwargs":{{"a":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    assert!(refused(&with(&deep)).message.contains("64 deep"));
}

#[test]
fn template_arguments_are_an_object_of_bounded_size() {
    check_refused(r#""chat_template_kwargs":[1]"#, "invalid_value", "chat_template_kwargs");
    check_refused(r#""chat_template_kwargs":{"a":{"b":1,"b":2}}"#, "invalid_value", "chat_template_kwargs.a");
    let long = format!(r#""chat_template_kwargs":{{"a":"{}"}}"#, "x".repeat(70_000));
    check_refused(&long, "invalid_value", "chat_template_kwargs");
}

#[test]
fn a_long_name_comes_back_short() {
    let refusal = refused(&with(&format!("\"{}\":1", "\u{1b}".repeat(100_000))));
    assert!(refusal.message.len() < 200 && !refusal.message.contains('\u{1b}'), "{}", refusal.message);
}

proptest::proptest! {
    // Whatever comes: an answer, never a panic.
    #[test]
    fn no_body_panics(body in r#"(\{|\}|\[|\]|"|:|,|1|null|true|messages|model|role|content|user|\\u00e9|[a-z]){0,40}"#) {
        let _answer = parse(&body);
        let _answer = parse(&with(&body));
    }
}
