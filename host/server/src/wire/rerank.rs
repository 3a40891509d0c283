//! `POST /v1/rerank`, in the form that Jina and Cohere share.

use schemars::JsonSchema;
use serde::Serialize;

use super::Refusal;
use super::embeddings::InputUsage;
use super::members::{Kind, Member};
use super::request::missing;
use crate::limits;
use crate::service::{Outputs, RankingRequest};

/// How the client wants its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RerankOptions {
    /// `top_n`: the best so many; `None`: all.
    top: Option<usize>,
    /// `return_documents`: the documents' texts where the client wants them back.
    documents: Option<Vec<String>>,
}

/// Parses a body.
pub(crate) fn parse_rerank(body: &[u8]) -> Result<(RankingRequest, RerankOptions), Refusal> {
    let (mut model, mut query, mut documents, mut top) = (None, None, None, None);
    let (mut truncate, mut returns_documents) = (false, false);
    for (name, value) in Member::body_of(body, limits::JSON_DEPTH_MAX)?.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "query" => query = Some(parse_query(&value)?),
            "documents" => documents = Some(parse_documents(&value)?),
            "top_n" => top = Some(value.count(1..=u64::from(u32::MAX))? as usize),
            "return_documents" => returns_documents = value.flag()?,
            "truncate" => truncate = value.flag()?,
            "user" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    let documents = documents.ok_or_else(|| missing("documents", "an array of texts"))?;
    let options = RerankOptions { top, documents: returns_documents.then(|| documents.clone()) };
    let request = RankingRequest {
        model: model.ok_or_else(|| missing("model", "the name of a model; GET /v1/models lists what is served"))?,
        query: query.ok_or_else(|| missing("query", "a text"))?,
        documents,
        truncate,
    };
    Ok((request, options))
}

fn parse_query(query: &Member<'_>) -> Result<String, Refusal> {
    match query.text(usize::MAX)? {
        text if text.is_empty() => Err(query.wrong("must not be empty")),
        text if text.len() > limits::QUERY_BYTES_MAX => {
            Err(query.wrong(&format!("must be at most {} bytes long, it has {}", limits::QUERY_BYTES_MAX, text.len())))
        }
        text => Ok(text),
    }
}

/// Texts, as they are or as `{"text": "…"}`.
fn parse_documents(documents: &Member<'_>) -> Result<Vec<String>, Refusal> {
    let items = documents.array(limits::INPUTS_MAX)?;
    if items.is_empty() {
        return Err(documents.wrong("must not be empty"));
    }
    let text = |document: &Member<'_>| match document.kind() {
        Kind::Text => document.text(usize::MAX),
        Kind::Object => match document.object()?.as_slice() {
            [(name, text)] if name == "text" => text.text(usize::MAX),
            _ => Err(document.wrong("must have one member, `text`")),
        },
        Kind::Array | Kind::Other => Err(document.wrong("must be a text or {\"text\": \"…\"}")),
    };
    items.iter().map(text).collect()
}

/// The answer's body: the best first; of two alike the one that came first.
pub(crate) fn write_rerank(id: &str, outputs: &Outputs, options: &RerankOptions) -> String {
    let scores: Vec<f32> = outputs.outputs.iter().map(|output| output.first().copied().unwrap_or(0.0)).collect();
    let text = |index: usize| Some(Document { text: options.documents.as_ref()?.get(index)? });
    let results = ranking(&scores, options.top).map(|index| RankedDocument {
        index,
        relevance_score: scores[index],
        document: text(index),
    });
    let body = Ranking {
        id: format!("rerank-{id}"),
        object: "list",
        model: &outputs.model,
        results: results.collect(),
        usage: InputUsage::of(outputs),
    };
    serde_json::to_string(&body).expect("strings and finite numbers serialise")
}

fn ranking(scores: &[f32], top: Option<usize>) -> impl Iterator<Item = usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.into_iter().take(top.unwrap_or(usize::MAX))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ranking")]
pub(super) struct Ranking<'a> {
    id: String,
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    model: &'a str,
    results: Vec<RankedDocument<'a>>,
    usage: InputUsage,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RankedDocument")]
struct RankedDocument<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Document")]
struct Document<'a> {
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_only_so_many() {
        let ranked = |top| ranking(&[0.5, 0.9, 0.5, 0.1], top).collect::<Vec<_>>();
        assert_eq!(ranked(None), [1, 0, 2, 3]);
        assert_eq!(ranked(Some(2)), [1, 0]);
        assert_eq!(ranked(Some(9)), [1, 0, 2, 3]);
    }

    #[test]
    fn a_document_is_a_text_in_two_forms() {
        let body =
            br#"{"model": "m", "query": "q", "documents": ["a", {"text": ""}], "top_n": 1, "return_documents": true}"#;
        let (request, options) = parse_rerank(body).expect("a request");
        assert_eq!((request.query.as_str(), request.documents), ("q", vec!["a".to_owned(), String::new()]));
        assert_eq!(options, RerankOptions { top: Some(1), documents: Some(vec!["a".to_owned(), String::new()]) });
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (members, expected) in [
            (r#""query": "q", "documents": []"#, "`documents` must not be empty"),
            (r#""query": "", "documents": ["a"]"#, "`query` must not be empty"),
            (r#""query": "q", "documents": ["a", 1]"#, "`documents[1]` must be a text or {\"text\": \"…\"}"),
            (r#""query": "q", "documents": [{"title": "t"}]"#, "`documents[0]` must have one member, `text`"),
            (
                r#""query": "q", "documents": ["a"], "top_n": 0"#,
                "`top_n` must be an integer from 1 to 4294967295, it is 0",
            ),
            (r#""documents": ["a"]"#, "`query` is required: a text"),
            (r#""query": "q""#, "`documents` is required: an array of texts"),
            (r#""query": "q", "rank_fields": []"#, "`rank_fields` is not a known member of this request; remove it"),
        ] {
            let body = format!(r#"{{"model": "m", {members}}}"#);
            assert_eq!(parse_rerank(body.as_bytes()).expect_err(members).message, expected);
        }
    }
}
