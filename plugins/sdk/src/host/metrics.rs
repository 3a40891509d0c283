//! The plugin's own instruments, as the operator grants them (`grants.metrics`): name, kind and labels. What was not
//! granted is dropped, and the host counts that.

#[cfg(target_arch = "wasm32")]
use crate::bindings::outrigger::plugin::metrics::{add, observe as add_value};
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double::{count as add, observe as add_value};

/// Adds to a counter.
pub fn count(name: &str, delta: f64, labels: &[(&str, &str)]) {
    add(name, delta, &owned(labels));
}

/// A value of a histogram.
pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    add_value(name, value, &owned(labels));
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
