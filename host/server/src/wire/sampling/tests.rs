use inference::ChatRequest;

use super::*;
use crate::service::Defaults;
use crate::wire::parse_chat;

fn parse(members: &str) -> Result<ChatRequest, Refusal> {
    parse_with(members, &Defaults::default())
}

fn parse_with(members: &str, defaults: &Defaults) -> Result<ChatRequest, Refusal> {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{members}}}"#);
    parse_chat(body.as_bytes(), defaults).map(|parsed| parsed.asked.request)
}

fn accepted(members: &str) -> ChatRequest {
    parse(members).unwrap_or_else(|refusal| panic!("{members} is refused: {refusal:?}"))
}

fn check_refused(members: &str, param: &str, message: &str) {
    let refusal = parse(members).err().unwrap_or_else(|| panic!("{members} is accepted"));
    let said = (refusal.code, refusal.param.as_deref(), refusal.message.as_str());
    assert_eq!(said, ("invalid_value", Some(param), message));
}

#[test]
fn what_a_request_does_not_say_is_as_the_operator_says() {
    let dry = Dry { multiplier: 0.5, base: 3.0, ..Dry::default() };
    let logit_bias = vec![(Token(7), 1.0)];
    let sampling = Sampling { typical_p: 0.9, dry: Some(dry.clone()), logit_bias, ..Sampling::default() };
    let defaults = Defaults { sampling: sampling.clone(), max_tokens: None };
    assert_eq!(parse_with(r#""stop":[]"#, &defaults).expect("accepted").sampling, sampling);
    let changed = parse_with(r#""dry_base":2,"typical_p":1,"logit_bias":{}"#, &defaults).expect("accepted").sampling;
    assert_eq!(changed.dry, Some(Dry { base: 2.0, ..dry }));
    assert_eq!((changed.typical_p.to_bits(), changed.logit_bias.len()), (1.0_f32.to_bits(), 0));
    assert_eq!(parse_with(r#""dry_multiplier":0"#, &defaults).expect("accepted").sampling.dry, None);
}

#[test]
fn dry_is_on_with_its_multiplier() {
    assert_eq!(accepted(r#""dry_base":2,"dry_sequence_breakers":["x"]"#).sampling.dry, None);
    assert_eq!(
        accepted(r#""dry_multiplier":0.8"#).sampling.dry,
        Some(Dry {
            multiplier: 0.8,
            base: 1.75,
            allowed_length: 2,
            sequence_breakers: vec!["\n".to_owned(), ":".to_owned(), "\"".to_owned(), "*".to_owned()],
        })
    );
    let all = r#""dry_multiplier":1,"dry_base":1.5,"dry_allowed_length":0,"dry_sequence_breakers":["é","\n\n"]"#;
    let sequence_breakers = vec!["é".to_owned(), "\n\n".to_owned()];
    let expected = Dry { multiplier: 1.0, base: 1.5, allowed_length: 0, sequence_breakers };
    assert_eq!(accepted(all).sampling.dry, Some(expected));
    assert_eq!(
        accepted(r#""dry_multiplier":1,"dry_sequence_breakers":[]"#).sampling.dry.expect("on").sequence_breakers.len(),
        0
    );
}

#[test]
fn numbers_have_bounds() {
    for (name, low, high) in [
        ("typical_p", "-0.1", "1.1"),
        ("dry_multiplier", "-1", "1e3"),
        ("dry_base", "0.9", "1e39"),
        ("dry_allowed_length", "-1", "1000001"),
        ("top_logprobs", "-1", "21"),
    ] {
        for value in [low, high, "\"1\"", "[1]", "NaN", "1e999"] {
            let members = format!(r#""logprobs":true,"{name}":{value}"#);
            let refusal = parse(&members).err().unwrap_or_else(|| panic!("{members} is accepted"));
            // What is no JSON at all is refused before anybody looks at members.
            let param = (value != "NaN").then_some(name);
            assert_eq!(refusal.param.as_deref(), param, "{members}: {}", refusal.message);
        }
    }
    check_refused(r#""dry_base":0.5"#, "dry_base", "`dry_base` must be a number from 1 to 100, it is 0.5");
}

#[test]
fn biases_are_openais_map() {
    assert_eq!(
        accepted(r#""logit_bias":{"50256":-100,"0":100,"7":0.5,"8":null}"#).sampling.logit_bias,
        [(Token(0), 100.0), (Token(7), 0.5), (Token(50_256), -100.0)]
    );
    assert!(accepted(r#""logit_bias":{}"#).sampling.logit_bias.is_empty());
    for (name, param) in [
        ("x", "logit_bias.x"),
        ("-1", "logit_bias.-1"),
        ("+1", "logit_bias.+1"),
        ("01", "logit_bias.01"),
        (" 1", "logit_bias. 1"),
        ("1.0", "logit_bias.1.0"),
        ("4294967296", "logit_bias.4294967296"),
        ("", "logit_bias."),
    ] {
        let message = format!("`{param}` must be named by the number of a token of the model's vocabulary");
        check_refused(&format!(r#""logit_bias":{{"{name}":1}}"#), param, &message);
    }
    for (bias, what) in [("101", "101"), ("-100.5", "-100.5"), ("1e300", "1e300")] {
        let what: f64 = what.parse().expect("a number");
        let message = format!("`logit_bias.5` must be a number from -100 to 100, it is {what}");
        check_refused(&format!(r#""logit_bias":{{"5":{bias}}}"#), "logit_bias.5", &message);
    }
    let message = "`logit_bias.5` must be a number from -100 to 100";
    check_refused(r#""logit_bias":{"5":true}"#, "logit_bias.5", message);
    check_refused(r#""logit_bias":[[5,1]]"#, "logit_bias", "`logit_bias` must be an object");
    check_refused(r#""logit_bias":{"5":1,"5":2}"#, "logit_bias", "`logit_bias` names the member `5` twice");
}

#[test]
fn maps_and_lists_have_bounds() {
    let biases = |count: usize| {
        let biases: Vec<String> = (0..count).map(|token| format!("\"{token}\":1")).collect();
        format!(r#""logit_bias":{{{}}}"#, biases.join(","))
    };
    assert_eq!(accepted(&biases(1000)).sampling.logit_bias.len(), 1000);
    check_refused(&biases(1001), "logit_bias", "`logit_bias` must have at most 1000 tokens, it has 1001");
    check_refused(&biases(200_000), "logit_bias", "`logit_bias` must have at most 1000 tokens, it has 200000");

    let list = |name: &str, item: &str, count: usize| format!(r#""{name}":[{}]"#, vec![item; count].join(","));
    assert_eq!(accepted(&list("stop_token_ids", "4294967295", 16)).stop_tokens, [Token(u32::MAX); 16]);
    for name in ["stop_token_ids", "dry_sequence_breakers", "stop"] {
        let item = if name == "stop_token_ids" { "1" } else { "\"x\"" };
        for count in [17, 100_000] {
            check_refused(
                &list(name, item, count),
                name,
                &format!("`{name}` must have at most 16 items, it has {count}"),
            );
        }
    }
    for id in ["-1", "4294967296", "1.5", "\"1\"", "null"] {
        let refusal = parse(&format!(r#""stop_token_ids":[{id}]"#)).expect_err("no token");
        assert_eq!(refusal.param.as_deref(), Some("stop_token_ids[0]"), "{id}");
    }
    check_refused(r#""stop_token_ids":1"#, "stop_token_ids", "`stop_token_ids` must be an array");
    let long = format!(r#""dry_sequence_breakers":["{}"]"#, "x".repeat(41));
    let place = "dry_sequence_breakers[0]";
    check_refused(&long, place, "`dry_sequence_breakers[0]` must be at most 40 bytes long, it has 41");
    let message = "`dry_sequence_breakers[0]` must not be empty: every text would break every sequence";
    check_refused(r#""dry_sequence_breakers":[""]"#, place, message);
}

#[test]
fn log_probabilities_are_asked_for_in_two_members() {
    assert_eq!(accepted(r#""logprobs":false"#).logprobs, None);
    assert_eq!(accepted(r#""top_logprobs":0"#).logprobs, None);
    assert_eq!(accepted(r#""logprobs":true"#).logprobs, Some(0));
    assert_eq!(accepted(r#""top_logprobs":20,"logprobs":true"#).logprobs, Some(20));
    let message = "`top_logprobs` is for log probabilities; set `logprobs` to true";
    check_refused(r#""top_logprobs":2"#, "top_logprobs", message);
    check_refused(r#""logprobs":false,"top_logprobs":2"#, "top_logprobs", message);
    // The older completions endpoint has a number here.
    check_refused(r#""logprobs":5"#, "logprobs", "`logprobs` must be true or false");
}

#[test]
fn the_end_is_ignored_where_asked() {
    assert!(accepted(r#""ignore_eos":true"#).ignore_end);
    assert!(!accepted(r#""ignore_eos":false"#).ignore_end);
    check_refused(r#""ignore_eos":1"#, "ignore_eos", "`ignore_eos` must be true or false");
}
