use inference::{ChatRequest, Part, ToolCall};

use super::*;
use crate::service::Defaults;
use crate::wire::parse_chat;

fn parse(members: &str) -> Result<ChatRequest, Refusal> {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{members}}}"#);
    parse_chat(body.as_bytes(), &Defaults::default()).map(|parsed| parsed.asked.request)
}

fn accepted(members: &str) -> ChatRequest {
    parse(members).unwrap_or_else(|refusal| panic!("{members} is refused: {refusal:?}"))
}

#[track_caller]
fn check_refused(members: &str, code: &str, param: &str, message: &str) {
    let refusal = parse(members).err().unwrap_or_else(|| panic!("{members} is accepted"));
    assert_eq!((refusal.code, refusal.param.as_deref(), refusal.message.as_str()), (code, Some(param), message));
}

const F: &str = r#"{"type":"function","function":{"name":"f"}}"#;

fn with(more: &str) -> String {
    format!(r#""tools":[{F},{{"type":"function","function":{{"name":"g-2_G"}}}}]{more}"#)
}

#[test]
fn functions_are_taken_as_they_are() {
    let schema = r##"{ "type": "object", "properties": {"a": {"$ref": "#"}} }"##;
    let function = format!(r#"{{"name":"f","description":"d","parameters":{schema},"strict":true}}"#);
    let request = accepted(&format!(r#""tools":[{{"type":"function","function":{function}}}]"#));
    let tool =
        Tool { name: "f".to_owned(), description: Some("d".to_owned()), schema_json: schema.to_owned(), strict: true };
    assert_eq!((request.tools, request.tool_choice, request.parallel_tool_calls), (vec![tool], ToolChoice::Auto, true));
    let bare = accepted(&format!(r#""tools":[{F}]"#)).tools.remove(0);
    assert_eq!((bare.schema_json.as_str(), bare.strict), (r#"{"type":"object","properties":{}}"#, false));
}

#[test]
fn a_choice_names_what_is_there() {
    let choice = |said: &str| {
        let request = accepted(&with(&format!(r#","tool_choice":{said}"#)));
        let names: Vec<String> = request.tools.into_iter().map(|tool| tool.name).collect();
        (request.tool_choice, names.join(" "))
    };
    let both = || "f g-2_G".to_owned();
    assert_eq!(choice("\"auto\""), (ToolChoice::Auto, both()));
    assert_eq!(choice("\"none\""), (ToolChoice::None, both()));
    assert_eq!(choice("\"required\""), (ToolChoice::Required, both()));
    assert_eq!(choice(F), (ToolChoice::Named("f".to_owned()), both()));
    let allowed = |mode: &str| {
        choice(&format!(r#"{{"type":"allowed_tools","allowed_tools":{{"mode":"{mode}","tools":[{F}]}}}}"#))
    };
    assert_eq!(allowed("auto"), (ToolChoice::Auto, "f".to_owned()));
    assert_eq!(allowed("required"), (ToolChoice::Required, "f".to_owned()));
    assert!(!accepted(&with(r#","parallel_tool_calls":false"#)).parallel_tool_calls);
    assert_eq!(accepted(r#""tool_choice":"none","tools":[]"#).tool_choice, ToolChoice::None);
}

#[test]
fn what_cannot_be_called_is_refused_by_its_place() {
    let wrong = |members: &str, param: &str, message: &str| check_refused(members, "invalid_value", param, message);
    let name = |name: &str| format!(r#""tools":[{F},{{"type":"function","function":{{"name":{name}}}}}]"#);
    let names = "`tools[1].function.name` must be 1 to 64 letters (a-z), digits, underscores and hyphens";
    for bad in [r#""""#, r#""a b""#, r#""a\nb""#, r#""ä""#, r#""<|im_end|>""#, &format!("\"{}\"", "x".repeat(65))] {
        wrong(&name(bad), "tools[1].function.name", names);
    }
    wrong(&name("\"f\""), "tools[1].function", "`tools[1].function` is the second function with the name `f`");
    let many = format!(r#""tools":[{}]"#, vec![F; 10_000].join(","));
    wrong(&many, "tools", "`tools` must have at most 128 items, it has 10000");
    let schema =
        |schema: &str| format!(r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]"#);
    let place = "tools[0].function.parameters";
    wrong(&schema("true"), place, &format!("`{place}` must be a JSON schema, an object"));
    let twice = r#"{"properties":{"a":{},"a":{}}}"#;
    wrong(&schema(twice), &format!("{place}.properties"), &format!("`{place}.properties` names the member `a` twice"));
    let array = format!("`{place}.type` must be \"object\": the arguments of a call are one");
    wrong(&schema(r#"{"type":"array"}"#), &format!("{place}.type"), &array);
    let long = format!(r#"{{"description":"{}"}}"#, "x".repeat(131_072));
    wrong(&schema(&long), place, &format!("`{place}` must be at most 131072 bytes long, it has 131090"));
    let large: Vec<String> = (0..3)
        .map(|number| {
            let text = "x".repeat(100_000);
            format!(r#"{{"type":"function","function":{{"name":"f{number}","parameters":{{"title":"{text}"}}}}}}"#)
        })
        .collect();
    let total = "`tools` must have at most 262144 bytes of `parameters`, it has 300036";
    wrong(&format!(r#""tools":[{}]"#, large.join(",")), "tools", total);
    let deep = format!("{}1{}", r#"{"items":"#.repeat(100), "}".repeat(100));
    let refusal = parse(&schema(&deep)).expect_err("too deep");
    assert!(refusal.message.contains("64 deep"), "{}", refusal.message);
}

#[test]
fn what_is_not_known_is_named() {
    check_refused(
        r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#,
        "unsupported_parameter",
        "tools[0].type",
        "`tools[0].type` is `custom`; only tools of the type `function` are supported",
    );
    check_refused(
        r#""tools":[{"function":{"name":"f"}}]"#,
        "missing_required_parameter",
        "tools[0].type",
        "`tools[0].type` is required: `function`",
    );
    check_refused(
        r#""tools":[{"type":"function","function":{}}]"#,
        "missing_required_parameter",
        "tools[0].function.name",
        "`tools[0].function.name` is required: a string",
    );
    check_refused(
        r#""tools":[{"type":"function","function":{"name":"f","returns":{}}}]"#,
        "unknown_parameter",
        "tools[0].function.returns",
        "`tools[0].function.returns` is not a known member of this request; remove it",
    );
    check_refused(
        r#""functions":[{"name":"f"}]"#,
        "unsupported_parameter",
        "functions",
        "`functions` is not supported; send the functions as `tools`",
    );
    check_refused(
        r#""function_call":{"name":"f"}"#,
        "unsupported_parameter",
        "function_call",
        "`function_call` is not supported; send `tool_choice`",
    );
}

#[test]
fn a_choice_that_cannot_be_made_is_refused() {
    let wrong = |members: &str, message: &str| check_refused(members, "invalid_value", "tool_choice", message);
    wrong(r#""tool_choice":"required""#, "`tool_choice` asks for a call; send the functions as `tools`");
    wrong(
        &with(r#","tool_choice":{"type":"function","function":{"name":"h"}}"#),
        "`tool_choice` names the function `h`, which is not among `tools`",
    );
    let words = "`tool_choice` must be \"none\", \"auto\", \"required\", a function or allowed tools";
    wrong(&with(r#","tool_choice":"any""#), words);
    wrong(&with(r#","tool_choice":[]"#), words);
    check_refused(
        &with(r#","tool_choice":{"type":"function"}"#),
        "missing_required_parameter",
        "tool_choice.function",
        "`tool_choice.function` is required: an object with `name`",
    );
    check_refused(
        &with(r#","tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#),
        "invalid_value",
        "tool_choice.allowed_tools.tools",
        "`tool_choice.allowed_tools.tools` must name at least one function; send `tool_choice` as \"none\" for none",
    );
}

#[test]
fn earlier_calls_keep_their_arguments_as_text() {
    let message = |name: &str| {
        let call = format!(r#"{{"id":"c1","type":"function","function":{{"name":"{name}","arguments":"not JSON"}}}}"#);
        let messages = format!(
            r#"[{{"role":"assistant","content":null,"tool_calls":[{call}]}},{{"role":"tool","tool_call_id":"c1","content":"5"}}]"#
        );
        parse_chat(format!(r#"{{"model":"m","messages":{messages}}}"#).as_bytes(), &Defaults::default())
    };
    let request = message("f").expect("accepted").asked.request;
    let call = ToolCall { id: "c1".to_owned(), name: "f".to_owned(), arguments_json: "not JSON".to_owned() };
    assert_eq!(request.messages[0].parts, [Part::ToolCall(call)]);
    let refusal = message(r"f\n").expect_err("no name");
    assert_eq!(refusal.param.as_deref(), Some("messages[0].tool_calls[0].function.name"));
}
