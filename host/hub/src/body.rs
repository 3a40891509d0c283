//! The bytes of a file as they come, held to what was asked for.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::error::HubError;
use crate::limits::PROGRESS_BYTES_MIN;
use crate::obstacle;

/// Bytes of a file, arriving. Too few, too many or too slow is an error; whether they are the right ones only their
/// digest says.
pub struct Body {
    response: Response,
    what: String,
    range: Range<u64>,
    received: u64,
    idle: Duration,
    /// When the answer counts as stalled, and how much had come when that was set.
    deadline: Instant,
    received_before: u64,
}

/// Without the answer itself, whose address may be signed.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, range, received, .. } = self;
        f.debug_struct("Body")
            .field("what", what)
            .field("range", range)
            .field("received", received)
            .finish_non_exhaustive()
    }
}

impl Body {
    /// The body of an answer with a success's status.
    pub(crate) fn new(answer: Answer<'_>, asked: &Range<u64>, whole: u64) -> Result<Self, HubError> {
        let range = match answer.status() {
            StatusCode::PARTIAL_CONTENT => part(&answer, asked, whole)?,
            _ => 0..whole,
        };
        let expected = range.end - range.start;
        // What hyper knows of the length is the body's as it comes; the header is what was said.
        let announced = answer.response.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        if let Some(announced) = announced.filter(|&announced: &u64| announced != expected) {
            return Err(HubError::WrongLength {
                what: answer.what(),
                announced: format!("{announced} bytes"),
                expected,
            });
        }
        let idle = answer.client.config.timeouts.idle;
        let (what, deadline) = (answer.what(), Instant::now() + idle);
        Ok(Self { response: answer.response, what, range, received: 0, idle, deadline, received_before: 0 })
    }

    /// Which bytes of the file these are. A server without ranges sends the whole file, whatever was asked for.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The next bytes, or `None` when all have come.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HubError> {
        let expected = self.range.end - self.range.start;
        loop {
            let Ok(read) = timeout_at(self.deadline, self.response.chunk()).await else {
                return Err(HubError::Stalled { what: self.what.clone(), received: self.received, after: self.idle });
            };
            let chunk = match read {
                Ok(Some(chunk)) if chunk.is_empty() => continue,
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.received == expected => return Ok(None),
                Ok(None) => return Err(self.truncated(expected)),
                Err(error) if obstacle::is_early_end(&error) => return Err(self.truncated(expected)),
                Err(error) => return Err(obstacle::broken(error, self.what.clone(), self.received)),
            };
            self.received += chunk.len() as u64;
            if self.received > expected {
                let announced = format!("{} bytes and perhaps more", self.received);
                return Err(HubError::WrongLength { what: self.what.clone(), announced, expected });
            }
            if self.received - self.received_before >= PROGRESS_BYTES_MIN {
                self.received_before = self.received;
                self.deadline = Instant::now() + self.idle;
            }
            return Ok(Some(chunk));
        }
    }

    fn truncated(&self, expected: u64) -> HubError {
        HubError::Truncated { what: self.what.clone(), received: self.received, expected }
    }
}

/// The range of a 206, which must be the one that was asked for, of a file as long as it is listed.
fn part(answer: &Answer<'_>, asked: &Range<u64>, whole: u64) -> Result<Range<u64>, HubError> {
    let given = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    if given.and_then(content_range) == Some((asked.clone(), whole)) {
        return Ok(asked.clone());
    }
    Err(wrong_range(answer, asked, whole))
}

/// The error of an answer with other bytes than those asked for.
pub(crate) fn wrong_range(answer: &Answer<'_>, asked: &Range<u64>, whole: u64) -> HubError {
    let status = answer.status().as_u16();
    let answered = match answer.shown_header(&CONTENT_RANGE) {
        Some(range) => format!("{status}, {range}"),
        None => format!("{status} without a Content-Range"),
    };
    HubError::WrongRange { what: answer.what(), asked: asked.clone(), whole, answered }
}

/// `bytes FIRST-LAST/TOTAL` as a range and a total.
fn content_range(given: &str) -> Option<(Range<u64>, u64)> {
    let (unit, rest) = given.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last && last < total;
    is_sound.then(|| (first..last + 1, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: Option<&(Range<u64>, u64)>) {
        assert_eq!(content_range(given).as_ref(), expected, "{given}");
    }

    #[test]
    fn a_content_range_says_which_bytes_of_how_many() {
        check("bytes 0-0/1", Some(&(0..1, 1)));
        check("bytes 5-9/10", Some(&(5..10, 10)));
        check("Bytes 5-9/10", Some(&(5..10, 10)));
    }

    #[test]
    fn what_says_less_or_contradicts_itself_is_no_content_range() {
        for given in [
            "",
            "bytes",
            "bytes */10",
            "bytes 0-4/*",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "items 0-1/2",
            "bytes 0-1",
            "bytes -1/2",
            "bytes +0-1/2",
            "bytes 0-18446744073709551616/18446744073709551617",
            "bytes 0-1/2, bytes 3-4/5",
        ] {
            check(given, None);
        }
        check("bytes 0-18446744073709551615/18446744073709551615", None);
    }
}
