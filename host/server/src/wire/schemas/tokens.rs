//! `POST /tokenize`, `POST /detokenize` and `POST /render`.

use serde_json::{Value, json};

use super::{Members, Schemas, any_of, any_text, chat_request, completion_request, flag, model, token, told};

pub(crate) fn tokenize_request(schemas: &mut Schemas) -> Value {
    let with = |text: &'static str| {
        let special = told(flag(), "With what a prompt begins with; true unless said otherwise.");
        let request = Members::new()
            .must(text, any_text())
            .may("model", model())
            .may("add_special_tokens", special.clone())
            .may("add_special", special)
            .may("return_token_strs", told(flag(), "What each token spells, too."))
            .may("parse_special", json!({"const": false}));
        request.object()
    };
    schemas.named("TokenizeRequest", any_of([with("prompt"), with("content")]))
}

pub(crate) fn detokenize_request(schemas: &mut Schemas) -> Value {
    let request = Members::new().must("tokens", json!({"type": "array", "items": token()})).may("model", model());
    schemas.named("DetokenizeRequest", request.object())
}

/// A chat's body, or a completion's of one prompt.
pub(crate) fn render_request(schemas: &mut Schemas) -> Value {
    any_of([chat_request(schemas), completion_request(schemas)])
}
