//! Long computations off the async threads, where nobody's stream waits for them.

use std::sync::Arc;

use admission::Permit;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ChatError;

/// What a request holds while it is computed for. A computation keeps it to its own end: one that nobody waits for any more takes
/// the processor and the memory all the same, and who leaves must not have more of both than a slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    pub(super) permit: Option<Arc<Permit>>,
    /// The request's share of what bodies may take.
    pub(super) share: Option<Share>,
}

/// A part of the memory for bodies; free again when the last of its holders is gone.
pub(crate) type Share = Arc<OwnedSemaphorePermit>;

/// Computes `work`, which may ask whether somebody still waits for it, and may then return anything.
pub(super) async fn off_thread<T: Send + 'static>(
    attempted: &'static str,
    hold: Hold,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> Result<T, ChatError> {
    let (end, ended) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let is_wanted = || !end.is_closed();
        // It may have waited for a thread.
        let done = is_wanted().then(|| work(&is_wanted));
        // First: the slot is free before the answer is known.
        drop(hold);
        if let Some(done) = done {
            // Who has left needs no result.
            let _ = end.send(done);
        }
    });
    ended.await.map_err(|_| ChatError::Internal { attempted })
}
