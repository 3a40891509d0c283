//! Every limit of this room, with its unit and its reason. What an operator decides is in [`Rules`](crate::Rules).

use std::time::Duration;

/// Of so many requests that begin while both kinds wait, one is a batch request: batch work goes on, an eighth as fast, however much
/// interactive work there is.
pub const BATCH_EVERY: u32 = 8;
/// The part of the line's places and tokens that batch requests keep whatever else comes, and at least one of several places: what
/// begins an eighth of the time must have been let in. 1 / n.
pub const BATCH_PART: usize = 8;
/// Callers with nothing in line or slot that are remembered because they have had more than their part while others waited. Each is
/// forgotten once the others have had as much; of more than these the one who is closest to that. Some 350 bytes each.
pub const ABSENT_CALLERS_MAX: usize = 256;
/// Callers who have asked within the last minute and are told apart where requests a minute are limited; of more than these who
/// asked longest ago is forgotten. Some 350 bytes each.
pub const ASKERS_MAX: usize = 1024;
/// The part of a minute's requests that are for callers who have had no more than their part, where several ask; at least one. 1 / n.
pub const RATE_KEPT_PART: f64 = 8.0;
/// What the newest request counts for in the mean time of a request: the mean follows a change within some five requests.
pub const NEWEST_WEIGHT: f64 = 0.2;
/// A request counts for at most so many times the mean: one of ten minutes among many of a second would otherwise have everybody sent
/// away for its sake, and the mean is five times as much after some nine of them all the same.
pub const OUTLIER: f64 = 5.0;
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
