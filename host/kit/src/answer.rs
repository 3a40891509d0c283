//! What a client has of an answer in the end: what all ways to cut the model's text have to agree on.

use inference::{Annotations, Delta, Finish, Output, PipelineError};
use serde::Serialize;

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The function.
    pub name: String,
    /// Its arguments, JSON if the model is good at it.
    pub arguments: String,
}

/// What was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The answer's text.
    pub content: String,
    /// The thoughts before it.
    pub reasoning: String,
    /// The calls, in order.
    pub calls: Vec<Call>,
    /// Why it ended before the model's own end, if it did: a plugin wanted it so, or it was cut.
    pub stop: Option<Finish>,
    /// What plugins noted.
    pub notes: Annotations,
    /// What it broke off with.
    pub error: Option<PipelineError>,
}

impl Sent {
    pub(crate) fn take(&mut self, output: Output) {
        for delta in output.deltas {
            match delta {
                Delta::Content(text) => self.content.push_str(&text),
                Delta::Reasoning(text) => self.reasoning.push_str(&text),
                Delta::ToolCallStart { name, .. } => self.calls.push(Call { name, arguments: String::new() }),
                Delta::ToolArguments { index, text } => {
                    if let Some(call) = self.calls.get_mut(index as usize) {
                        call.arguments.push_str(&text);
                    }
                }
                Delta::ToolCallEnd { .. } => {}
            }
        }
        self.stop = output.stop;
    }

    /// The finish reason that the client reads, where the model came to its own end.
    #[must_use]
    pub fn finish(&self) -> Finish {
        match (&self.error, self.stop, self.calls.is_empty()) {
            (Some(PipelineError::Rejected { .. }), ..) => Finish::Filtered,
            (Some(_), ..) => Finish::Failed,
            (None, Some(stop), _) => stop,
            (None, None, false) => Finish::ToolCalls,
            (None, None, true) => Finish::Stop,
        }
    }

    /// Where two differ that must not. Of answers that broke off only how they did is compared: how much had been sent by then is
    /// up to the cuts.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let is_other = match (&self.error, &other.error) {
            (None, None) => false,
            // The details of a fault are addresses and numbers.
            (Some(one), Some(two)) => one.to_string() != two.to_string(),
            _ => true,
        };
        if is_other {
            return Some("error");
        }
        if self.error.is_some() {
            return None;
        }
        let parts = [
            ("output", self.content == other.content),
            ("reasoning", self.reasoning == other.reasoning),
            ("tool_calls", self.calls == other.calls),
            ("finish", self.stop == other.stop),
            ("notes", self.notes == other.notes),
        ];
        parts.into_iter().find(|(_, is_same)| !is_same).map(|(name, _)| name)
    }

    /// One of its parts, for people.
    pub(crate) fn part(&self, name: &str) -> String {
        match name {
            "output" => self.content.clone(),
            "reasoning" => self.reasoning.clone(),
            "tool_calls" => self.calls.iter().map(|call| format!("{}({})\n", call.name, call.arguments)).collect(),
            "finish" => finish_name(self.finish()).to_owned(),
            "notes" => self.notes.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect(),
            _ => self.error.as_ref().map_or_else(|| "no error".to_owned(), described),
        }
    }
}

/// An error with what its message leaves out: what the operator's log has of it, or the client beside it.
pub(crate) fn described(error: &PipelineError) -> String {
    match error {
        PipelineError::Fault { detail, .. } => format!("{error}: {detail}"),
        PipelineError::Rejected { status, code, retry_after, .. } => {
            let retry = retry_after.map(|after| format!(", try again in {} ms", after.as_millis())).unwrap_or_default();
            format!("{error} (status {status}, code {code:?}{retry})")
        }
        _ => error.to_string(),
    }
}

/// A finish as case files name it.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool-calls",
        Finish::Filtered => "filtered",
        Finish::Cancelled => "cancelled",
        Finish::Failed => "failed",
    }
}
