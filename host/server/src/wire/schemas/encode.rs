//! `POST /v1/embeddings` and `POST /v1/rerank`.

use serde_json::{Value, json};

use super::super::embeddings::Embeddings;
use super::super::rerank::Ranking;
use super::sampling::filled_tokens;
use super::{
    Members, Schemas, any_of, any_text, array, filled, flag, model, one_of_words, short_text, text_up_to, token_count,
    told,
};
use crate::limits;

pub(crate) fn embeddings_request(schemas: &mut Schemas) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let texts = filled(array(text.clone(), limits::INPUTS_MAX));
    let several = filled(array(filled_tokens(), limits::INPUTS_MAX));
    let request = Members::new()
        .must("model", model())
        .must("input", any_of([text, filled_tokens(), texts, several]))
        .may("dimensions", told(token_count(), "The first so many numbers of each vector, made as long as 1 again."))
        .may("encoding_format", one_of_words(&["float", "base64"]))
        .may("truncate", truncate())
        .may("user", short_text());
    schemas.named("EmbeddingRequest", request.object())
}

pub(crate) fn embeddings_answer(schemas: &mut Schemas) -> Value {
    schemas.of::<Embeddings<'_>>()
}

pub(crate) fn rerank_request(schemas: &mut Schemas) -> Value {
    let document = any_of([any_text(), Members::new().must("text", any_text()).object()]);
    let mut query = text_up_to(limits::QUERY_BYTES_MAX);
    query["minLength"] = json!(1);
    let request = Members::new()
        .must("model", model())
        .must("query", query)
        .must("documents", filled(array(document, limits::INPUTS_MAX)))
        .may("top_n", told(token_count(), "The best so many; without it all."))
        .may("return_documents", flag())
        .may("truncate", truncate())
        .may("user", short_text());
    schemas.named("RerankRequest", request.object())
}

pub(crate) fn rerank_answer(schemas: &mut Schemas) -> Value {
    schemas.of::<Ranking<'_>>()
}

fn truncate() -> Value {
    told(flag(), "Cuts off what the model does not take; without it what is too long is refused.")
}
