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
/// Requests before `soak` looks for the first time: every place of the pool of instances was used by then.
pub(crate) const SOAK_WARM_UP: u32 = 1_500;
/// How long a server is left alone before `soak` looks for the first time: connections are closed by then.
pub(crate) const SOAK_REST: Duration = Duration::from_secs(2);
/// How long `soak` waits for a server to come to rest again. tokio ends a thread that has had nothing to do for 10 s.
pub(crate) const SOAK_REST_MAX: Duration = Duration::from_secs(30);
/// How often `soak` looks whether the server has come to rest.
pub(crate) const SOAK_POLL: Duration = Duration::from_millis(100);
/// By how much a server's memory may have grown when `soak` looks for the second time. The pool keeps up to 1 MiB of each of its
/// places mapped, and the allocator what it has once had; over a hundred thousand requests this is 160 bytes for each.
pub(crate) const SOAK_GROWTH_BYTES: u64 = 16 << 20;
/// Lines of a server's log that a failure shows.
pub(crate) const LOG_LINES_SHOWN: usize = 20;
/// Of each load of `overload`. Three times the longest that a request of it may take.
pub(crate) const OVERLOAD: Duration = Duration::from_mins(1);
/// The same with `--quick`: half of them end within it.
pub(crate) const OVERLOAD_QUICK: Duration = Duration::from_secs(15);
/// Connections that `idle` opens: four pods' worth of clients that keep theirs.
pub(crate) const IDLE_CONNECTIONS: usize = 2_000;
/// What they may cost together (issue 6 of the design): 20 kB each.
pub(crate) const IDLE_BYTES: u64 = 40_000_000;
