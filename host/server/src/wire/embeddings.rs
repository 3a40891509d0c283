//! `POST /v1/embeddings`, in OpenAI's form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use inference::Token;
use schemars::JsonSchema;
use serde::Serialize;

use super::Refusal;
use super::members::{Kind, Member};
use super::request::missing;
use crate::limits;
use crate::service::{EmbeddingRequest, Input, Outputs};

/// How the client wants its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodingFormat {
    /// Arrays of numbers.
    Float,
    /// The numbers' bytes, four each and the lowest first, as base64: what OpenAI's clients ask for by themselves.
    Base64,
}

/// Parses a body.
pub(crate) fn parse_embeddings(body: &[u8]) -> Result<(EmbeddingRequest, EncodingFormat), Refusal> {
    let (mut model, mut inputs, mut dimensions) = (None, None, None);
    let (mut truncate, mut format) = (false, EncodingFormat::Float);
    for (name, value) in Member::body_of(body, limits::JSON_DEPTH_MAX)?.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "input" => inputs = Some(parse_input(&value)?),
            "dimensions" => dimensions = Some(value.count(1..=u64::from(u32::MAX))?),
            "encoding_format" => format = parse_format(&value)?,
            // Ours: OpenAI's own models refuse what is too long.
            "truncate" => truncate = value.flag()?,
            // Who asks, for an operator's statistics at OpenAI.
            "user" => drop(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            _ => return Err(value.unknown()),
        }
    }
    let request = EmbeddingRequest {
        model: model.ok_or_else(|| missing("model", "the name of a model; GET /v1/models lists what is served"))?,
        inputs: inputs.ok_or_else(|| missing("input", "a text or an array of texts"))?,
        dimensions,
        truncate,
    };
    Ok((request, format))
}

fn parse_format(format: &Member<'_>) -> Result<EncodingFormat, Refusal> {
    match format.text(limits::SHORT_TEXT_BYTES_MAX)?.as_str() {
        "float" => Ok(EncodingFormat::Float),
        "base64" => Ok(EncodingFormat::Base64),
        _ => Err(format.wrong("must be \"float\" or \"base64\"")),
    }
}

/// A text, its tokens, or an array of either.
fn parse_input(input: &Member<'_>) -> Result<Vec<Input>, Refusal> {
    let expected = "must be a text, an array of texts, an array of tokens, or an array of arrays of tokens";
    match input.kind() {
        Kind::Text => Ok(vec![text(input)?]),
        Kind::Array if input.is_empty() => Err(input.wrong("must not be empty")),
        Kind::Array if input.starts_with_number() => Ok(vec![tokens(input)?]),
        Kind::Array => {
            let items = input.array(limits::INPUTS_MAX)?;
            let of_texts = items.iter().all(|item| item.kind() == Kind::Text);
            let of_tokens = items.iter().all(|item| item.kind() == Kind::Array);
            match (of_texts, of_tokens) {
                (true, _) => items.iter().map(text).collect(),
                (_, true) => items.iter().map(tokens).collect(),
                _ => Err(input.wrong(expected)),
            }
        }
        Kind::Object | Kind::Other => Err(input.wrong(expected)),
    }
}

fn text(member: &Member<'_>) -> Result<Input, Refusal> {
    match member.text(usize::MAX)? {
        text if text.is_empty() => Err(member.wrong("must not be empty")),
        text => Ok(Input::Text(text)),
    }
}

fn tokens(member: &Member<'_>) -> Result<Input, Refusal> {
    match member.numbers()? {
        tokens if tokens.is_empty() => Err(member.wrong("must not be empty")),
        tokens => Ok(Input::Tokens(tokens.into_iter().map(Token).collect())),
    }
}

/// The answer's body.
pub(crate) fn write_embeddings(outputs: &Outputs, format: EncodingFormat) -> String {
    let vector = |vector| match format {
        EncodingFormat::Float => Vector::Floats(vector),
        EncodingFormat::Base64 => Vector::Base64(base64(vector)),
    };
    let data = outputs.outputs.iter().enumerate();
    let body = Embeddings {
        object: "list",
        data: data.map(|(index, it)| Embedding { object: "embedding", index, vector: vector(it) }).collect(),
        model: &outputs.model,
        usage: InputUsage::of(outputs),
    };
    serde_json::to_string(&body).expect("strings and finite numbers serialise")
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64.encode(bytes)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EmbeddingList")]
pub(super) struct Embeddings<'a> {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: InputUsage,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Embedding")]
struct Embedding<'a> {
    #[schemars(extend("const" = "embedding"))]
    object: &'static str,
    index: usize,
    #[serde(rename = "embedding")]
    vector: Vector<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Vector")]
#[serde(untagged)]
enum Vector<'a> {
    Floats(&'a [f32]),
    Base64(String),
}

/// Tokens of requests that complete nothing.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InputUsage")]
pub(super) struct InputUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl InputUsage {
    pub(super) fn of(outputs: &Outputs) -> Self {
        Self { prompt_tokens: outputs.prompt_tokens, total_tokens: outputs.prompt_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(input: &str) -> Result<Vec<Input>, String> {
        let body = format!(r#"{{"model": "m", "input": {input}}}"#);
        parse_embeddings(body.as_bytes()).map(|(request, _)| request.inputs).map_err(|refusal| refusal.message)
    }

    #[test]
    fn an_input_is_said_in_four_ways() {
        let text = |text: &str| Input::Text(text.to_owned());
        let tokens = |tokens: &[u32]| Input::Tokens(tokens.iter().copied().map(Token).collect());
        assert_eq!(inputs(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(inputs(r#"["a", "b"]"#), Ok(vec![text("a"), text("b")]));
        assert_eq!(inputs("[ 1, 2]"), Ok(vec![tokens(&[1, 2])]));
        assert_eq!(inputs("[[1], [2, 3]]"), Ok(vec![tokens(&[1]), tokens(&[2, 3])]));
    }

    #[test]
    fn another_input_is_refused_by_its_place() {
        for (input, problem) in [
            ("[]", "`input` must not be empty"),
            (r#""""#, "`input` must not be empty"),
            (r#"["a", ""]"#, "`input[1]` must not be empty"),
            ("[[1], []]", "`input[1]` must not be empty"),
            (r#"["a", [1]]"#, "`input` must be a text, an array of texts"),
            ("[1, -1]", "`input` must be an array of whole numbers"),
            ("[[1.5]]", "`input[0]` must be an array of whole numbers"),
            ("[4294967296]", "`input` must be an array of whole numbers"),
            ("{}", "`input` must be a text"),
            ("7", "`input` must be a text"),
            ("null", "`input` is required"),
        ] {
            let message = inputs(input).expect_err(input);
            assert!(message.starts_with(problem), "{input}: {message}");
        }
        let many = serde_json::to_string(&vec!["a"; limits::INPUTS_MAX + 1]).expect("strings");
        assert_eq!(inputs(&many), Err("`input` must have at most 2048 items, it has 2049".to_owned()));
    }

    fn refusal(members: &str) -> String {
        let body = format!(r#"{{"model": "m", "input": "a", {members}}}"#);
        parse_embeddings(body.as_bytes()).map_or_else(|refusal| refusal.message, |_| "accepted".to_owned())
    }

    #[test]
    fn other_members_are_taken_or_refused_by_name() {
        for (members, expected) in [
            (r#""encoding_format": "base64", "user": "me", "dimensions": 3, "truncate": true"#, "accepted"),
            (r#""encoding_format": "hex""#, "`encoding_format` must be \"float\" or \"base64\""),
            (r#""dimensions": 0"#, "`dimensions` must be an integer from 1 to 4294967295, it is 0"),
            (r#""stream": true"#, "`stream` is not a known member of this request; remove it"),
        ] {
            assert_eq!(refusal(members), expected);
        }
    }

    #[test]
    fn base64_is_of_little_endian_bytes() {
        // python3: base64.b64encode(struct.pack("<2f", 0.5, -2))
        assert_eq!(base64(&[0.5, -2.0]), "AAAAPwAAAMA=");
    }
}
