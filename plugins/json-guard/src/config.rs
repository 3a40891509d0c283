//! The plugin's `[config]` table.

use serde::Deserialize;
use serde_json::Value;

/// What the operator may set; README.md explains each.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What every answer has to be: a table, or JSON as a text. Without it answers are checked against what their requests asked for.
    pub schema: Option<Value>,
    /// What becomes of a request that asks for another form.
    pub other_form: OtherForm,
    /// What becomes of a request with tools, where `schema` is set.
    pub tools: Tools,
    /// What becomes of an answer that is not valid.
    pub on_invalid: OnInvalid,
}

/// A request asks for a form of its own, and the operator has a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherForm {
    /// The operator's schema takes its place.
    #[default]
    Replace,
    /// The request's form stays, and the answer is checked against that.
    Keep,
    /// The request is refused.
    Reject,
}

/// A request offers tools, and the operator has a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// It is refused: an answer that calls a tool has not the schema's form.
    #[default]
    Reject,
    /// It goes on as it is, and its answer is not checked.
    Pass,
}

/// An answer has not the form that it has to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInvalid {
    /// A note says so.
    #[default]
    Annotate,
    /// It ends with `finish_reason = "content_filter"`, where it stops being JSON or at its end.
    Stop,
    /// It ends with an error.
    Fail,
}
