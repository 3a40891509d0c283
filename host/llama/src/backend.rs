//! llama.cpp's start, once per process, with the modules that it computes with.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::device::DeviceChoice;
use crate::error::BackendError;
use crate::log;
use crate::probe::{self, Backends};

/// Where modules are, and which are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendOptions {
    /// The folder of the modules; `None`: the one that belongs to this executable.
    pub directory: Option<PathBuf>,
    /// What is to compute.
    pub device: DeviceChoice,
}

/// Starts llama.cpp unless it has been; then what the first start was told counts.
pub fn backends(options: &BackendOptions) -> Result<&'static Backends, BackendError> {
    static STARTED: OnceLock<Backends> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(started) = STARTED.get() {
        return Ok(started);
    }
    log::redirect();
    let backends = probe::load(options.directory.as_deref(), options.device)?;
    // Not before there are backends: where there are none, this searches for them itself, in the working directory too.
    // SAFETY: called once.
    unsafe { sys::llama_backend_init() };
    Ok(STARTED.get_or_init(|| backends))
}
