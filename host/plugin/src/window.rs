//! The text of one channel between a filter's input and its output: what it has not consumed yet.
//!
//! Pure: the clock is an argument, and the filter is called by somebody else, between [`Window::show`] and
//! [`Window::settle`].

use std::time::{Duration, Instant};

use crate::fault::Fault;

/// How a filter wants to be driven, within what the operator allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// New bytes to wait for; 0: every piece. `u32::MAX` stands for the whole text.
    pub(crate) min_bytes: usize,
    /// How long to wait for them at most; zero: as long as it takes. Looked at when text arrives.
    pub(crate) max_delay: Duration,
    /// Most bytes that the filter may leave unconsumed.
    pub(crate) holdback_max: usize,
    /// Most bytes that may wait for any reason.
    pub(crate) waiting_max: usize,
}

/// What a filter did with the text that it was shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Bytes disposed of; `u32::MAX`: all.
    pub(crate) consume: u32,
    /// Sent in their place.
    pub(crate) instead: Option<String>,
    /// Generation ends after this.
    pub(crate) stops: bool,
}

/// Text that is not consumed yet.
#[derive(Debug, Default)]
pub(crate) struct Window {
    text: String,
    /// Where the text begins that the filter has not been shown.
    new_from: usize,
    first_new_at: Option<Instant>,
}

impl Window {
    /// Takes more text in.
    pub(crate) fn append(&mut self, text: &str, now: Instant) {
        self.text.push_str(text);
        if !text.is_empty() {
            self.first_new_at.get_or_insert(now);
        }
    }

    /// Bytes that are not consumed yet.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether the filter is to be called now.
    pub(crate) fn is_due(&self, rules: &Rules, now: Instant) -> bool {
        let Some(first_new_at) = self.first_new_at else { return false };
        let is_enough = self.text.len() - self.new_from >= rules.min_bytes;
        let is_late = !rules.max_delay.is_zero() && now.duration_since(first_new_at) >= rules.max_delay;
        is_enough || is_late
    }

    /// Whether the text that waits to be shown has outgrown what may wait.
    pub(crate) fn check_waiting(&self, rules: &Rules) -> Result<(), Fault> {
        if self.text.len() <= rules.waiting_max {
            return Ok(());
        }
        Err(Fault::contract(format!(
            "asks to collect {} bytes and {} are waiting, more than the {} it may hold back; lower its `min-bytes` or \
             raise the plugin's limit `holdback_bytes`",
            rules.min_bytes,
            self.text.len(),
            rules.waiting_max
        )))
    }

    /// The text to show, and where its new part begins. It is given back by [`Window::settle`].
    pub(crate) fn show(&mut self) -> (String, usize) {
        self.first_new_at = None;
        (std::mem::take(&mut self.text), self.new_from)
    }

    /// Takes the shown text back with the filter's verdict, and returns what goes on to the next stage.
    pub(crate) fn settle(
        &mut self,
        mut shown: String,
        verdict: Verdict,
        last: bool,
        rules: &Rules,
    ) -> Result<String, Fault> {
        let consumed = if verdict.consume == u32::MAX { shown.len() } else { verdict.consume as usize };
        if consumed > shown.len() {
            return Err(Fault::contract(format!("consumed {consumed} bytes of a window of {}", shown.len())));
        }
        if !shown.is_char_boundary(consumed) {
            return Err(Fault::contract(format!("consumed {consumed} bytes, which ends inside a character")));
        }
        let held = shown.len() - consumed;
        if held > rules.holdback_max && !last && !verdict.stops {
            return Err(Fault::contract(format!(
                "holds back {held} bytes and may hold back {}; lower what it holds, or raise its `max-holdback` and the \
                 plugin's limit `holdback_bytes`",
                rules.holdback_max
            )));
        }
        let rest = shown.split_off(consumed);
        let mut emitted = verdict.instead.unwrap_or(shown);
        match (verdict.stops, last) {
            // The filter ended the answer at a place of its choosing; what it did not consume is behind that place.
            (true, _) => {}
            (false, true) => emitted.push_str(&rest),
            (false, false) => self.text = rest,
        }
        self.new_from = self.text.len();
        Ok(emitted)
    }

    /// Everything that is held, because the filter is not there any more.
    pub(crate) fn release(&mut self) -> String {
        std::mem::take(self).text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { min_bytes: 0, max_delay: Duration::ZERO, holdback_max: 8, waiting_max: 8 };

    /// Shows "ab" (held before) + `new` and settles with a verdict; returns what was emitted and what is still held.
    fn check(new: &str, verdict: Verdict, last: bool, expected: Result<(&str, &str), &str>) {
        let mut window = Window::default();
        let now = Instant::now();
        window.append("ab", now);
        let (shown, new_from) = window.show();
        assert_eq!(new_from, 0);
        let held = window.settle(shown, Verdict { consume: 0, ..Verdict::default() }, false, &RULES);
        assert_eq!(held.as_deref(), Ok(""));
        window.append(new, now);
        let (shown, new_from) = window.show();
        assert_eq!(new_from, 2);
        match (window.settle(shown, verdict, last, &RULES), expected) {
            (Ok(emitted), Ok((sent, still_held))) => assert_eq!((&*emitted, &*window.text), (sent, still_held)),
            (Err(fault), Err(words)) => assert!(fault.detail.contains(words), "{}", fault.detail),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    fn consume(consume: u32) -> Verdict {
        Verdict { consume, ..Verdict::default() }
    }

    fn replace(consume: u32, instead: &str) -> Verdict {
        Verdict { consume, instead: Some(instead.to_owned()), ..Verdict::default() }
    }

    #[test]
    fn passing_holding_and_rewriting() {
        check("cd", consume(u32::MAX), false, Ok(("abcd", "")));
        check("cd", consume(4), false, Ok(("abcd", "")));
        check("cd", consume(3), false, Ok(("abc", "d")));
        check("cd", consume(0), false, Ok(("", "abcd")));
        check("cd", replace(u32::MAX, "[x]"), false, Ok(("[x]", "")));
        check("cd", replace(3, "[x]"), false, Ok(("[x]", "d")));
        check("cd", replace(0, "[x]"), false, Ok(("[x]", "abcd")));
    }

    #[test]
    fn at_the_end_what_is_not_consumed_is_sent() {
        check("cd", consume(0), true, Ok(("abcd", "")));
        check("cd", replace(3, "[x]"), true, Ok(("[x]d", "")));
        check("more than eight", consume(0), true, Ok(("abmore than eight", "")));
    }

    #[test]
    fn a_stop_ends_where_the_filter_says() {
        check("cd", Verdict { consume: 3, instead: None, stops: true }, false, Ok(("abc", "")));
        check("cd", Verdict { consume: 3, instead: None, stops: true }, true, Ok(("abc", "")));
    }

    #[test]
    fn nonsense_is_a_contract_fault() {
        check("cd", consume(5), false, Err("consumed 5 bytes of a window of 4"));
        check("é", consume(3), false, Err("inside a character"));
        check("é", consume(3), true, Err("inside a character"));
        check("more than eight", consume(1), false, Err("holds back 16 bytes"));
    }

    #[test]
    fn a_filter_is_called_when_there_is_enough_or_when_it_is_late() {
        let rules = Rules { min_bytes: 4, max_delay: Duration::from_millis(50), ..RULES };
        let start = Instant::now();
        let mut window = Window::default();
        assert!(!window.is_due(&rules, start), "nothing is new");
        window.append("abc", start);
        assert!(!window.is_due(&rules, start));
        assert!(window.is_due(&rules, start + rules.max_delay));
        window.append("d", start);
        assert!(window.is_due(&rules, start));
    }

    #[test]
    fn collecting_has_an_end() {
        let rules = Rules { min_bytes: usize::MAX, ..RULES };
        let mut window = Window::default();
        window.append("12345678", Instant::now());
        assert_eq!(window.check_waiting(&rules), Ok(()));
        window.append("9", Instant::now());
        assert!(window.check_waiting(&rules).is_err());
    }
}
