//! Counts how answers end: `outrigger_plugin_custom_answers_total{end="stop"}` on the host's `/metrics`.

use outrigger_plugin::prelude::*;

/// Made anew for each request.
pub struct This;

impl Plugin for This {
    fn new(_cx: &Context) -> Result<Self> {
        Ok(Self)
    }
}

impl Audit for This {
    /// Runs after the reply, also where the request was rejected or given up.
    fn completed(&mut self, _call: &Call, end: Finish, _usage: Usage, _notes: &[(String, String)]) {
        let end = match end {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool-calls",
            Finish::Filtered => "filtered",
            Finish::Cancelled => "cancelled",
            Finish::Failed => "failed",
        };
        metrics::count("answers", 1.0, &[("end", end)]);
    }
}

outrigger_plugin::export!(This: Audit);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing::{self, call, with_host};

    use super::*;

    #[test]
    fn every_end_is_counted() {
        let mut audit = testing::plugin::<This>("{}").unwrap();
        let usage = Usage { prompt_tokens: 1, completion_tokens: 2, cached_tokens: 0 };
        audit.completed(&call(), Finish::Stop, usage, &[]);
        let labels = with_host(|host| host.metrics[0].labels.clone());
        assert_eq!(labels, [("end".to_owned(), "stop".to_owned())]);
    }
}
