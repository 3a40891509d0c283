//! What holds for the parsers of all forms.

use proptest::prelude::*;

use super::{
    parse_chat, parse_completion, parse_count_tokens, parse_detokenize, parse_message, parse_render, parse_response,
    parse_tokenize,
};
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
