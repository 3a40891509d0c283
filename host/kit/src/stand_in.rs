//! A model that plugins are tried with where none is loaded: a token for each byte, and the two control tokens of `ChatML`.

use std::ops::Range;
use std::sync::Arc;

use inference::{ModelCard, SpecialTokens, Token, Vocabulary};
use plugin::ModelContext;

/// The name that requests use for it.
pub const ID: &str = "stand-in";

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
const START_TOKEN: Token = Token(256);
pub(crate) const END_TOKEN: Token = Token(257);

/// A template in the form that most models have.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
                             + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ \
                             '<|im_start|>assistant\\n' }}{% endif %}";

/// The stand-in, with this template or one in the form that most models have.
#[must_use]
pub fn model(chat_template: Option<&str>) -> ModelContext {
    let card = ModelCard {
        id: ID.to_owned(),
        revision: String::new(),
        architecture: "none".to_owned(),
        context_length: 8192,
        context_length_trained: 8192,
        chat_template: Some(chat_template.unwrap_or(CHAT_TEMPLATE).to_owned()),
        bos_text: String::new(),
        eos_text: END.to_owned(),
        size_bytes: 0,
        created: 0,
    };
    ModelContext::new(card, Arc::new(Bytes))
}

/// A text's tokens: a byte each, where it does not spell a control token.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    Bytes.tokenize(text, SpecialTokens::Recognised)
}

/// How many tokens there are.
pub(crate) const TOKENS: u32 = END_TOKEN.0 + 1;

struct Bytes;

impl Vocabulary for Bytes {
    fn size(&self) -> u32 {
        TOKENS
    }

    fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
        let bytes = |text: &str| text.bytes().map(|byte| Token(byte.into())).collect::<Vec<_>>();
        let mut tokens = Vec::new();
        let mut rest = text;
        if special == SpecialTokens::Recognised {
            while let Some((place, token)) = self.find_control_token(rest) {
                tokens.extend(bytes(&rest[..place.start]));
                tokens.push(token);
                rest = &rest[place.end..];
            }
        }
        tokens.extend(bytes(rest));
        tokens
    }

    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        match token {
            START_TOKEN => bytes.extend(START.bytes()),
            END_TOKEN => bytes.extend(END.bytes()),
            Token(byte) => bytes.extend(u8::try_from(byte)),
        }
    }

    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
        let find = |name: &str, token| text.find(name).map(|place| (place..place + name.len(), token));
        let found = [find(START, START_TOKEN), find(END, END_TOKEN)];
        found.into_iter().flatten().min_by_key(|(place, _)| place.start)
    }

    fn prompt_start(&self) -> Option<Token> {
        None
    }

    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }

    fn ends_generation(&self, token: Token) -> bool {
        token == END_TOKEN
    }
}
