//! Errors in OpenAI's form.

use schemars::JsonSchema;
use serde::Serialize;

/// Why a request's body was not understood. The request is at fault, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) code: &'static str,
    /// The member that is at fault; `None`: the body as a whole.
    pub(crate) param: Option<String>,
}

impl Refusal {
    pub(crate) fn body(message: String) -> Self {
        Self { message, code: "invalid_body", param: None }
    }

    pub(crate) fn member(path: &str, code: &'static str, message: String) -> Self {
        Self { message, code, param: Some(path.to_owned()) }
    }
}

/// What errors are called.
const KINDS: [&str; 5] =
    ["invalid_request_error", "rate_limit_error", "overloaded_error", "plugin_error", "server_error"];

/// `{"error": {…}}`
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorMembers,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ErrorMembers")]
pub(crate) struct ErrorMembers {
    pub(crate) message: String,
    #[serde(rename = "type")]
    #[schemars(extend("enum" = KINDS))]
    pub(crate) kind: &'static str,
    pub(crate) param: Option<String>,
    pub(crate) code: String,
    /// Ours: which plugin failed, where and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outrigger: Option<PluginFault>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "PluginFault")]
pub(crate) struct PluginFault {
    pub(crate) plugin: String,
    pub(crate) stage: &'static str,
    pub(crate) kind: &'static str,
}

impl ErrorBody {
    pub(crate) fn new(kind: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (message, code) = (message.into(), code.into());
        Self { error: ErrorMembers { message, kind, param: None, code, outrigger: None } }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings serialise")
    }
}
