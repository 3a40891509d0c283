//! State that the instances of a plugin share, and that outlives a request: lost when the host restarts. The operator
//! grants stores by name (`grants.kv`), with bounds. Times to live are counted in whole milliseconds, and 49 days are the longest:
//! what is longer is that long.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use crate::bindings::outrigger::plugin::kv as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double as host;

pub use crate::bindings::outrigger::plugin::kv::Error;

/// A value; `None` where there is none.
pub fn get(store: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::get(store, key)
}

/// Sets a value. It is gone after `ttl`; with `None` it stays.
pub fn set(store: &str, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
    host::set(store, key, value, ttl.map(milliseconds))
}

/// Removes a value, if there is one.
pub fn delete(store: &str, key: &str) -> Result<(), Error> {
    host::delete(store, key)
}

/// Adds to a number that starts at 0, and says what it is now. Atomic: what rate limits and quotas are made of. `ttl`
/// counts from the call that made the number.
pub fn add(store: &str, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, Error> {
    host::add(store, key, delta, ttl.map(milliseconds))
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
