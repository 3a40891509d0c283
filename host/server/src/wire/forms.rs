//! What holds for the parsers of all forms.

use proptest::prelude::*;

use super::{
    parse_chat, parse_completion, parse_count_tokens, parse_detokenize, parse_embeddings, parse_message, parse_render,
    parse_rerank, parse_response, parse_tokenize,
};
use crate::allocation::peak_bytes;
use crate::service::Defaults;

/// JSON with the members that forms know, at random: most of it wrong, some of it nearly right.
fn json() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "m",
        "user",
        "assistant",
        "system",
        "tool",
        "text",
        "input_text",
        "output_text",
        "tool_use",
        "tool_result",
        "thinking",
        "message",
        "function",
        "function_call",
        "function_call_output",
        "reasoning",
        "auto",
        "any",
        "none",
        "required",
        "allowed_tools",
        "json_schema",
        "enabled",
        "disabled",
        "",
    ]);
    let leaf = prop_oneof![
        text.prop_map(|text| format!("{text:?}")),
        prop::sample::select(vec!["null", "true", "false", "0", "1", "-1", "1e99", "{}", "[]", "[1,2]", "\"\\ud800\""])
            .prop_map(str::to_owned),
    ];
    let name = prop::sample::select(vec![
        "model",
        "messages",
        "prompt",
        "input",
        "role",
        "content",
        "type",
        "text",
        "tools",
        "tool_choice",
        "name",
        "input_schema",
        "parameters",
        "function",
        "arguments",
        "call_id",
        "id",
        "tool_use_id",
        "output",
        "format",
        "schema",
        "max_tokens",
        "max_output_tokens",
        "stop",
        "stop_sequences",
        "stream",
        "stream_options",
        "n",
        "echo",
        "logprobs",
        "thinking",
        "budget_tokens",
        "output_config",
        "metadata",
        "reasoning",
        "store",
        "mode",
        "tokens",
        "system",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::hash_map(name.clone(), inner, 0..6).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

type Parse = fn(&[u8], &Defaults) -> Result<super::Parsed, super::Refusal>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a body says, it is understood or refused with a reason; what is understood can be asked.
    #[test]
    fn every_body_is_understood_or_refused(members in prop::collection::vec(json(), 5)) {
        let [conversation, prompt, more, tools, input] = members.as_slice() else { unreachable!("five of them") };
        let body = format!(
            r#"{{"model":"m","max_tokens":5,"messages":{conversation},"prompt":{prompt},"system":{more},"tools":{tools},"input":{input}}}"#
        );
        let without = |names: &[&str]| {
            let mut value: serde_json::Value = serde_json::from_str(&body.replace("\\ud800", "a")).expect("JSON");
            let members = value.as_object_mut().expect("an object");
            members.retain(|name, _| names.contains(&name.as_str()));
            value.to_string()
        };
        let defaults = Defaults::default();
        let forms: [(Parse, &[&str]); 4] = [
            (parse_chat, &["model", "max_tokens", "messages", "tools"]),
            (parse_completion, &["model", "max_tokens", "prompt"]),
            (parse_message, &["model", "max_tokens", "messages", "system", "tools"]),
            (parse_response, &["model", "input", "tools"]),
        ];
        for (parse, names) in forms {
            for body in [body.clone(), without(names)] {
                match parse(body.as_bytes(), &defaults) {
                    Ok(parsed) => {
                        let asked = parsed.asked;
                        prop_assert!(asked.answers() >= 1 && (!asked.request.messages.is_empty() || !asked.prompts.is_empty()));
                    }
                    Err(refusal) => prop_assert!(!refusal.message.is_empty()),
                }
            }
        }
        for body in &members {
            let _either = (parse_render(body.as_bytes(), &defaults), parse_count_tokens(body.as_bytes(), &defaults));
            let _either = (parse_tokenize(body.as_bytes()), parse_detokenize(body.as_bytes()));
        }
    }
}

/// A body that takes much to read, who reads it, and whether it is understood.
struct Heavy {
    form: fn(&[u8]) -> bool,
    members: String,
    is_fine: bool,
}

/// Deep and wide bodies, and those of many small things or of many names.
fn heavy() -> Vec<Heavy> {
    let chat = |body: &[u8]| parse_chat(body, &Defaults::default()).is_ok();
    let completion = |body: &[u8]| parse_completion(body, &Defaults::default()).is_ok();
    let message = |body: &[u8]| parse_message(body, &Defaults::default()).is_ok();
    let response = |body: &[u8]| parse_response(body, &Defaults::default()).is_ok();
    let render = |body: &[u8]| parse_render(body, &Defaults::default()).is_ok();
    let count = |body: &[u8]| parse_count_tokens(body, &Defaults::default()).is_ok();

    let repeated = |text: &str, bytes: usize| vec![text; bytes / (text.len() + 1)].join(",");
    let open: String = format!("{{\"{}\":", "\u{1f600}".repeat(64)).repeat(54);
    let deep = |bytes: usize| format!("{open}[{}]{}", repeated("1", bytes), "}".repeat(54));
    let (deep, too_long) = (deep(40_000), deep(150_000));
    let many: Vec<String> = (0..10_000).map(|name| format!("\"{name}\":0")).collect();
    let many = format!("{{{}}}", many.join(","));
    let parts = |count: usize, part: &str| format!("[{}]", vec![part; count].join(","));
    let messages = |count: usize, parts: &str| vec![format!(r#"{{"role":"user","content":{parts}}}"#); count].join(",");
    let (empty, short) = (r#"{"type":"text","text":""}"#, r#"{"type":"input_text","text":"a"}"#);
    let used = format!(r#"{{"type":"tool_use","id":"a","name":"f","input":{too_long}}}"#);
    let hi = r#""messages":[{"role":"user","content":"Hi"}]"#;
    let of = |form, is_fine, members| Heavy { form, members, is_fine };
    let named = |schema: &str| {
        format!(r#"{hi},"response_format":{{"type":"json_schema","json_schema":{{"schema":{schema}}}}}"#)
    };
    let asks = |schema: &str| format!(r#""input":"Hi","text":{{"format":{{"type":"json_schema","schema":{schema}}}}}"#);
    vec![
        of(chat, true, named(&deep)),
        of(chat, false, named(&too_long)),
        of(render, true, named(&deep)),
        of(chat, false, format!(r#"{hi},"json_schema":{too_long}"#)),
        of(chat, false, format!(r#"{hi},"structured_outputs":{{"json":{too_long}}}"#)),
        of(chat, true, format!(r#"{hi},"chat_template_kwargs":{deep}"#)),
        of(
            chat,
            true,
            format!(r#"{hi},"tools":[{{"type":"function","function":{{"name":"f","parameters":{deep}}}}}]"#),
        ),
        of(chat, false, format!(r#"{hi},"unheard_of":{too_long}"#)),
        of(chat, false, format!(r#"{hi},"logit_bias":{many}"#)),
        of(chat, false, format!(r#"{hi},"metadata":{many}"#)),
        of(chat, false, format!(r#""messages":{many}"#)),
        of(chat, false, format!(r#""messages":[{}]"#, repeated("{}", 100_000))),
        of(chat, true, format!(r#""messages":[{}]"#, messages(20, &parts(256, empty)))),
        of(chat, false, format!(r#""messages":[{}]"#, messages(40, &parts(256, empty)))),
        of(chat, false, format!(r#""messages":[{}]"#, messages(1, &parts(4_000, empty)))),
        of(chat, false, many[1..many.len() - 1].to_owned()),
        of(completion, true, format!(r#""prompt":[{}]"#, repeated("1", 100_000))),
        of(completion, false, format!(r#""prompt":[{}]"#, repeated("[1]", 100_000))),
        of(message, true, format!(r#"{hi},"max_tokens":1,"tools":[{{"name":"f","input_schema":{deep}}}]"#)),
        of(
            message,
            false,
            format!(r#"{hi},"output_config":{{"format":{{"type":"json_schema","schema":{too_long}}}}}"#),
        ),
        of(
            count,
            true,
            format!(r#""messages":[{{"role":"assistant","content":[{used}]}},{{"role":"user","content":"a"}}]"#),
        ),
        of(message, false, format!(r#""max_tokens":1,"messages":[{}]"#, messages(40, &parts(256, empty)))),
        of(response, true, asks(&deep)),
        of(response, false, asks(&too_long)),
        of(response, true, format!(r#""input":"Hi","tools":[{{"type":"function","name":"f","parameters":{deep}}}]"#)),
        of(response, true, format!(r#""input":[{}]"#, messages(20, &parts(256, short)))),
        of(response, false, format!(r#""input":[{}]"#, messages(40, &parts(256, short)))),
        of(|body| parse_tokenize(body).is_ok(), false, format!(r#""prompt":{too_long}"#)),
        of(|body| parse_detokenize(body).is_ok(), true, format!(r#""tokens":[{}]"#, repeated("1", 100_000))),
        of(|body| parse_embeddings(body).is_ok(), true, format!(r#""input":[{}]"#, repeated("1", 100_000))),
        of(|body| parse_embeddings(body).is_ok(), false, format!(r#""input":[{}]"#, repeated("\"a\"", 100_000))),
        of(
            |body| parse_rerank(body).is_ok(),
            false,
            format!(r#""query":"a","documents":[{}]"#, repeated("\"\"", 100_000)),
        ),
    ]
}

/// What `limits::memory_bytes_max` says of reading bodies.
#[test]
fn no_body_takes_more_memory_than_is_accounted_for() {
    const FACTOR: u64 = 4;
    assert!(peak_bytes(|| drop(vec![0_u8; 1 << 20])) >= 1 << 20, "allocations are counted");
    for Heavy { form, members, is_fine } in heavy() {
        let (body, begin) = (format!(r#"{{"model":"m",{members}}}"#), members.chars().take(120).collect::<String>());
        let peak = peak_bytes(|| assert_eq!(form(body.as_bytes()), is_fine, "{begin}"));
        assert!(peak <= FACTOR * body.len() as u64, "{peak} bytes for {} of {begin}", body.len());
    }
}
