//! `POST /v1/completions`.

use serde_json::{Value, json};

use super::super::ErrorBody;
use super::super::completion_writer::Completion;
use super::sampling::{ending, filled_tokens, sampling};
use super::tools::formats;
use super::{Members, Schemas, any_of, array, filled, flag, integer, model, short_text, token_count, told};
use crate::limits;

pub(crate) fn completion_request(schemas: &mut Schemas) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let several = filled(array(any_of([text.clone(), filled_tokens()]), limits::COMPLETIONS_MAX as usize));
    let request = Members::new()
        .must("model", model())
        .must("prompt", told(any_of([text, filled_tokens(), several]), "What is completed: texts, or tokens of texts."))
        .may("max_tokens", token_count())
        .may("logprobs", told(integer(0..=limits::TOP_LOGPROBS_MAX), "The likeliest tokens at each place."))
        .may("best_of", told(integer(1..=limits::N_MAX), "The same as `n`: every answer is sent."))
        .may("echo", told(flag(), "Answers begin with the prompt, which is a text, and have no `logprobs`."))
        .may("user", short_text())
        .empty(&["suffix"])
        .and(ending())
        .and(sampling())
        .and(formats());
    schemas.named("CompletionRequest", request.object())
}

/// What a stream's `data` lines hold too.
pub(crate) fn completion_answer(schemas: &mut Schemas) -> Value {
    schemas.of::<Completion<'_>>()
}

pub(crate) fn completion_event(schemas: &mut Schemas) -> Value {
    any_of([schemas.of::<Completion<'_>>(), schemas.of::<ErrorBody>()])
}
