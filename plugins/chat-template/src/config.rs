//! The plugin's `[config]` table.

use serde::Deserialize;
use serde_json::{Map, Value};

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
