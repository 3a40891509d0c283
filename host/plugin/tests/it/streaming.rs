//! Streamed and buffered answers are equal, byte for byte, wherever the pieces end.

use std::sync::LazyLock;

use inference::{Delta, Stage};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::house::{Answer, House, chat, guest_for, renderer};

pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// Text made of what the filters look for, parts of it, other characters and line ends.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("secret"),
        Just("secr"),
        Just("s"),
        Just("naïve"),
        Just("naï"),
        Just("日本"),
        Just("🦀"),
        Just(" "),
        Just("STO"),
        Just("STOP"),
        Just("\n"),
        Just("!reasoning "),
        Just("!call f\n"),
        Just("!end \n"),
        Just("x"),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

/// `text` cut at some of its character boundaries.
pub(crate) fn pieces(text: &str, cuts: &[prop::sample::Index]) -> Vec<String> {
    let boundaries: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    let mut places: Vec<usize> =
        cuts.iter().filter(|_| !boundaries.is_empty()).map(|cut| *cut.get(&boundaries)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| text[ends[0]..ends[1]].to_owned()).collect()
}

fn answer(house: &House, pieces: &[String]) -> Result<Answer, String> {
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    RUNTIME.block_on(house.answer(&pieces)).map_err(|error| format!("{error:?}"))
}

/// A chain of filters, each a configuration of the test guest, behind a parser or not.
fn chain(parses: bool, filters: &[&str]) -> House {
    let mut specs = vec![if parses {
        guest_for(&[Stage::Prompt, Stage::Parse], "renderer", r#"{"lines": true}"#)
    } else {
        renderer()
    }];
    for (number, config) in filters.iter().enumerate() {
        specs.push(guest_for(&[Stage::Postprocess], &format!("filter-{number}"), config));
    }
    House::of(specs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_that_changes_nothing_changes_nothing(text in text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        static HOUSE: LazyLock<House> =
            LazyLock::new(|| chain(false, &["{}", r#"{"min-bytes": 7}"#, r#"{"min-bytes": 4294967295}"#]));
        let streamed = answer(&HOUSE, &pieces(&text, &cuts)).expect("they behave");
        prop_assert_eq!(streamed.content, text);
    }

    #[test]
    fn streamed_is_buffered(text in text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        static HOUSE: LazyLock<House> = LazyLock::new(|| {
            chain(true, &[r#"{"mask": "secret"}"#, r#"{"stop": "STOP"}"#, r#"{"mask": "naïve", "min-bytes": 5}"#])
        });
        let buffered = answer(&HOUSE, std::slice::from_ref(&text));
        let streamed = answer(&HOUSE, &pieces(&text, &cuts));
        // A call that is begun twice, or ended without a beginning, fails either way; only behind a stop nobody may ever
        // see it.
        let may_differ = text.contains("STOP");
        prop_assert!(may_differ || buffered.is_ok() == streamed.is_ok(), "{:?} {:?}", streamed, buffered);
        if let (Ok(streamed), Ok(buffered)) = (streamed, buffered) {
            prop_assert!(!buffered.content.contains("secret") && !buffered.content.contains("naïve"));
            prop_assert_eq!(streamed, buffered);
        }
    }
}

/// What of an answer's order clients can see: `!` marks a call that begins while text from before it is held.
async fn order(filter: &str) -> Vec<String> {
    let house = chain(true, &[filter]);
    let mut run = house.begin();
    run.prepare(chat("Hello")).await.expect("they behave");
    let mut order = Vec::new();
    let pieces = ["!reasoning hm\nyes\n!reasoning ah\n!call add\n", "!arguments {}\n!end \n!call now\n", ""];
    for (number, piece) in pieces.iter().enumerate() {
        let output = run.push((*piece).to_owned(), Vec::new(), number + 1 == pieces.len()).await.expect("they behave");
        order.extend(output.deltas.into_iter().map(|delta| match delta {
            Delta::Content(text) | Delta::ToolArguments { text, .. } => text,
            Delta::Reasoning(text) => format!("({text})"),
            Delta::ToolCallStart { name, overtakes_text: true, .. } => format!("{name}!"),
            Delta::ToolCallStart { name, .. } => name,
            Delta::ToolCallEnd { index } => format!("end {index}"),
        }));
    }
    order
}

/// A thought is over before what follows it; text goes on behind a call, and the call says so. One that is cut has no end.
#[test]
fn what_is_held_keeps_its_place_or_is_told_of() {
    let check = |filter, expected: &[&str]| assert_eq!(RUNTIME.block_on(order(filter)), expected, "{filter}");
    let in_order = ["(hm)", "yes\n", "(ah)", "add", "{}", "end 0", "now"];
    check("{}", &in_order);
    check(r#"{"mask": "hmm"}"#, &in_order);
    check(r#"{"mask": "ahoi"}"#, &in_order);
    let late = ["(hmah)", "add!", "{}", "end 0", "now!", "yes\n"];
    check(r#"{"min-bytes": 200}"#, &late);
    check(r#"{"min-bytes": 4294967295}"#, &late);
}
