//! Errors in Anthropic's form.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::ErrorBody;
use super::super::error::PluginFault;

/// `{"type": "error", "error": {…}, "request_id": …}`
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageError")]
pub(crate) struct MessageError<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "error"))]
    kind: &'static str,
    error: Members<'a>,
    request_id: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageErrorMembers")]
struct Members<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("enum" = KINDS))]
    kind: &'static str,
    message: &'a str,
    /// Ours, as in the errors of the other endpoints.
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<&'a PluginFault>,
}

/// An error as JSON.
pub(crate) fn message_error(status: u16, body: &ErrorBody, request_id: &str) -> String {
    let error = &body.error;
    let members = Members {
        kind: kind(status),
        message: &error.message,
        code: &error.code,
        param: error.param.as_deref(),
        outrigger: error.outrigger.as_ref(),
    };
    let error = MessageError { kind: "error", error: members, request_id };
    serde_json::to_string(&error).expect("strings serialise")
}

/// What errors are called.
const KINDS: [&str; 9] = [
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "overloaded_error",
    "timeout_error",
    "invalid_request_error",
    "api_error",
];

/// One of [`KINDS`].
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
