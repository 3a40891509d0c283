//! What form an answer must have, as the client asked for it: text that nobody has compiled yet.

/// The form of an answer. It is enforced token by token, or the request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON that this JSON Schema, itself JSON text, describes.
    JsonSchema(String),
    /// Text that this regular expression matches from its beginning to its end (the syntax of Rust's `regex` crate,
    /// without anchors, look-around and references).
    Regex(String),
    /// Text of this grammar in llguidance's variant of Lark; it starts at `start`.
    Lark(String),
    /// Text of this grammar in llama.cpp's GBNF; it starts at `root`.
    Gbnf(String),
}

impl OutputFormat {
    /// What it is called in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject => "JSON object",
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "Lark grammar",
            Self::Gbnf(_) => "GBNF grammar",
        }
    }

    /// What the client wrote; empty for [`OutputFormat::JsonObject`].
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::JsonObject => "",
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) | Self::Gbnf(text) => text,
        }
    }
}
