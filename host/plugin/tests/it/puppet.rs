//! What the host makes of answers that nobody would give: made up, and judged by a model of the contract in a few lines.

use std::sync::LazyLock;

use inference::{Call, Finish, PipelineError, Stage};
use plugin::{BreakerConfig, PluginSpec};
use proptest::prelude::*;

use crate::house::{Answer, House, call, guest_for, renderer};
use crate::streaming::{RUNTIME, pieces};

/// Bytes that the test guest may hold back; see its profile.
const HOLDBACK: usize = 256;

fn puppet(stages: &[Stage]) -> PluginSpec {
    let breaker = BreakerConfig { faults_max: 0, ..BreakerConfig::default() };
    PluginSpec { headers: vec!["x-puppet".to_owned()], breaker, ..guest_for(stages, "puppet", "{}") }
}

fn play(house: &House, script: &[String], pieces: &[String]) -> Result<Answer, PipelineError> {
    let headers = vec![("x-puppet".to_owned(), script.join(";"))];
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    RUNTIME.block_on(house.answer_to(Call { headers, ..call() }, &pieces))
}

/// A filter's answer.
#[derive(Debug, Clone)]
struct Line {
    consume: u32,
    instead: Option<&'static str>,
    stop: Option<usize>,
}

impl Line {
    fn spelled(&self) -> String {
        let instead = self.instead.map_or("-".to_owned(), |text| format!(".{text}"));
        let stop = self.stop.map_or("-".to_owned(), |stop| stop.to_string());
        format!("{} {instead} {stop}", self.consume)
    }
}

fn line() -> impl Strategy<Value = Line> {
    let consume = prop_oneof![4 => 0..9_u32, 2 => Just(u32::MAX), 1 => any::<u32>()];
    let instead = prop_oneof![3 => Just(None), 1 => Just(Some("")), 2 => Just(Some("日")), 1 => Just(Some("instead"))];
    let stop = prop_oneof![12 => Just(None), 1 => (0..6_usize).prop_map(Some)];
    (consume, instead, stop).prop_map(|(consume, instead, stop)| Line { consume, instead, stop })
}

/// What a client should see: the contract, read slowly.
fn expected(pieces: &[String], script: &[Line]) -> Option<(String, Option<Finish>)> {
    let (mut window, mut out) = (String::new(), String::new());
    let mut script = script.iter();
    for (number, piece) in pieces.iter().enumerate() {
        window += piece;
        let pushes = [(!piece.is_empty()).then_some(false), (number + 1 == pieces.len()).then_some(true)];
        for last in pushes.into_iter().flatten() {
            let all = Line { consume: u32::MAX, instead: None, stop: None };
            let Line { consume, instead, stop } = script.next().unwrap_or(&all);
            let done = if *consume == u32::MAX { window.len() } else { *consume as usize };
            let rest = window.get(done..)?.to_owned();
            out += instead.unwrap_or(&window[..done]);
            window = rest;
            if let Some(stop) = stop {
                let kinds = [Finish::Stop, Finish::Length, Finish::Stop];
                return Some((out, Some(*kinds.get(*stop).unwrap_or(&Finish::Filtered))));
            }
            if !last && window.len() > HOLDBACK {
                return None;
            }
        }
    }
    Some((out + &window, None))
}

/// An event of a parser, as it is spelled.
fn event() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["c.text", "c.", "c.日*40", "r.why", "s.f", "s.f*300", "a.{}", "a.", "e"])
}

/// Whether the events make sense in their order.
fn is_sound(events: &[Vec<&str>]) -> bool {
    let mut is_open = false;
    events.iter().flatten().all(|event| {
        let fits = match event.as_bytes()[0] {
            b's' => !is_open,
            b'a' | b'e' => is_open,
            _ => true,
        };
        is_open = match event.as_bytes()[0] {
            b's' => true,
            b'e' => false,
            _ => is_open,
        };
        fits
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_does_what_the_contract_says_or_fails(
        text in "[a-cé日 ]{0,40}|x{250,260}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        script in prop::collection::vec(line(), 0..8),
    ) {
        static HOUSE: LazyLock<House> = LazyLock::new(|| House::of(vec![renderer(), puppet(&[Stage::Postprocess])]));
        let pieces = pieces(&text, &cuts);
        let played = play(&HOUSE, &script.iter().map(Line::spelled).collect::<Vec<_>>(), &pieces);
        match (played, expected(&pieces, &script)) {
            (Ok(answer), Some((content, stop))) => prop_assert_eq!((answer.content, answer.stop), (content, stop)),
            (Err(PipelineError::Fault { stage: Stage::Postprocess, .. }), None) => {}
            (played, expected) => prop_assert!(false, "{:?} and not {:?}", played, expected),
        }
    }

    #[test]
    fn a_parser_does_what_the_contract_says_or_fails(
        events in prop::collection::vec(prop::collection::vec(event(), 0..5), 1..5),
    ) {
        static HOUSE: LazyLock<House> = LazyLock::new(|| House::of(vec![puppet(&[Stage::Prompt, Stage::Parse])]));
        let script: Vec<String> = events.iter().map(|events| events.join(" ")).collect();
        let answer = play(&HOUSE, &script, &vec!["piece".to_owned(); events.len()]);
        prop_assert_eq!(answer.is_ok(), is_sound(&events), "{:?}", answer);
        if let Ok(answer) = answer {
            let text = |kind: &str| {
                let texts = events.iter().flatten().filter(|event| event.starts_with(kind));
                texts.map(|event| event[2..].replace("日*40", &"日".repeat(40))).collect::<String>()
            };
            prop_assert_eq!((answer.content, answer.reasoning), (text("c."), text("r.")));
            let names = events.iter().flatten().filter(|event| event.starts_with("s."));
            // A name of 300 bytes is cut.
            let lengths: Vec<_> = names.map(|event| if event.contains('*') { 256 } else { 1 }).collect();
            prop_assert_eq!(answer.calls.iter().map(|(name, _)| name.len()).collect::<Vec<_>>(), lengths);
        }
    }
}
