//! How a guest call failed: from what wasmtime reports to the kinds that people see.

use std::fmt;
use std::time::Duration;

use inference::FaultKind;
use wasmtime::{Trap, WasmBacktrace};

use crate::bindings::outrigger::plugin::types;
use crate::limits::{DETAIL_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::text::cut;

/// A limit that our own code enforces while a guest runs. Raised inside wasmtime and found again in its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("used more than {} of CPU time, its budget for this call", Millis(.budget))]
    Cpu { budget: Duration },
    #[error("used more than {} of CPU time, its budget for one request", Millis(.budget))]
    RequestCpu { budget: Duration },
    #[error("did not return within {} of wall time", Millis(.budget))]
    Wall { budget: Duration },
    #[error("was stopped because the request was cancelled")]
    Cancelled,
    #[error("was stopped because the answer that it worked on had not come in time")]
    GivenUp,
    #[error("asked for {wanted} bytes of memory; it may have {limit}")]
    Memory { wanted: usize, limit: usize },
    #[error("asked for {wanted} table elements; it may have {limit}")]
    Table { wanted: usize, limit: usize },
    #[error("called the host more than {limit} times in one request")]
    HostCalls { limit: u32 },
}

struct Millis<'a>(&'a Duration);

impl fmt::Display for Millis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

/// Why a guest call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The guest called the request invalid; the text is for the client.
    Invalid(String),
    /// The guest broke its contract; the text is for the operator.
    Fault(Fault),
}

/// A broken contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: cut(detail.into(), DETAIL_BYTES_MAX) }
    }

    pub(crate) fn contract(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::Contract, detail)
    }

    /// Whether the instance may still be called: it said "no" in an orderly way.
    pub(crate) fn leaves_instance_usable(&self) -> bool {
        self.kind == FaultKind::Error
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Breach> for Fault {
    fn from(breach: Breach) -> Self {
        let kind = match breach {
            Breach::Cpu { .. }
            | Breach::RequestCpu { .. }
            | Breach::Wall { .. }
            | Breach::Cancelled
            | Breach::GivenUp => FaultKind::Timeout,
            Breach::Memory { .. } | Breach::Table { .. } => FaultKind::Memory,
            Breach::HostCalls { .. } => FaultKind::HostCalls,
        };
        Self::new(kind, breach.to_string())
    }
}

/// What wasmtime's error means. Our own breaches travel inside it; the rest is told by trap code, and the two that
/// have no code of their own by their words, which a test pins.
impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        if let Some(breach) = error.downcast_ref::<Breach>() {
            return (*breach).into();
        }
        let kind = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => FaultKind::Timeout,
            Some(Trap::StackOverflow) => FaultKind::Stack,
            Some(_) => FaultKind::Trap,
            None => {
                let words = format!("{error:#}");
                if words.contains("fuel allocated for hostcalls") {
                    FaultKind::OutputSize
                } else if words.contains("utf-8") {
                    FaultKind::Contract
                } else {
                    FaultKind::Trap
                }
            }
        };
        // The cause first: a log line or a person may not read on to the backtrace.
        let mut detail = error.root_cause().to_string();
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            detail.push('\n');
            detail.push_str(&backtrace.to_string());
        }
        Self::new(kind, detail)
    }
}

/// A typed error of the guest.
impl From<types::Error> for Failure {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::Invalid(text) => Self::Invalid(cut(text, MESSAGE_BYTES_MAX)),
            types::Error::Unavailable(text) => {
                Self::Fault(Fault::new(FaultKind::Error, format!("unavailable: {text}")))
            }
            types::Error::Internal(text) => Self::Fault(Fault::new(FaultKind::Error, format!("internal: {text}"))),
        }
    }
}
