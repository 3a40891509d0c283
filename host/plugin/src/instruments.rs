//! The instruments that a plugin was granted: from the calls of a guest to the families that a scrape shows.

use telemetry::{Dropped, InstrumentKind};

use crate::bindings::outrigger::plugin::metrics;
use crate::state::GuestState;

impl metrics::Host for GuestState {
    fn add(&mut self, name: String, delta: f64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.record(InstrumentKind::Counter, &name, delta, &labels)
    }

    fn observe(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.record(InstrumentKind::Histogram, &name, value, &labels)
    }
}

impl GuestState {
    fn record(
        &mut self,
        kind: InstrumentKind,
        name: &str,
        value: f64,
        labels: &[(String, String)],
    ) -> wasmtime::Result<()> {
        self.count_host_call()?;
        // A trial is no request: what it counts would be there again after every reload.
        let Some(metrics) = &self.metrics else { return Ok(()) };
        let instrument = self.owner.instruments.iter().find(|instrument| instrument.spec().name == name);
        let recorded = instrument.ok_or(Dropped::Undeclared).and_then(|it| it.record(kind, value, labels));
        if let Err(reason) = recorded {
            metrics.custom_dropped(&self.owner.name, reason);
        }
        Ok(())
    }
}
