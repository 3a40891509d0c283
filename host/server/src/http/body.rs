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
use crate::service::Share;
use crate::wire::Refusal;

/// Reads bodies within limits, of which some are shared: the bytes held at once.
pub(super) struct BodyReader {
    bytes_max: usize,
    timeout: Duration,
    /// For bodies of any size.
    any: Arc<Semaphore>,
    /// For those that are small.
    small: Arc<Semaphore>,
    parsers: Arc<Semaphore>,
}

/// A whole body, and its share of the budget for as long as this lives.
pub(super) struct HeldBody {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Option<Share>,
}

/// What one permit of the budget stands for; a semaphore counts in 32 bits when many are taken at once.
const BUDGET_UNIT_BYTES: usize = 1024;

impl BodyReader {
    pub(super) fn new(bytes_max: usize, timeout: Duration) -> Self {
        // A single body must fit, whatever the operator allows one to be.
        let any = (limits::BODIES_BYTES_MAX - limits::SMALL_BODIES_BYTES_MAX).max(bytes_max);
        let of = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(BUDGET_UNIT_BYTES)));
        let parsers = Arc::new(Semaphore::new(limits::PARSERS_MAX));
        Self { bytes_max, timeout, any: of(any), small: of(limits::SMALL_BODIES_BYTES_MAX), parsers }
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
    ) -> Result<(T, Option<Share>), Failure> {
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
        let (mut bytes, mut share) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Failure::client(StatusCode::BAD_REQUEST, "invalid_body", "the body broke off before its end")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let total = bytes.len() + data.len();
            if total > self.bytes_max {
                return Err(self.too_large());
            }
            share = self.share(share, total);
            if share.is_none() {
                return Err(Failure::overloaded(
                    "the bodies of other requests take all the memory for them; try again later",
                ));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(HeldBody { bytes, share: share.map(Arc::new) })
    }

    /// What `total` bytes need of the budget, beginning with what is held of it; `None`: there is not as much.
    fn share(&self, held: Option<OwnedSemaphorePermit>, total: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(total.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let small = (total <= limits::SMALL_BODY_BYTES_MAX).then_some(&self.small);
        if let Some(mut share) = held {
            let more = units.saturating_sub(u32::try_from(share.num_permits()).unwrap_or(u32::MAX));
            let is_its_place = Arc::ptr_eq(share.semaphore(), &self.any) || small.is_some();
            if is_its_place && let Ok(more) = Arc::clone(share.semaphore()).try_acquire_many_owned(more) {
                share.merge(more);
                return Some(share);
            }
            // It has outgrown its place, or that is full: the other one has to hold all of it.
        }
        let places = std::iter::once(&self.any).chain(small);
        places.into_iter().find_map(|place| Arc::clone(place).try_acquire_many_owned(units).ok())
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

    const MIB: usize = 1024 * 1024;

    /// What takes long to read holds up nobody's events.
    #[tokio::test]
    async fn large_bodies_are_parsed_off_the_async_threads() {
        let reader = BodyReader::new(limits::BODY_BYTES_MAX_DEFAULT, limits::BODY_TIMEOUT_DEFAULT);
        for (bytes, is_here) in [(limits::PARSE_INLINE_BYTES_MAX, true), (limits::PARSE_INLINE_BYTES_MAX + 1, false)] {
            let body = HeldBody { bytes: vec![b' '; bytes], share: reader.share(None, bytes).map(Arc::new) };
            let parsed = reader.parse(body, |bytes| Ok((current().id(), bytes.len()))).await;
            let ((thread, read), share) = parsed.unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_eq!((thread == current().id(), read), (is_here, bytes));
            assert!(share.is_some(), "the share stays with what was parsed");
        }
        assert_eq!(reader.parsers.available_permits(), limits::PARSERS_MAX);
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let reader = BodyReader::new(4 * MIB, Duration::from_secs(1));
        let large: Vec<_> = (0..14).map(|_| reader.share(None, 4 * MIB).expect("56 MiB are for any")).collect();
        assert!(reader.share(None, MIB).is_none());
        let small = reader.share(None, 64 * 1024).expect("a small one");
        assert!(reader.share(Some(small), 64 * 1024 + 1).is_none(), "it has grown and there is no room");
        let many: Vec<_> = (0..128).map_while(|_| reader.share(None, 64 * 1024)).collect();
        assert_eq!(many.len(), 128, "what grew gave its place back");
        assert!(reader.share(None, 1).is_none());
        drop(large);
        assert!(reader.share(None, MIB).is_some());
    }

    #[test]
    fn a_body_takes_what_it_has_and_no_more() {
        let reader = BodyReader::new(4 * MIB, Duration::from_secs(1));
        let all = (reader.any.available_permits(), reader.small.available_permits());
        let mut share = None;
        for total in [1, 1024, 1025, 70_000, 4 * MIB] {
            share = reader.share(share, total);
            let held = all.0 + all.1 - reader.any.available_permits() - reader.small.available_permits();
            assert_eq!(held, total.div_ceil(BUDGET_UNIT_BYTES));
        }
        drop(share);
        assert_eq!((reader.any.available_permits(), reader.small.available_permits()), all);
    }
}
