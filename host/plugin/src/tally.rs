//! What one loaded plugin has done since it was loaded: for whoever asks how it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use inference::{RequestId, Stage};

use crate::fault::Fault;
use crate::limits::FAULT_TEXT_BYTES_MAX;
use crate::status::FaultStatus;
use crate::text::{cut, escape_into};

/// Calls and faults of one plugin of one generation.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: AtomicU64,
    faults: AtomicU64,
    last_fault: Mutex<Option<FaultStatus>>,
}

impl Tally {
    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, stage: Stage, request_id: &RequestId, fault: &Fault) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let mut detail = String::new();
        escape_into(&mut detail, &cut(fault.detail.clone(), FAULT_TEXT_BYTES_MAX));
        let last = FaultStatus {
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            stage: stage.as_str(),
            kind: fault.kind.as_str(),
            request_id: request_id.as_str().to_owned(),
            detail,
        };
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(crate) fn last_fault(&self) -> Option<FaultStatus> {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
