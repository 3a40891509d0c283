//! The one thread that computes: what it drives is built on it, and its end is seen however it ends.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::decode_loop::Shared;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E: std::error::Error + 'static> {
    /// The operating system gave no thread.
    #[error("failed to start the {name} thread")]
    Thread {
        /// What it is called.
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What computes could not be built.
    #[error(transparent)]
    Decoder(E),
    /// Building it panicked; the panic is on standard error.
    #[error("building the decoder panicked")]
    Panicked,
}

/// Starts a thread that builds with `build` and then lives in `run`. Returns when it is built, or why it is not.
pub(crate) fn start<L, E>(
    name: &'static str,
    shared: Arc<Shared>,
    build: impl FnOnce() -> Result<L, E> + Send + 'static,
    run: impl FnOnce(L) + Send + 'static,
) -> Result<JoinHandle<()>, StartError<E>>
where
    E: std::error::Error + Send + 'static,
{
    let (ready, is_ready) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _mark = MarkStopped(shared);
            match build() {
                Ok(engine) => {
                    if ready.send(Ok(())).is_ok() {
                        run(engine);
                    }
                }
                // Whoever waits for the answer has gone only if the process is going.
                Err(error) => drop(ready.send(Err(error))),
            }
        })
        .map_err(|source| StartError::Thread { name, source })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(StartError::Decoder(error)),
        Err(mpsc::RecvError) => Err(StartError::Panicked),
    }
}

/// Tells the handle that the thread has ended, however it ended. When it panics, the requests are dropped while it
/// unwinds, their channels close, and no client waits for ever.
struct MarkStopped(Arc<Shared>);

impl Drop for MarkStopped {
    fn drop(&mut self) {
        self.0.has_stopped.store(true, Relaxed);
    }
}
