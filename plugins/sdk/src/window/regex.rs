//! Regular expressions.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{BuildError, LazyStateID};
use regex_automata::nfa::thompson;
use regex_automata::util::alphabet::Unit;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, PatternID};

use super::{Found, Place, replace_all};
use crate::Result;
use crate::chunk::Chunk;
use crate::stages::postprocess::Output;
use crate::types::Error;

/// Most memory that the compiled patterns may take, in bytes: of the 32 MiB that a plugin has unless configured.
const NFA_BYTES_MAX: usize = 4 << 20;

/// Memory for the states that are met, in bytes; they are forgotten and made again where that is too little.
const CACHE_BYTES: usize = 1 << 20;

/// Finds matches of regular expressions in a window of streamed text: the ones that `regex` would find in the whole
/// text, of up to so many bytes.
///
/// What is held is exactly the longest suffix that more text could still make a match, or make a longer one. Looking at
/// a character costs the same whatever the patterns are; a text may be looked at as often as a match may have bytes.
///
/// The syntax is that of the [`regex`](https://docs.rs/regex) crate with two limits: `\b` and its kin must say that they
/// mean ASCII, `(?-u:\b)`, and of Unicode's classes there are `\w`, `\d`, `\s` and case.
///
/// Making one takes 5 to 30 µs natively, and some 130 µs more for each `\w`, which is a large class; `\w{2,8}` has eight of
/// them. `[0-9A-Za-z_]` costs next to nothing, and a plugin is made for every request.
#[derive(Debug)]
pub struct RegexWindow {
    dfa: DFA,
    cache: Cache,
    bytes_max: usize,
    /// For each byte whether a match may begin with it.
    beginnings: [Begins; 256],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Unknown,
    Perhaps,
    Never,
}

/// What stands at a place.
enum Stands {
    No,
    /// A match that ends there.
    Until(usize, PatternID),
    /// The window ends before it is known.
    Perhaps,
}

/// What can come of a state.
enum Future {
    /// No match, or none but those that were seen.
    Nothing,
    /// A match that ends here, whatever follows.
    Match(PatternID),
    /// That depends on what follows.
    Open,
}

impl RegexWindow {
    /// A window that looks for `pattern`, in matches of up to `bytes_max` bytes. A longer one is found in parts or not
    /// at all. No more than that is ever held.
    pub fn new(pattern: &str, bytes_max: usize) -> Result<Self> {
        Self::of_several(&[pattern], bytes_max)
    }

    /// A window for several patterns. Of two matches at the same place that of the earlier pattern is found.
    pub fn of_several(patterns: &[impl AsRef<str>], bytes_max: usize) -> Result<Self> {
        let dfa = DFA::builder()
            .syntax(syntax::Config::new())
            .thompson(thompson::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX)))
            .configure(DFA::config().cache_capacity(CACHE_BYTES).skip_cache_capacity_check(true))
            .build_many(patterns)
            .map_err(|error| Error::Internal(refusal(&error)))?;
        let cache = dfa.create_cache();
        let mut window = Self { dfa, cache, bytes_max, beginnings: [Begins::Unknown; 256] };
        let nothing = Place { window: "", from: 0, before: None, last: true };
        if matches!(window.stands(nothing, 0), Stands::Until(..)) {
            return Err("a pattern matches the empty text, so it would be found everywhere".into());
        }
        Ok(window)
    }

    /// Looks at the window of a chunk.
    #[must_use]
    pub fn find_in(&mut self, chunk: &Chunk) -> Found {
        self.find_at(Place { window: &chunk.window, from: 0, before: chunk.before, last: chunk.last })
    }

    /// Puts what `with` says in the place of every match; it is given the match, and its pattern's number.
    #[must_use]
    pub fn replace(&mut self, chunk: &Chunk, with: impl FnMut(&str, usize) -> String) -> Output {
        replace_all(chunk, |place| self.find_at(place), with)
    }

    fn find_at(&mut self, place: Place<'_>) -> Found {
        let window = place.window;
        for start in place.from..window.len() {
            if !window.is_char_boundary(start) || !self.may_begin_with(window.as_bytes()[start]) {
                continue;
            }
            match self.stands(place, start) {
                Stands::Until(end, pattern) if end > start => {
                    return Found::Match { place: start..end, which: pattern.as_usize() };
                }
                // A pattern that is empty only between certain characters.
                Stands::No | Stands::Until(..) => {}
                Stands::Perhaps => return Found::Nothing { free: start },
            }
        }
        Found::Nothing { free: window.len() }
    }

    fn stands(&mut self, place: Place<'_>, start: usize) -> Stands {
        let window = place.window.as_bytes();
        let mut state = self.start(last_byte(place.before(start)));
        let mut best = None;
        let found =
            |best: Option<(usize, PatternID)>| best.map_or(Stands::No, |(end, which)| Stands::Until(end, which));
        for (at, &byte) in window.iter().enumerate().skip(start) {
            state = self.next(state, byte);
            if state.is_match() {
                // Known one byte late: it ended before this one.
                best = Some((at, self.dfa.match_pattern(&self.cache, state, 0)));
            } else if state.is_dead() {
                return found(best);
            }
            if at - start >= self.bytes_max {
                return found(best);
            }
        }
        if place.last {
            let end = self.end(state);
            if end.is_match() {
                best = Some((window.len(), self.dfa.match_pattern(&self.cache, end, 0)));
            }
            return found(best);
        }
        match self.future(state) {
            Future::Nothing => found(best),
            Future::Match(which) => Stands::Until(window.len(), which),
            Future::Open => Stands::Perhaps,
        }
    }

    /// What can come of a state, by what its next states are; asked only where a window ends.
    fn future(&mut self, state: LazyStateID) -> Future {
        // States are forgotten when there are too many; then it is not known, and more text will tell.
        let clears = self.cache.clear_count();
        let end = self.end(state);
        let which = end.is_match().then(|| self.dfa.match_pattern(&self.cache, end, 0));
        let is_decided = match which {
            None => self.all_next(state, clears, |_, next| next.is_dead()),
            Some(which) => self.all_next(state, clears, |window, next| {
                next.is_match()
                    && window.dfa.match_pattern(&window.cache, next, 0) == which
                    && window.all_next(next, clears, |_, after| after.is_dead())
            }),
        };
        match which {
            _ if !is_decided => Future::Open,
            Some(which) => Future::Match(which),
            None => Future::Nothing,
        }
    }

    /// Whether something holds for all states that can come next, as long as no state was forgotten.
    fn all_next(&mut self, state: LazyStateID, clears: usize, holds: impl Fn(&mut Self, LazyStateID) -> bool) -> bool {
        let classes = *self.dfa.byte_classes();
        classes.representatives(0..=255).filter_map(Unit::as_u8).all(|byte| {
            self.cache.clear_count() == clears && {
                let next = self.next(state, byte);
                self.cache.clear_count() == clears && holds(self, next)
            }
        })
    }

    /// Whether a match may begin with this byte, in any surroundings.
    fn may_begin_with(&mut self, byte: u8) -> bool {
        if self.beginnings[usize::from(byte)] == Begins::Unknown {
            // One of each kind that an assertion can tell apart.
            let surroundings = [None, Some(b'a'), Some(b' '), Some(b'\n'), Some(b'\r'), Some(0xff)];
            let may = surroundings.into_iter().any(|before| {
                let start = self.start(before);
                !self.next(start, byte).is_dead()
            });
            self.beginnings[usize::from(byte)] = if may { Begins::Perhaps } else { Begins::Never };
        }
        self.beginnings[usize::from(byte)] == Begins::Perhaps
    }

    fn start(&mut self, before: Option<u8>) -> LazyStateID {
        let config = start::Config::new().anchored(Anchored::Yes).look_behind(before);
        self.dfa.start_state(&mut self.cache, &config).expect("nothing makes the automaton give up or quit")
    }

    fn next(&mut self, state: LazyStateID, byte: u8) -> LazyStateID {
        self.dfa.next_state(&mut self.cache, state, byte).expect("nothing makes the automaton give up")
    }

    fn end(&mut self, state: LazyStateID) -> LazyStateID {
        self.dfa.next_eoi_state(&mut self.cache, state).expect("nothing makes the automaton give up")
    }
}

/// What assertions see of the character before: its last byte, which for all that is not ASCII is no word's.
fn last_byte(before: Option<char>) -> Option<u8> {
    let mut bytes = [0; 4];
    before.and_then(|before| before.encode_utf8(&mut bytes).bytes().next_back())
}

fn refusal(error: &BuildError) -> String {
    let mut text = format!("a pattern cannot be used: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if text.contains("word bound") {
        text.push_str("; write `(?-u:\\b)` for words of ASCII letters");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests_support::{cuts, stream};
    use super::*;

    fn check(pattern: &str, window: &str, last: bool, expected: &Found) {
        let mut regex = RegexWindow::new(pattern, 64).unwrap();
        assert_eq!(regex.find_at(Place { window, from: 0, before: None, last }), *expected, "{pattern} in {window:?}");
    }

    fn found(start: usize, end: usize) -> Found {
        Found::Match { place: start..end, which: 0 }
    }

    #[test]
    fn exactly_what_may_become_a_match_is_held() {
        check("EMP-[0-9]{4}", "an EM", false, &Found::Nothing { free: 3 });
        check("EMP-[0-9]{4}", "an EMP-12", false, &Found::Nothing { free: 3 });
        check("EMP-[0-9]{4}", "an EMP-12", true, &Found::Nothing { free: 9 });
        check("EMP-[0-9]{4}", "an EMx", false, &Found::Nothing { free: 6 });
    }

    #[test]
    fn a_match_that_nothing_can_change_is_not_held() {
        check("EMP-[0-9]{4}", "an EMP-1234", false, &found(3, 11));
        check("EMP-[0-9]{4,5}", "an EMP-1234", false, &Found::Nothing { free: 3 });
        check("EMP-[0-9]{4,5}", "an EMP-1234 ", false, &found(3, 11));
        check("a|ab", "a", false, &found(0, 1));
        check("ab|a", "a", false, &Found::Nothing { free: 0 });
    }

    #[test]
    fn assertions_see_what_stands_around() {
        check(r"(?-u:\b)stop(?-u:\b)", "stop", false, &Found::Nothing { free: 0 });
        check(r"(?-u:\b)stop(?-u:\b)", "stop", true, &found(0, 4));
        check(r"(?-u:\b)stop(?-u:\b)", "unstop stop.", false, &found(7, 11));
        let mut regex = RegexWindow::new(r"(?-u:\b)stop", 64).unwrap();
        let place = Place { window: "stop", from: 0, before: Some('n'), last: false };
        assert_eq!(regex.find_at(place), Found::Nothing { free: 4 });
    }

    #[test]
    fn letters_of_all_scripts_have_case() {
        check("(?i)übung", "die ÜBUNG", false, &found(4, 10));
        check(r"\w+!", "naïve!", false, &found(0, 7));
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused_in_words() {
        let refused = |pattern| format!("{:?}", RegexWindow::new(pattern, 64).unwrap_err());
        assert!(refused(r"\bstop\b").contains(r"(?-u:"), "{}", refused(r"\bstop\b"));
        assert!(refused("a*").contains("empty text"), "{}", refused("a*"));
        assert!(refused("(").contains("unclosed group"), "{}", refused("("));
        assert!(refused(r"\w{1000}").contains("limit"), "{}", refused(r"\w{1000}"));
    }

    #[test]
    fn no_more_is_held_than_a_match_may_have() {
        let mut regex = RegexWindow::new("a+b", 8).unwrap();
        for length in 0..40 {
            let window = "a".repeat(length);
            let place = Place { window: &window, from: 0, before: None, last: false };
            assert_eq!(regex.find_at(place), Found::Nothing { free: length.saturating_sub(8) });
        }
        assert_eq!(
            stream(|place| regex.find_at(place), &format!("{}b", "a".repeat(20)), &[3, 9, 15]),
            format!("{}[0]", "a".repeat(13))
        );
    }

    /// Patterns with all that makes a difference here: alternatives, repetitions greedy and not, classes, assertions.
    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("é".to_owned()),
            Just("[ab]".to_owned()),
            Just(".".to_owned()),
            Just(r"(?-u:\b)".to_owned()),
            Just("$".to_owned()),
            Just("^".to_owned()),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 2..3).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, prop::sample::select(vec!["?", "{1,3}", "{2}", "+", "+?", "??", "*"]))
                    .prop_map(|(inner, times)| format!("(?:{inner}){times}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

        /// What is found in a stream is what `regex` finds in the whole text, however the text is cut.
        #[test]
        fn a_stream_has_the_matches_of_the_whole(
            pattern in pattern(),
            input in "[abé \n]{0,16}",
            indices in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let Ok(mut window) = RegexWindow::new(&pattern, 256) else { return Ok(()) };
            let whole = regex::Regex::new(&pattern).unwrap();
            // Where a pattern is empty only in some places, `regex` finds those too.
            prop_assume!(whole.find_iter(&input).all(|found| !found.is_empty()));
            let expected = whole.replace_all(&input, "[0]");
            prop_assert_eq!(stream(|place| window.find_at(place), &input, &cuts(&input, &indices)), expected);
        }

        /// Every text that is held has a continuation in which it is part of a match that begins right there.
        #[test]
        fn nothing_is_held_in_vain(pattern in "(?:[ab.]|[ab]\\?|[ab]\\{2\\}|\\(a\\|bb\\)){1,5}", input in "[ab]{0,8}") {
            let Ok(mut window) = RegexWindow::new(&pattern, 64) else { return Ok(()) };
            let Found::Nothing { free } = window.find_at(Place { window: &input, from: 0, before: None, last: false })
            else { return Ok(()) };
            let held = &input[free..];
            if held.is_empty() { return Ok(()) }
            let anchored = regex::Regex::new(&format!(r"\A(?:{pattern})")).unwrap();
            // All continuations that any of these patterns could ask for.
            let mut continuations = vec![String::new()];
            let mut ends = std::collections::BTreeSet::new();
            for at in 0.. {
                let Some(more) = continuations.get(at).cloned() else { break };
                ends.insert(anchored.find(&format!("{held}{more}")).map(|found| found.end()));
                if more.len() < 9 {
                    continuations.extend([format!("{more}a"), format!("{more}b")]);
                }
            }
            prop_assert!(ends.len() > 1, "{:?} is held for {}", held, pattern);
        }
    }
}
