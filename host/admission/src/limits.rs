//! Every limit of this room, with its unit and its reason. What an operator decides is in [`Rules`](crate::Rules).

use std::time::Duration;

/// Of so many requests that begin while both kinds wait, one is a batch request: batch work goes on, an eighth as fast, however much
/// interactive work there is.
pub const BATCH_EVERY: u32 = 8;
/// What the newest request counts for in the mean time of a request: the mean follows a change within some five requests, and one that
/// is far longer than the others moves it by a fifth.
pub const NEWEST_WEIGHT: f64 = 0.2;
/// Requests that were measured before anybody is sent away by what they took.
pub const MEASURED_MIN: u32 = 8;
/// What a request is taken to last before one was measured.
pub const UNMEASURED: Duration = Duration::from_secs(2);
/// Least and most that a client is told to wait before it asks again. HTTP tells it in whole seconds; a minute later everything may
/// be otherwise.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The most of it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// Bytes of a caller's name that are looked at: longer ones are cut, and are the same caller where they begin alike.
pub const CALLER_BYTES_MAX: usize = 256;
