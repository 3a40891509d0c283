//! llama.cpp's start, once per process.

use std::sync::Once;

use llama_cpp_sys_2 as sys;

use crate::log;

/// Starts llama.cpp unless it has been.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        log::redirect();
        // SAFETY: called once, before anything else of llama.cpp.
        unsafe { sys::llama_backend_init() };
    });
}
