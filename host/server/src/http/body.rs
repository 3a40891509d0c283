//! A request's body in memory: bounded in size, in time, and over all connections; and what it says.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::status::Failure;
use crate::ChatError;
use crate::limits;
use crate::wire::Refusal;

/// Reads bodies within limits, of which one is shared: the bytes held at once.
pub(super) struct BodyReader {
    bytes_max: usize,
    timeout: Duration,
    budget: Arc<Semaphore>,
    parsers: Arc<Semaphore>,
}

/// A whole body, and its share of the budget for as long as this lives.
pub(super) struct HeldBody {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// What one permit of the budget stands for; a semaphore counts in 32 bits when many are taken at once.
const BUDGET_UNIT_BYTES: usize = 1024;

impl BodyReader {
    pub(super) fn new(bytes_max: usize, timeout: Duration) -> Self {
        // A single body must fit, whatever the operator allows one to be.
        let units = limits::BODIES_BYTES_MAX.max(bytes_max).div_ceil(BUDGET_UNIT_BYTES);
        let parsers = Arc::new(Semaphore::new(limits::PARSERS_MAX));
        Self { bytes_max, timeout, budget: Arc::new(Semaphore::new(units)), parsers }
    }

    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<HeldBody, Failure> {
        // Said at once, before a byte of it: the client may be waiting for leave to send (`Expect: 100-continue`).
        let announced = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.bytes_max as u64) {
            return Err(self.too_large());
        }
        let deadline = Instant::now() + self.timeout;
        tokio::time::timeout_at(deadline, self.collect(body)).await.unwrap_or_else(|_elapsed| {
            let message = format!("the body did not arrive within {} s", self.timeout.as_secs_f32());
            Err(Failure::client(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        })
    }

    /// Parses a body and lets go of its text. The share stays with what was parsed of it.
    pub(super) async fn parse<T: Send + 'static>(
        &self,
        body: HeldBody,
        parse: impl FnOnce(&[u8]) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(T, Option<OwnedSemaphorePermit>), Failure> {
        let body_bytes = body.bytes.len();
        let work = move || {
            let HeldBody { bytes, share } = body;
            parse(&bytes).map(|parsed| (parsed, share))
        };
        if body_bytes <= limits::PARSE_INLINE_BYTES_MAX {
            return Ok(work()?);
        }
        let failed = || Failure::from(&ChatError::Internal { attempted: "read the body" });
        let place = Arc::clone(&self.parsers).acquire_owned().await.map_err(|_closed| failed())?;
        // The place goes along: who leaves meanwhile does not make room before the work is done.
        let done = tokio::task::spawn_blocking(move || {
            let parsed = work();
            drop(place);
            parsed
        });
        Ok(done.await.map_err(|_| failed())??)
    }

    async fn collect(&self, mut body: Body) -> Result<HeldBody, Failure> {
        let mut held = HeldBody { bytes: Vec::new(), share: None };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Failure::client(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off before its end")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let total = held.bytes.len() + data.len();
            if total > self.bytes_max {
                return Err(self.too_large());
            }
            self.reserve(&mut held, total)?;
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }

    /// Takes what `total` bytes need of the budget, beyond what is held already.
    fn reserve(&self, held: &mut HeldBody, total: usize) -> Result<(), Failure> {
        let units = |bytes: usize| u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let more = units(total) - units(held.bytes.len());
        let Ok(more) = Arc::clone(&self.budget).try_acquire_many_owned(more) else {
            return Err(Failure::overloaded(
                "the bodies of other requests take all the memory for them; try again later",
            ));
        };
        match &mut held.share {
            Some(share) => share.merge(more),
            None => held.share = Some(more),
        }
        Ok(())
    }

    fn too_large(&self) -> Failure {
        let message = format!("the body is larger than {} bytes; shorten the conversation", self.bytes_max);
        Failure::client(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    /// What takes long to read holds up nobody's events.
    #[tokio::test]
    async fn large_bodies_are_parsed_off_the_async_threads() {
        let reader = BodyReader::new(limits::BODY_BYTES_MAX_DEFAULT, limits::BODY_TIMEOUT_DEFAULT);
        for (bytes, is_here) in [(limits::PARSE_INLINE_BYTES_MAX, true), (limits::PARSE_INLINE_BYTES_MAX + 1, false)] {
            let share = Arc::clone(&reader.budget).try_acquire_owned().ok();
            let body = HeldBody { bytes: vec![b' '; bytes], share };
            let parsed = reader.parse(body, |bytes| Ok((current().id(), bytes.len()))).await;
            let ((thread, read), share) = parsed.unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_eq!((thread == current().id(), read), (is_here, bytes));
            assert!(share.is_some(), "the share stays with what was parsed");
        }
        assert_eq!(reader.parsers.available_permits(), limits::PARSERS_MAX);
    }
}
