//! The plugin's `[config]` table.

use outrigger_plugin::types::Error;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::conversation::reserved;
use crate::format::Format;
use crate::reasoning::Thoughts;

/// What the operator may set; README.md explains each.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Jinja source used in place of the model's own template.
    pub template: Option<String>,
    /// What to do for a model that has no template.
    pub fallback: Fallback,
    /// Variables that templates see unless the request's `chat_template_kwargs` set them.
    pub kwargs: Map<String, Value>,
    /// How a model is told of functions.
    pub tools: ToolPrompt,
    /// In which form it calls them.
    pub tool_format: ToolFormat,
    /// What stands around its thoughts.
    pub reasoning: ReasoningMarks,
}

impl Config {
    /// Says what is wrong with it, if anything is.
    pub fn check(&self) -> Result<(), Error> {
        // An operator may know of tokens that the model file does not.
        let is_token = |name: &&String| matches!(name.as_str(), "bos_token" | "eos_token");
        match reserved(self.kwargs.keys().filter(|name| !is_token(name))) {
            Some((name, reason)) => Err(Error::Internal(format!(
                "the plugin's configuration is wrong: `kwargs` must not set `{name}`: {reason}"
            ))),
            None => Ok(()),
        }
    }
}

/// What to do for a model that has no template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Write the conversation as `ChatML`, with a warning in the log.
    #[default]
    Chatml,
    /// Refuse the request.
    Refuse,
}

/// How a model is told of the functions that it may call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolPrompt {
    /// By its template where that knows of them, else by instructions in the first system message.
    #[default]
    Auto,
    /// By instructions, whatever the template knows.
    Generic,
    /// By its template; a request with functions is refused where that knows of none.
    Template,
}

/// In which form a model calls functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ToolFormat {
    /// As the marks of its template say.
    #[default]
    Auto,
    /// None: every answer is content.
    None,
    /// This one.
    Of(Format),
}

impl TryFrom<String> for ToolFormat {
    type Error = serde_json::Error;

    fn try_from(said: String) -> Result<Self, Self::Error> {
        Ok(match said.as_str() {
            "auto" => Self::Auto,
            "none" => Self::None,
            _ => Self::Of(serde_json::from_value(said.into())?),
        })
    }
}

/// What stands around a model's thoughts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ReasoningMarks {
    /// `"auto"`, as its template says, or `"none"`.
    Word(MarksWord),
    /// These two.
    Marks([String; 2]),
}

impl Default for ReasoningMarks {
    fn default() -> Self {
        Self::Word(MarksWord::Auto)
    }
}

/// A word for [`ReasoningMarks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarksWord {
    /// As the template says.
    Auto,
    /// Thoughts are content.
    None,
}

impl ReasoningMarks {
    pub(crate) fn thoughts(&self, template: &str) -> Vec<Thoughts> {
        match self {
            Self::Word(MarksWord::Auto) => Thoughts::of(template),
            Self::Word(MarksWord::None) => Vec::new(),
            Self::Marks([open, close]) if open.is_empty() || close.is_empty() => Vec::new(),
            Self::Marks([open, close]) => vec![Thoughts::new(open, close)],
        }
    }
}
