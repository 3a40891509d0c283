//! How tokens are chosen, and where an answer ends.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::{any_of, array, filled, flag, integer, or_null, text_up_to, token, told};
use crate::limits;

/// The members of `sampling::SamplingMembers`.
pub(super) fn sampling() -> Vec<(&'static str, Value)> {
    let breaker = filled_text(limits::DRY_BREAKER_BYTES_MAX);
    vec![
        ("temperature", told(number(limits::TEMPERATURE), "0 takes the likeliest token each time.")),
        ("top_k", told(integer(0..=limits::TOP_K_MAX), "0 keeps all tokens.")),
        ("top_p", number(limits::PROBABILITY)),
        ("min_p", number(limits::PROBABILITY)),
        ("typical_p", number(limits::PROBABILITY)),
        ("presence_penalty", number(limits::PENALTY)),
        ("frequency_penalty", number(limits::PENALTY)),
        ("repeat_penalty", number(limits::REPEAT_PENALTY)),
        ("repetition_penalty", told(number(limits::REPEAT_PENALTY), "Another name of `repeat_penalty`.")),
        ("dry_multiplier", told(number(limits::DRY_MULTIPLIER), "0 turns DRY off.")),
        ("dry_base", number(limits::DRY_BASE)),
        ("dry_allowed_length", integer(0..=limits::DRY_LENGTH_MAX)),
        ("dry_sequence_breakers", array(breaker, limits::DRY_BREAKERS_MAX)),
        ("logit_bias", logit_bias()),
        ("seed", integer(0..=u64::MAX)),
    ]
}

fn logit_bias() -> Value {
    json!({
        "type": "object",
        "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,9})$"},
        "additionalProperties": or_null(number(limits::LOGIT_BIAS)),
        "maxProperties": limits::LOGIT_BIASES_MAX,
        "description": "What is added to the logits of tokens, by their numbers.",
    })
}

/// The bounds with the digits that they have in decimal.
fn number(bounds: RangeInclusive<f32>) -> Value {
    let plain = |bound: &f32| bound.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(*bound));
    json!({"type": "number", "minimum": plain(bounds.start()), "maximum": plain(bounds.end())})
}

/// `stop` of the forms of OpenAI.
pub(super) fn stop() -> Value {
    told(any_of([stop_text(), stop_texts()]), "Texts that end the answer, which are not part of it.")
}

pub(super) fn stop_texts() -> Value {
    array(stop_text(), limits::STOP_TEXTS_MAX)
}

fn stop_text() -> Value {
    filled_text(limits::STOP_TEXT_BYTES_MAX)
}

fn filled_text(bytes_max: usize) -> Value {
    let mut text = text_up_to(bytes_max);
    text["minLength"] = json!(1);
    text
}

/// The members about ends and streams that chats and completions share.
pub(super) fn ending() -> Vec<(&'static str, Value)> {
    let usage = told(flag(), "An event before the last has the usage.");
    let options = super::Members::new().may("include_usage", usage).may("include_obfuscation", json!({"const": false}));
    vec![
        ("stop", stop()),
        ("stop_token_ids", array(token(), limits::STOP_TOKENS_MAX)),
        ("ignore_eos", told(flag(), "Goes on when the model would end.")),
        ("n", told(integer(1..=limits::N_MAX), "Answers to the prompt.")),
        ("stream", told(flag(), "Answers as server-sent events, while the model writes.")),
        ("stream_options", told(options.object(), "Beside `stream` only.")),
    ]
}

/// Bytes alone are what is counted here.
pub(super) fn filled_tokens() -> Value {
    filled(json!({"type": "array", "items": token()}))
}
