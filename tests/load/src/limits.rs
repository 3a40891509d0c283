//! Every limit of the load program, with its reason.

use std::time::Duration;

/// One request, at most. The longest that is asked is 2,048 tokens in 16 streams at once: 15 s on two idle cores.
pub(crate) const REQUEST: Duration = Duration::from_mins(3);
/// A server's start. On two idle cores it takes less than a second.
pub(crate) const START: Duration = Duration::from_mins(1);
/// How often a starting server is asked whether it is ready: the error of that figure.
pub(crate) const READY_POLL: Duration = Duration::from_millis(4);
/// How long a stream beside busy neighbours is watched, from its first text: at 2 tokens/s, 20 tokens.
pub(crate) const BUSY_WINDOW: Duration = Duration::from_secs(10);
/// A hog ends by itself after this, whatever became of the process that started it.
pub(crate) const HOG_LIFE: Duration = Duration::from_mins(10);
/// Bytes of a refusal's body that are shown.
pub(crate) const REFUSAL_BYTES_MAX: usize = 400;
