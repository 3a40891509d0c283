//! The plugin's `[config]` table.

use serde::Deserialize;

/// What the operator may set; README.md explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is masked.
    pub kinds: Vec<Kind>,
    /// What stands in its place; `{kind}` becomes the kind's name.
    pub replacement: String,
    /// Shapes of the operator's own.
    pub shapes: Vec<ShapeConfig>,
    /// Which parts of an answer are masked.
    pub channels: Vec<ChannelName>,
    /// Mask the messages of requests too; needs the operator's `modify` grant.
    pub request: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Email, Kind::Phone, Kind::Card, Kind::Iban, Kind::Key],
            replacement: "[{kind}]".to_owned(),
            shapes: Vec::new(),
            channels: vec![ChannelName::Content, ChannelName::Reasoning],
            request: false,
        }
    }
}

/// A kind that this plugin knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// Payment card numbers with a valid check digit.
    Card,
    /// International bank account numbers with valid check digits.
    Iban,
    /// API keys, JSON Web Tokens and private keys.
    Key,
}

impl Kind {
    /// The kind's name in replacements and notes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Key => "key",
        }
    }
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelName {
    /// The answer's text.
    Content,
    /// What the model thought before.
    Reasoning,
    /// The JSON of tool calls. Off by default: a tool called with `[email]` does nothing useful, and a masked number
    /// is no JSON.
    ToolArguments,
}

/// An own shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapeConfig {
    /// What `{kind}` becomes.
    pub kind: String,
    /// `#` stands for a digit, `@` for a letter, `*` for either, `\` before one of these for itself; everything else
    /// for itself, in upper or lower case.
    pub shape: String,
}
