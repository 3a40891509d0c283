//! Log probabilities in OpenAI's form.

use std::fmt::Write as _;

use inference::{TokenLogprob, TokenLogprobs};
use schemars::JsonSchema;
use serde::Serialize;

/// What stands for "practically impossible", as with OpenAI: JSON has no infinity.
pub(super) const LOGPROB_MIN: f32 = -9999.0;

/// `choices[].logprobs`
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionLogprobs")]
pub(super) struct Logprobs {
    content: Vec<Sampled>,
    refusal: Option<()>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenLogprobs")]
struct Sampled {
    #[serde(flatten)]
    token: Token,
    top_logprobs: Vec<Token>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenLogprob")]
struct Token {
    #[serde(rename = "token")]
    text: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Logprobs {
    pub(super) fn new(tokens: Vec<TokenLogprobs>) -> Self {
        let sampled = |TokenLogprobs { sampled, top, .. }: TokenLogprobs| Sampled {
            token: sampled.into(),
            top_logprobs: top.into_iter().map(Token::from).collect(),
        };
        Self { content: tokens.into_iter().map(sampled).collect(), refusal: None }
    }
}

impl From<TokenLogprob> for Token {
    fn from(TokenLogprob { bytes, logprob }: TokenLogprob) -> Self {
        Self { text: spell(&bytes), logprob: logprob.max(LOGPROB_MIN), bytes }
    }
}

/// A token as text. It may be a part of a character: those bytes are written as `\xF0`, as with OpenAI, and clients
/// that want the text put the `bytes` together.
pub(super) fn spell(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes what is written");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: Vec<TokenLogprobs>, expected: &str) {
        assert_eq!(serde_json::to_string(&Logprobs::new(tokens)).expect("numbers and strings"), expected);
    }

    fn token(bytes: &[u8], logprob: f32) -> TokenLogprob {
        TokenLogprob { bytes: bytes.to_vec(), logprob }
    }

    #[test]
    fn they_have_openais_form() {
        check(Vec::new(), r#"{"content":[],"refusal":null}"#);
        let top = vec![token(b" a", -0.25), token(b"", -2.5)];
        check(
            vec![TokenLogprobs { token: inference::Token(0), sampled: token(b" a", -0.25), top }],
            r#"{"content":[{"token":" a","logprob":-0.25,"bytes":[32,97],"top_logprobs":[{"token":" a","logprob":-0.25,"bytes":[32,97]},{"token":"","logprob":-2.5,"bytes":[]}]}],"refusal":null}"#,
        );
    }

    #[test]
    fn what_is_no_number_and_no_text_goes_through_json() {
        check(
            vec![TokenLogprobs {
                token: inference::Token(0),
                sampled: token(b"x\xF0\x9F", f32::NEG_INFINITY),
                top: Vec::new(),
            }],
            r#"{"content":[{"token":"x\\xf0\\x9f","logprob":-9999.0,"bytes":[120,240,159],"top_logprobs":[]}],"refusal":null}"#,
        );
    }
}
