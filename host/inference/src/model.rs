//! What is known of a loaded model, and its vocabulary.

use std::ops::Range;

/// A token's number in the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// Whether text that spells a control token (`<|im_end|>`) becomes that token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Control tokens in the text are recognised: only for text that a template wrote.
    Recognised,
    /// The characters stay characters: for everything that a user or a program wrote.
    Literal,
}

/// The facts of a loaded model that requests, plugins and clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name that requests use for it.
    pub id: String,
    /// The commit or digest that was loaded; empty for a file without either.
    pub revision: String,
    /// `general.architecture` of the GGUF, such as `llama`.
    pub architecture: String,
    /// Tokens that one sequence may hold, prompt and completion together, as it is served here.
    pub context_length: u32,
    /// Tokens that the model was trained for.
    pub context_length_trained: u32,
    /// The model's own Jinja chat template, where it has one.
    pub chat_template: Option<String>,
    /// Text of the beginning-of-sequence token, where there is one: what Jinja templates call `bos_token`.
    pub bos_text: String,
    /// Text of the end-of-sequence token, where there is one: what Jinja templates call `eos_token`.
    pub eos_text: String,
    /// Bytes of the weights on disk.
    pub size_bytes: u64,
    /// Unix time in seconds of the model file's last change.
    pub created: u64,
}

/// A model's vocabulary: text to tokens and back. Pure computation on the caller's thread.
pub trait Vocabulary: Send + Sync {
    /// How many tokens there are; a [`Token`] is below this.
    fn size(&self) -> u32;

    /// Tokens of `text`, with no beginning- or end-of-sequence token added.
    fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token>;

    /// Appends the bytes that `token` stands for in a completion: perhaps part of a character, and nothing for a
    /// control token.
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>);

    /// The first control token that `text` spells, and where; the longest of several that start there.
    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)>;

    /// The token that a prompt must start with, where the model was trained with one
    /// (`tokenizer.ggml.add_bos_token`).
    fn prompt_start(&self) -> Option<Token>;

    /// The beginning-of-sequence token, whether or not prompts start with it.
    fn beginning_of_sequence(&self) -> Option<Token>;

    /// Whether a completion ends when the model samples `token`.
    fn ends_generation(&self, token: Token) -> bool;
}
