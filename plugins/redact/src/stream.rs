//! One stream of text on its way out.

use crate::place::{Place, Verdict};
use crate::redactor::Redactor;
use crate::tail::Tail;

/// What has to be remembered of the text that is gone already.
#[derive(Debug, Default)]
pub struct Stream {
    /// The last character, and the one before it.
    before: (Option<char>, Option<char>),
    /// The rest of something that was masked.
    tail: Option<Tail>,
    /// Matches of each kind, in the order of [`Redactor::names`].
    counts: Vec<usize>,
}

/// What became of a window.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes disposed of; the rest is to be shown again, with more text behind it.
    pub consumed: usize,
    /// What goes out in their place; `None`: they go as they are.
    pub instead: Option<String>,
}

impl Stream {
    /// Masks what can be decided in `window`: the text not consumed yet. With `last` set that is all of it.
    pub fn push(&mut self, redactor: &Redactor, window: &str, last: bool) -> Pushed {
        let mut out = Replacing { window, text: None, copied: 0 };
        let mut at = 0;
        let mut no_email = 0;
        while at < window.len() || (last && self.tail.is_some()) {
            let rest = &window[at..];
            if let Some(tail) = self.tail {
                let dropped = tail.drop_from(rest, last);
                out.replace(at, at + dropped.bytes, "");
                self.pass(&rest[..dropped.bytes]);
                no_email = 0;
                at += dropped.bytes;
                self.tail = dropped.tail.filter(|_| !(last && at == window.len()));
                if self.tail == Some(tail) {
                    break;
                }
                continue;
            }
            let place = Place { rest, before: self.before.0, before_that: self.before.1, last };
            let skipped = redactor.skippable(&place, no_email);
            if skipped > 0 {
                self.pass(&rest[..skipped]);
                at += skipped;
                no_email -= skipped;
                continue;
            }
            let length = match redactor.find(&place, &mut no_email) {
                (Verdict::More, _) => break,
                (Verdict::No, _) => rest.chars().next().map_or(0, char::len_utf8),
                (Verdict::Match { length, tail }, which) => {
                    out.replace(at, at + length, redactor.replacement(which));
                    self.count(which);
                    self.tail = tail;
                    length
                }
            };
            self.pass(&rest[..length]);
            at += length;
            no_email = no_email.saturating_sub(length);
        }
        Pushed { consumed: at, instead: out.finish(at) }
    }

    /// Matches of each kind so far, in the order of [`Redactor::names`]; kinds at the end that had none are missing.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    fn count(&mut self, which: usize) {
        if self.counts.len() <= which {
            self.counts.resize(which + 1, 0);
        }
        self.counts[which] += 1;
    }

    fn pass(&mut self, text: &str) {
        let mut characters = text.chars().rev();
        match (characters.next(), characters.next()) {
            (None, _) => {}
            (last, None) => self.before = (last, self.before.0),
            (last, before) => self.before = (last, before),
        }
    }
}

/// A text that is copied only when something in it changes.
struct Replacing<'a> {
    window: &'a str,
    text: Option<String>,
    copied: usize,
}

impl Replacing<'_> {
    fn replace(&mut self, start: usize, end: usize, replacement: &str) {
        if start == end {
            return;
        }
        let text = self.text.get_or_insert_default();
        text.push_str(&self.window[self.copied..start]);
        text.push_str(replacement);
        self.copied = end;
    }

    fn finish(self, end: usize) -> Option<String> {
        let mut text = self.text?;
        text.push_str(&self.window[self.copied..end]);
        Some(text)
    }
}
