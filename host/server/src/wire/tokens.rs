//! `POST /tokenize`, `POST /detokenize` and `POST /render`: in vLLM's words, and in llama-server's where it has others.

use inference::{Segment, Token};
use schemars::JsonSchema;
use serde::Serialize;

use super::Refusal;
use super::logprobs::spell;
use super::members::Member;
use super::parts::Notes;
use super::request::missing;
use super::{parse_chat, parse_completion};
use crate::limits;
use crate::service::{Asked, Defaults, Rendered, Tokenized};

/// What a body of `POST /tokenize` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tokenize {
    pub(crate) model: Option<String>,
    pub(crate) text: String,
    /// With what a prompt begins with.
    pub(crate) adds_special: bool,
    /// What each token spells, too.
    pub(crate) wants_pieces: bool,
}

pub(crate) fn parse_tokenize(body: &[u8]) -> Result<Tokenize, Refusal> {
    let (mut model, mut text, mut adds_special, mut wants_pieces) = (None, None, true, false);
    for (name, value) in Member::body_of(body, limits::JSON_DEPTH_MAX)?.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "prompt" | "content" if text.is_some() => {
                return Err(value.wrong("is the second text; send one of `prompt` and `content`"));
            }
            "prompt" | "content" => text = Some(value.text(usize::MAX)?),
            "add_special_tokens" | "add_special" => adds_special = value.flag()?,
            "return_token_strs" => wants_pieces = value.flag()?,
            // As everywhere: what a client writes stays text.
            "parse_special" if !value.flag()? => {}
            "parse_special" => {
                return Err(
                    value.unsupported("is not supported: what a client writes stays text; leave it out or send false")
                );
            }
            "messages" => return Err(value.unsupported("is not supported here; POST /render tokenizes conversations")),
            _ => return Err(value.unknown()),
        }
    }
    let text = text.ok_or_else(|| missing("prompt", "the text to tokenize"))?;
    Ok(Tokenize { model, text, adds_special, wants_pieces })
}

/// The model's name, where one is said, and the tokens.
pub(crate) fn parse_detokenize(body: &[u8]) -> Result<(Option<String>, Vec<Token>), Refusal> {
    let (mut model, mut tokens) = (None, None);
    for (name, value) in Member::body_of(body, limits::JSON_DEPTH_MAX)?.object()? {
        match name.as_str() {
            "model" => model = Some(value.text(limits::SHORT_TEXT_BYTES_MAX)?),
            "tokens" => tokens = Some(value.numbers()?.into_iter().map(Token).collect()),
            _ => return Err(value.unknown()),
        }
    }
    Ok((model, tokens.ok_or_else(|| missing("tokens", "an array of tokens"))?))
}

/// `POST /render` takes the body of a chat, or of a completion, which is what has a `prompt`.
pub(crate) fn parse_render(body: &[u8], defaults: &Defaults) -> Result<Asked, Refusal> {
    let members = Member::body_of(body, limits::JSON_DEPTH_MAX)?.object()?;
    let Some((_, prompt)) = members.iter().find(|(name, _)| name == "prompt") else {
        return parse_chat(body, defaults).map(|parsed| parsed.asked);
    };
    let asked = parse_completion(body, defaults)?.asked;
    if asked.prompts.len() > 1 {
        return Err(prompt.wrong("must be one prompt: one is shown at a time"));
    }
    Ok(asked)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokenized")]
pub(crate) struct TokenizedObject {
    count: usize,
    max_model_len: u32,
    tokens: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

impl TokenizedObject {
    pub(crate) fn new(tokenized: &Tokenized, wants_pieces: bool) -> Self {
        Self {
            count: tokenized.tokens.len(),
            max_model_len: tokenized.context_length,
            tokens: tokenized.tokens.iter().map(|token| token.0).collect(),
            token_strs: wants_pieces.then(|| tokenized.pieces.iter().map(|bytes| spell(bytes)).collect()),
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Detokenized")]
pub(crate) struct TextObject {
    pub(crate) prompt: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenCount")]
pub(crate) struct TokenCount {
    pub(crate) input_tokens: usize,
}

/// A prompt, with where each part of it comes from.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rendered")]
pub(crate) struct RenderedObject {
    model: String,
    prompt: String,
    segments: Vec<SegmentObject>,
    count: usize,
    max_model_len: u32,
    tokens: Vec<u32>,
    /// Texts that the template has end the answer.
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Segment")]
#[serde(tag = "type", rename_all = "snake_case")]
enum SegmentObject {
    /// Control tokens in it are recognised.
    Template {
        text: String,
    },
    /// It stays text.
    Content {
        text: String,
    },
    Tokens {
        tokens: Vec<u32>,
    },
}

impl RenderedObject {
    pub(crate) fn new(rendered: Rendered) -> Self {
        let Rendered { model, context_length, prompt, tokens, annotations } = rendered;
        let text = prompt.text();
        let segments = prompt.segments.into_iter().map(|segment| match segment {
            Segment::Template(text) => SegmentObject::Template { text },
            Segment::Content(text) => SegmentObject::Content { text },
            Segment::Tokens(tokens) => SegmentObject::Tokens { tokens: numbers(&tokens) },
        });
        Self {
            model,
            prompt: text,
            segments: segments.collect(),
            count: tokens.len(),
            max_model_len: context_length,
            tokens: numbers(&tokens),
            stop: prompt.stop,
            outrigger: Notes::of_request(annotations),
        }
    }
}

fn numbers(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}
