//! Coarse on purpose: a fine clock is what timing attacks are made of.

#[cfg(target_arch = "wasm32")]
use crate::bindings::outrigger::plugin::clock as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double as host;

/// Milliseconds, monotonic.
#[must_use]
pub fn now() -> u64 {
    host::now()
}

/// Seconds since 1970 in UTC.
#[must_use]
pub fn unix_seconds() -> u64 {
    host::unix_seconds()
}
