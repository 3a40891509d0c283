//! Faults: which requests they hit, how often, and what goes wrong then. They combine: a part can be both slow and wrong.

use std::time::{Duration, SystemTime};

use crate::answer::Answer;
use crate::matching::Match;
use crate::repo::Tree;
use crate::request::Seen;

/// What a 429 says about when to come back.
#[derive(Clone, Debug)]
pub enum Retry {
    /// `RateLimit: "resolvers";r=0;t=N`, as the real hub answers, without `Retry-After`.
    RateLimit(u64),
    /// `Retry-After: N`.
    Seconds(u64),
    /// `Retry-After:` with the date in N seconds.
    Date(u64),
    /// Nothing.
    Neither,
    /// `Retry-After:` with this text.
    Text(String),
}

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Reset,
    Fin,
    Stall,
}

#[derive(Clone, Debug)]
pub(crate) enum Relocation {
    To(u16, String),
    Itself,
    Stranger,
}

/// What the wire does to an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire {
    /// Before the head when `None`, else after so many bytes of the body.
    pub cut: Option<(Option<u64>, Cut)>,
    pub bytes_per_second: Option<u64>,
    /// The offset in the file of the byte whose bits are inverted.
    pub flip: Option<u64>,
    pub flip_all: bool,
    pub extra_bytes: u64,
    /// Announced, unlike `extra_bytes`.
    pub padding_bytes: u64,
    pub delay: Option<Duration>,
    /// Exactly these bytes instead of head and body, then FIN.
    pub raw: Option<Vec<u8>>,
}

/// Something that goes wrong, for ever unless `times` limits it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that goes wrong, and they combine")]
pub struct Fault {
    matches: Match,
    skip: u32,
    left: Option<u32>,
    pub(crate) ignores_range: bool,
    pub(crate) instead: Option<Answer>,
    pub(crate) relocation: Option<Relocation>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) wrong_total: bool,
    pub(crate) shift_bytes: u64,
    pub(crate) shorten_bytes: u64,
    pub(crate) gzip: bool,
    pub(crate) etag_changes: bool,
    pub(crate) moves: Option<(String, String, Tree)>,
    pub(crate) wire: Wire,
}

impl Fault {
    /// A fault that hits the requests that `matches` describes, and does nothing yet.
    #[must_use]
    pub fn new(matches: Match) -> Self {
        Self {
            matches,
            skip: 0,
            left: None,
            ignores_range: false,
            instead: None,
            relocation: None,
            headers: Vec::new(),
            wrong_total: false,
            shift_bytes: 0,
            shorten_bytes: 0,
            gzip: false,
            etag_changes: false,
            moves: None,
            wire: Wire::default(),
        }
    }

    pub(crate) fn nothing() -> Self {
        Self::new(Match::any())
    }

    /// Only the next `count` matching requests.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.left = Some(count);
        self
    }

    /// Lets the first `count` matching requests through.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    /// An error status, with a body as that origin would send it.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        let body = match status {
            403 => "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code></Error>",
            _ => "Internal Error - We're working hard to fix this as soon as possible!",
        };
        self.answer(Answer::new(status, "text/plain; charset=utf-8", body))
    }

    /// 429, in each form.
    #[must_use]
    pub fn too_many_requests(self, retry: &Retry) -> Self {
        let answer = Answer::new(429, "text/plain; charset=utf-8", "We had to rate limit you");
        let at = |seconds| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
        self.answer(match retry {
            Retry::RateLimit(seconds) => answer.with("RateLimit", format!("\"resolvers\";r=0;t={seconds}")),
            Retry::Seconds(seconds) => answer.with("Retry-After", seconds.to_string()),
            Retry::Date(seconds) => answer.with("Retry-After", at(*seconds)),
            Retry::Text(text) => answer.with("Retry-After", text.as_str()),
            Retry::Neither => answer,
        })
    }

    /// 200 with a page of HTML, as a captive portal or a proxy answers everything.
    #[must_use]
    pub fn html_page(self) -> Self {
        let page = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please sign in.</body></html>";
        self.answer(Answer::new(200, "text/html; charset=utf-8", page))
    }

    /// 200 with this body.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.answer(Answer::new(200, content_type, body))
    }

    /// 200 with JSON, arrays nested `depth` deep.
    #[must_use]
    pub fn deep_json(self, depth: usize) -> Self {
        self.body("application/json; charset=utf-8", "[".repeat(depth) + &"]".repeat(depth))
    }

    fn answer(mut self, answer: Answer) -> Self {
        self.instead = Some(answer);
        self
    }

    /// Sets a header of the answer: `Link`, `Location`, `X-Repo-Commit`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Leaves a header out.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.push((name.to_owned(), None));
        self
    }

    /// `Link: <url>; rel="next"`: the listing goes on there.
    #[must_use]
    pub fn next_page(self, url: &str) -> Self {
        self.header("Link", &format!("<{url}>; rel=\"next\""))
    }

    /// A redirect to `location`. What the true answer says besides (`X-Linked-ETag`) stays when it is a redirect too.
    #[must_use]
    pub fn redirect(mut self, status: u16, location: &str) -> Self {
        self.relocation = Some(Relocation::To(status, location.to_owned()));
        self
    }

    /// A redirect to the request's own address with one more parameter, so that no two are equal.
    #[must_use]
    pub fn redirect_to_itself(mut self) -> Self {
        self.relocation = Some(Relocation::Itself);
        self
    }

    /// The true redirect, but over plain HTTP to the third origin: the hub's host, another port. It serves the file.
    #[must_use]
    pub fn redirect_to_stranger(mut self) -> Self {
        self.relocation = Some(Relocation::Stranger);
        self
    }

    /// Answers a ranged request with 200 and the whole file.
    #[must_use]
    pub fn ignoring_range(mut self) -> Self {
        self.ignores_range = true;
        self
    }

    /// A `Content-Range` whose total is one byte off.
    #[must_use]
    pub fn wrong_total(mut self) -> Self {
        self.wrong_total = true;
        self
    }

    /// A part that starts `bytes` later than asked, and says so.
    #[must_use]
    pub fn shifted(mut self, bytes: u64) -> Self {
        self.shift_bytes = bytes;
        self
    }

    /// A consistent answer that lacks the last `bytes` of what was asked for.
    #[must_use]
    pub fn shortened(mut self, bytes: u64) -> Self {
        self.shorten_bytes = bytes;
        self
    }

    /// The body packed, with `Content-Encoding: gzip`, whatever the client accepts.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Another `ETag` in every answer.
    #[must_use]
    pub fn changing_etag(mut self) -> Self {
        self.etag_changes = true;
        self
    }

    /// Moves a branch right after the matching request was answered: between a listing and the first GET, say.
    #[must_use]
    pub fn then_move_branch(mut self, repository: &str, branch: &str, tree: Tree) -> Self {
        self.moves = Some((repository.to_owned(), branch.to_owned(), tree));
        self
    }

    /// RST instead of an answer.
    #[must_use]
    pub fn reset(self) -> Self {
        self.cut(None, Cut::Reset)
    }

    /// RST after so many bytes of the body.
    #[must_use]
    pub fn reset_after(self, bytes: u64) -> Self {
        self.cut(Some(bytes), Cut::Reset)
    }

    /// FIN instead of an answer.
    #[must_use]
    pub fn fin(self) -> Self {
        self.cut(None, Cut::Fin)
    }

    /// FIN after so many bytes of the body: fewer than announced. Over TLS without `close_notify`.
    #[must_use]
    pub fn fin_after(self, bytes: u64) -> Self {
        self.cut(Some(bytes), Cut::Fin)
    }

    /// Silence instead of an answer, until the client or the test leaves.
    #[must_use]
    pub fn stall(self) -> Self {
        self.cut(None, Cut::Stall)
    }

    /// Silence after so many bytes of the body.
    #[must_use]
    pub fn stall_after(self, bytes: u64) -> Self {
        self.cut(Some(bytes), Cut::Stall)
    }

    fn cut(mut self, at: Option<u64>, cut: Cut) -> Self {
        self.wire.cut = Some((at, cut));
        self
    }

    /// A body that trickles.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.wire.bytes_per_second = Some(bytes.max(1));
        self
    }

    /// The head comes this much later.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.wire.delay = Some(delay);
        self
    }

    /// Inverts the byte at this offset of the file, in every answer that contains it.
    #[must_use]
    pub fn flip_byte(mut self, offset: u64) -> Self {
        self.wire.flip = Some(offset);
        self
    }

    /// Other content of the same length.
    #[must_use]
    pub fn other_content(mut self) -> Self {
        self.wire.flip_all = true;
        self
    }

    /// So many bytes beyond those announced, then FIN.
    #[must_use]
    pub fn extra_bytes(mut self, bytes: u64) -> Self {
        self.wire.extra_bytes = bytes;
        self
    }

    /// So many bytes more than the file or the part has, and a `Content-Length` that counts them.
    #[must_use]
    pub fn lengthened(mut self, bytes: u64) -> Self {
        self.wire.padding_bytes = bytes;
        self
    }

    /// Exactly these bytes instead of an answer, then FIN: heads that are no HTTP.
    #[must_use]
    pub fn raw(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.wire.raw = Some(bytes.into());
        self
    }
}

/// The first fault that hits this request, counted down.
pub(crate) fn take(faults: &mut [Fault], seen: &Seen) -> Option<Fault> {
    for fault in faults {
        if fault.left == Some(0) || !fault.matches.fits(seen) {
            continue;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            continue;
        }
        fault.left = fault.left.map(|left| left - 1);
        return Some(fault.clone());
    }
    None
}
