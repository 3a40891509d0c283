//! The parts of a request that have no field in the WIT file: they travel as named JSON in `request.extra`, under their
//! names in a request body.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use inference::{ChatRequest, Dry, Sampling, Token, ToolChoice};

use crate::fault::Fault;
use crate::limits::{
    DRY_BASE_MAX, DRY_BREAKER_BYTES_MAX, DRY_BREAKERS_MAX, DRY_LENGTH_MAX, DRY_MULTIPLIER_MAX, LOGIT_BIASES_MAX,
    STOP_TOKENS_MAX, TOP_LOGPROBS_MAX,
};
use crate::tool_choice;

const TEMPLATE_ARGUMENTS: &str = "chat_template_kwargs";
const TOOL_CHOICE: &str = "tool_choice";

/// The numbers of [`Sampling`] that the WIT file's record does not have.
struct Number {
    name: &'static str,
    of: fn(&mut Sampling) -> &mut f32,
    bounds: RangeInclusive<f32>,
}

const NUMBERS: [Number; 4] = [
    Number { name: "presence_penalty", of: |sampling| &mut sampling.presence_penalty, bounds: -2.0..=2.0 },
    Number { name: "frequency_penalty", of: |sampling| &mut sampling.frequency_penalty, bounds: -2.0..=2.0 },
    Number { name: "repeat_penalty", of: |sampling| &mut sampling.repeat_penalty, bounds: 0.01..=2.0 },
    Number { name: "typical_p", of: |sampling| &mut sampling.typical_p, bounds: 0.0..=1.0 },
];

/// What a request has beyond the contract's fields, as policies see it in `extra`: names and JSON. What is as usual is left out.
#[must_use]
pub fn of(request: &ChatRequest) -> Vec<(String, String)> {
    let mut extra = Vec::new();
    let mut say = |name: &str, json: String| extra.push((name.to_owned(), json));
    if !matches!(request.template_arguments.trim(), "" | "{}") {
        say(TEMPLATE_ARGUMENTS, request.template_arguments.clone());
    }
    let (mut sampling, mut usual) = (request.sampling.clone(), Sampling::default());
    for Number { name, of, .. } in NUMBERS {
        let value = *of(&mut sampling);
        if value.to_bits() != of(&mut usual).to_bits() {
            say(name, value.to_string());
        }
    }
    if let Some(Dry { multiplier, base, allowed_length, sequence_breakers }) = &request.sampling.dry {
        say("dry_multiplier", multiplier.to_string());
        say("dry_base", base.to_string());
        say("dry_allowed_length", allowed_length.to_string());
        say("dry_sequence_breakers", serde_json::Value::from(sequence_breakers.as_slice()).to_string());
    }
    if !request.sampling.logit_bias.is_empty() {
        let biases = request.sampling.logit_bias.iter().map(|(token, bias)| format!("\"{}\":{bias}", token.0));
        say("logit_bias", format!("{{{}}}", biases.collect::<Vec<_>>().join(",")));
    }
    if !request.stop_tokens.is_empty() {
        let tokens: Vec<u32> = request.stop_tokens.iter().map(|token| token.0).collect();
        say("stop_token_ids", serde_json::Value::from(tokens).to_string());
    }
    if request.ignore_end {
        say("ignore_eos", true.to_string());
    }
    if request.tool_choice != ToolChoice::Auto {
        say(TOOL_CHOICE, tool_choice::json(&request.tool_choice));
    }
    if !request.parallel_tool_calls {
        say("parallel_tool_calls", false.to_string());
    }
    if let Some(top) = request.logprobs {
        say("logprobs", true.to_string());
        say("top_logprobs", top.to_string());
    }
    extra
}

/// Sets what `extra` says; what it leaves out is as usual again.
pub(crate) fn apply(extra: &[(String, String)], request: &mut ChatRequest) -> Result<(), Fault> {
    let mut usual = Sampling::default();
    "{}".clone_into(&mut request.template_arguments);
    for Number { of, .. } in NUMBERS {
        *of(&mut request.sampling) = *of(&mut usual);
    }
    request.sampling.logit_bias.clear();
    request.stop_tokens.clear();
    request.ignore_end = false;
    (request.tool_choice, request.parallel_tool_calls) = (ToolChoice::Auto, true);
    let (mut dry, mut has_logprobs, mut top_logprobs) = (Dry::default(), false, 0);
    for (name, json) in extra {
        let member = Member { name, json };
        match name.as_str() {
            TEMPLATE_ARGUMENTS => request.template_arguments = member.object()?,
            "dry_multiplier" => dry.multiplier = member.number(0.0..=DRY_MULTIPLIER_MAX)?,
            "dry_base" => dry.base = member.number(1.0..=DRY_BASE_MAX)?,
            "dry_allowed_length" => dry.allowed_length = member.count(DRY_LENGTH_MAX)?,
            "dry_sequence_breakers" => dry.sequence_breakers = member.breakers()?,
            "logit_bias" => request.sampling.logit_bias = member.biases()?,
            "stop_token_ids" => request.stop_tokens = member.tokens()?,
            "ignore_eos" => request.ignore_end = member.flag()?,
            TOOL_CHOICE => request.tool_choice = member.tool_choice()?,
            "parallel_tool_calls" => request.parallel_tool_calls = member.flag()?,
            "logprobs" => has_logprobs = member.flag()?,
            "top_logprobs" => top_logprobs = member.count(TOP_LOGPROBS_MAX)?,
            _ => match NUMBERS.iter().find(|number| number.name == name) {
                Some(Number { of, bounds, .. }) => *of(&mut request.sampling) = member.number(bounds.clone())?,
                None => return Err(member.wrong("an extra member, which this host does not know")),
            },
        }
    }
    request.sampling.dry = (dry.multiplier > 0.0).then_some(dry);
    request.logprobs = has_logprobs.then_some(top_logprobs);
    Ok(())
}

/// Tokens that `request` names and `original` does not, where the vocabulary has no such token. What the client itself
/// asked for is the client's to be told of.
pub(crate) fn check_tokens(request: &ChatRequest, original: &ChatRequest, vocabulary_size: u32) -> Result<(), Fault> {
    let named = |request: &ChatRequest| -> Vec<Token> {
        let biased = request.sampling.logit_bias.iter().map(|&(token, _)| token);
        biased.chain(request.stop_tokens.iter().copied()).collect()
    };
    let given = named(original);
    match named(request).into_iter().find(|token| token.0 >= vocabulary_size && !given.contains(token)) {
        Some(Token(token)) => Err(Fault::contract(format!(
            "a replaced request names token {token}, and the vocabulary has {vocabulary_size}"
        ))),
        None => Ok(()),
    }
}

/// A pair of `extra`: what a guest says, checked like a request at the door.
struct Member<'a> {
    name: &'a str,
    json: &'a str,
}

impl Member<'_> {
    fn number(&self, bounds: RangeInclusive<f32>) -> Result<f32, Fault> {
        let number = serde_json::from_str(self.json).ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| {
            self.wrong(&format!("something that is not a number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    fn count(&self, max: u32) -> Result<u32, Fault> {
        let count = serde_json::from_str(self.json).ok().filter(|&count| count <= max);
        count.ok_or_else(|| self.wrong(&format!("something that is not an integer from 0 to {max}")))
    }

    fn flag(&self) -> Result<bool, Fault> {
        serde_json::from_str(self.json).map_err(|_| self.wrong("something that is neither true nor false"))
    }

    fn tool_choice(&self) -> Result<ToolChoice, Fault> {
        tool_choice::parse(self.json).ok_or_else(|| self.wrong("something that is no choice of a tool"))
    }

    fn object(&self) -> Result<String, Fault> {
        let is_object = serde_json::from_str::<serde_json::Value>(self.json).is_ok_and(|value| value.is_object());
        if is_object { Ok(self.json.to_owned()) } else { Err(self.wrong("something that is not a JSON object")) }
    }

    fn biases(&self) -> Result<Vec<(Token, f32)>, Fault> {
        let is_fine = |biases: &BTreeMap<u32, f32>| {
            biases.len() <= LOGIT_BIASES_MAX && biases.values().all(|bias| (-100.0..=100.0).contains(bias))
        };
        let biases = serde_json::from_str(self.json).ok().filter(is_fine).ok_or_else(|| {
            self.wrong(&format!("something that is not at most {LOGIT_BIASES_MAX} tokens with biases from -100 to 100"))
        })?;
        Ok(biases.into_iter().map(|(token, bias)| (Token(token), bias)).collect())
    }

    fn tokens(&self) -> Result<Vec<Token>, Fault> {
        let tokens = serde_json::from_str(self.json).ok().filter(|tokens: &Vec<u32>| tokens.len() <= STOP_TOKENS_MAX);
        let tokens =
            tokens.ok_or_else(|| self.wrong(&format!("something that is not at most {STOP_TOKENS_MAX} tokens")))?;
        Ok(tokens.into_iter().map(Token).collect())
    }

    fn breakers(&self) -> Result<Vec<String>, Fault> {
        let is_fine = |texts: &Vec<String>| {
            texts.len() <= DRY_BREAKERS_MAX
                && texts.iter().all(|text| (1..=DRY_BREAKER_BYTES_MAX).contains(&text.len()))
        };
        serde_json::from_str(self.json).ok().filter(is_fine).ok_or_else(|| {
            self.wrong(&format!(
                "something that is not at most {DRY_BREAKERS_MAX} texts of 1 to {DRY_BREAKER_BYTES_MAX} bytes"
            ))
        })
    }

    fn wrong(&self, what: &str) -> Fault {
        Fault::contract(format!("a replaced request has `{}` as {what}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> ChatRequest {
        ChatRequest {
            operation: inference::Operation::Chat,
            model: "m".to_owned(),
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_end: false,
            logprobs: None,
            format: None,
            streaming: false,
            template_arguments: "{}".to_owned(),
        }
    }

    fn calls() -> ChatRequest {
        ChatRequest { tool_choice: ToolChoice::Named("f".to_owned()), parallel_tool_calls: false, ..usual() }
    }

    fn unusual() -> ChatRequest {
        let sampling = Sampling {
            presence_penalty: 0.1,
            typical_p: 0.3,
            dry: Some(Dry {
                multiplier: 0.7,
                base: 1.1,
                allowed_length: 9,
                sequence_breakers: vec!["\"\n".to_owned()],
            }),
            logit_bias: vec![(Token(5), -100.0), (Token(70), 0.1)],
            ..Sampling::default()
        };
        let stop_tokens = vec![Token(9), Token(1)];
        let template_arguments = r#"{"a":1}"#.to_owned();
        ChatRequest { sampling, stop_tokens, ignore_end: true, logprobs: Some(3), template_arguments, ..calls() }
    }

    #[test]
    fn what_is_said_is_said_back() {
        assert_eq!(of(&usual()), []);
        for logprobs in [None, Some(0), Some(20)] {
            let request = ChatRequest { logprobs, ..unusual() };
            let mut read = usual();
            apply(&of(&request), &mut read).expect("the host's own words");
            assert_eq!(read, request);
        }
        let mut read = unusual();
        apply(&[], &mut read).expect("nothing is said");
        assert_eq!(read, usual(), "what is left out is as usual again");
    }

    #[test]
    fn the_names_are_those_of_a_request_body() {
        let said: Vec<String> = of(&unusual()).into_iter().map(|(name, json)| format!("{name}={json}")).collect();
        let expected = [
            r#"chat_template_kwargs={"a":1}"#,
            "presence_penalty=0.1",
            "typical_p=0.3",
            "dry_multiplier=0.7",
            "dry_base=1.1",
            "dry_allowed_length=9",
            r#"dry_sequence_breakers=["\"\n"]"#,
            r#"logit_bias={"5":-100,"70":0.1}"#,
            "stop_token_ids=[9,1]",
            "ignore_eos=true",
            r#"tool_choice={"type":"function","function":{"name":"f"}}"#,
            "parallel_tool_calls=false",
            "logprobs=true",
            "top_logprobs=3",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_a_client_could_not_say_a_plugin_cannot_either() {
        let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        let map = (0..1001).map(|token| format!("\"{token}\":1")).collect::<Vec<_>>().join(",");
        for (name, json) in [
            ("presence_penalty", "2.1"),
            ("frequency_penalty", "NaN"),
            ("repeat_penalty", "0"),
            ("typical_p", "-0.1"),
            ("typical_p", "\"1\""),
            ("dry_multiplier", "inf"),
            ("dry_multiplier", "101"),
            ("dry_base", "0.5"),
            ("dry_allowed_length", "-1"),
            ("dry_sequence_breakers", r#"[""]"#),
            ("dry_sequence_breakers", &format!("[\"{}\"]", "x".repeat(41))),
            ("dry_sequence_breakers", &many("\"x\"", 17)),
            ("logit_bias", r#"{"5":101}"#),
            ("logit_bias", r#"{"x":1}"#),
            ("logit_bias", r#"{"-5":1}"#),
            ("logit_bias", "[]"),
            ("logit_bias", &format!("{{{map}}}")),
            ("stop_token_ids", &many("1", 17)),
            ("stop_token_ids", "[4294967296]"),
            ("ignore_eos", "1"),
            ("tool_choice", "\"any\""),
            ("tool_choice", r#"{"type":"function","function":{}}"#),
            ("parallel_tool_calls", "null"),
            ("logprobs", "5"),
            ("top_logprobs", "21"),
            ("chat_template_kwargs", "[]"),
            ("lora", "{}"),
            ("logit_bias", ""),
        ] {
            let extra = [(name.to_owned(), json.to_owned())];
            let fault = apply(&extra, &mut usual()).err().unwrap_or_else(|| panic!("{name} = {json} is accepted"));
            assert!(fault.detail.contains(&format!("`{name}`")), "{}", fault.detail);
        }
    }

    #[test]
    fn tokens_that_a_plugin_brings_have_to_be_there() {
        let with = |logit_bias: &[u32], stop_tokens: &[u32]| {
            let logit_bias = logit_bias.iter().map(|&token| (Token(token), 1.0)).collect();
            let stop_tokens = stop_tokens.iter().map(|&token| Token(token)).collect();
            ChatRequest { sampling: Sampling { logit_bias, ..Sampling::default() }, stop_tokens, ..usual() }
        };
        let check = |new, original| check_tokens(&new, &original, 100).is_ok();
        assert!(check(with(&[99], &[0]), with(&[], &[])));
        assert!(!check(with(&[100], &[]), with(&[], &[])));
        assert!(!check(with(&[], &[100]), with(&[], &[])));
        assert!(check(with(&[500], &[600]), with(&[500], &[600])), "the client is told of its own");
    }
}
