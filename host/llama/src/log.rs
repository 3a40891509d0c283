//! llama.cpp's log lines become tracing events, and its last errors the reasons of ours.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};
use std::panic::catch_unwind;

use llama_cpp_sys_2 as sys;

use crate::buffers::Buffer;
use crate::limits::REASON_BYTES_MAX;

thread_local! {
    /// A line arrives in parts, and a part with level `CONT` has the level of the one before.
    static LINE: RefCell<Line> = const { RefCell::new(Line { level: sys::GGML_LOG_LEVEL_NONE, text: String::new() }) };
    /// Error lines of the call that [`reason_of`] watches, where one is under way.
    static REASON: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether what goes wrong now is nothing to trouble an operator with: something is only being tried.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Buffers that llama.cpp made during the call that [`buffers_of`] watches, where one is under way.
    static BUFFERS: RefCell<Option<Vec<Buffer>>> = const { RefCell::new(None) };
}

struct Line {
    level: sys::ggml_log_level,
    text: String,
}

/// Takes llama.cpp's log, and what it says before it aborts, from standard error.
pub(crate) fn redirect() {
    // SAFETY: the callback is a plain function that lives for ever and takes no user data; so is the other.
    unsafe {
        sys::llama_log_set(Some(on_log), std::ptr::null_mut());
        sys::ggml_set_abort_callback(Some(on_abort));
    }
}

/// Runs `call`, and returns with its result what llama.cpp logged as errors on this thread meanwhile.
pub(crate) fn reason_of<T>(call: impl FnOnce() -> T) -> (T, String) {
    REASON.set(Some(String::new()));
    let result = call();
    let reason = REASON.take().unwrap_or_default();
    let reason = if reason.is_empty() { "no reason was given".to_owned() } else { reason };
    (result, reason)
}

/// Runs `call`, which may well fail, and returns with its result what llama.cpp said of it; empty where it said nothing.
/// To the log it is no error.
pub(crate) fn tried<T>(call: impl FnOnce() -> T) -> (T, String) {
    REASON.set(Some(String::new()));
    IS_QUIET.set(true);
    let result = call();
    IS_QUIET.set(false);
    (result, REASON.take().unwrap_or_default())
}

/// Runs `call`, and returns with its result the buffers that llama.cpp made meanwhile on this thread.
pub(crate) fn buffers_of<T>(call: impl FnOnce() -> T) -> (T, Vec<Buffer>) {
    BUFFERS.set(Some(Vec::new()));
    let result = call();
    (result, BUFFERS.take().unwrap_or_default())
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: llama.cpp hands over a NUL-terminated text that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A panic must not unwind into C++, and a log line that is lost harms nobody.
    let _ = catch_unwind(|| take(level, &text));
}

/// llama.cpp's last words: it ends the process after this. Its own way to say them starts a debugger.
unsafe extern "C" fn on_abort(message: *const c_char) {
    // SAFETY: a NUL-terminated text that lives during the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let _ = catch_unwind(|| tracing::error!(target: "llama", "llama.cpp ends the process: {message}"));
    eprintln!("llama.cpp ends the process: {message}");
}

fn take(level: sys::ggml_log_level, text: &str) {
    LINE.with_borrow_mut(|line| {
        if level != sys::GGML_LOG_LEVEL_CONT {
            line.level = level;
        }
        let mut parts = text.split('\n');
        line.text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            say(line.level, line.text.trim_end());
            line.text.clear();
            line.text.push_str(part);
        }
    });
}

/// What llama.cpp calls information is of use to those who debug a model: one level lower here.
fn say(level: sys::ggml_log_level, line: &str) {
    if line.trim_matches(['.', ' ']).is_empty() {
        return;
    }
    match level {
        sys::GGML_LOG_LEVEL_ERROR => {
            if IS_QUIET.get() {
                tracing::debug!(target: "llama", "{line}");
            } else {
                tracing::error!(target: "llama", "{line}");
            }
            keep_reason(line);
        }
        sys::GGML_LOG_LEVEL_WARN if IS_QUIET.get() => {
            tracing::debug!(target: "llama", "{line}");
            keep_reason(line);
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama", "{line}"),
        sys::GGML_LOG_LEVEL_INFO => {
            tracing::debug!(target: "llama", "{line}");
            BUFFERS.with_borrow_mut(|buffers| {
                if let Some(buffers) = buffers {
                    buffers.extend(Buffer::parse(line));
                }
            });
        }
        _ => tracing::trace!(target: "llama", "{line}"),
    }
}

/// Adds a line to the reason of the call that is watched.
fn keep_reason(line: &str) {
    REASON.with_borrow_mut(|reason| {
        if let Some(reason) = reason
            && reason.len() + line.len() < REASON_BYTES_MAX
        {
            if !reason.is_empty() {
                reason.push_str("; ");
            }
            reason.push_str(line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_comes_in_parts_is_one_reason() {
        let ((), reason) = reason_of(|| {
            take(sys::GGML_LOG_LEVEL_INFO, "loading\n");
            take(sys::GGML_LOG_LEVEL_ERROR, "tensor 'a' ");
            take(sys::GGML_LOG_LEVEL_CONT, "is missing\nfailed\n");
            take(sys::GGML_LOG_LEVEL_WARN, "odd\n");
        });
        assert_eq!(reason, "tensor 'a' is missing; failed");
    }

    #[test]
    fn errors_outside_of_a_watched_call_are_no_reason() {
        take(sys::GGML_LOG_LEVEL_ERROR, "before\n");
        assert_eq!(reason_of(|| ()).1, "no reason was given");
    }

    #[test]
    fn what_is_only_tried_has_a_reason_where_one_is_given() {
        let ((), said) = tried(|| take(sys::GGML_LOG_LEVEL_WARN, "no device\n"));
        assert_eq!(said, "no device");
        assert_eq!(tried(|| ()).1, "");
    }

    #[test]
    fn buffers_are_read_from_the_log() {
        let ((), buffers) = buffers_of(|| {
            take(sys::GGML_LOG_LEVEL_INFO, "llama_kv_cache:        CPU KV buffer size =    45.00 MiB\n");
            take(sys::GGML_LOG_LEVEL_INFO, "something else\n");
        });
        assert_eq!(buffers.len(), 1);
        assert!(BUFFERS.take().is_none());
    }
}
