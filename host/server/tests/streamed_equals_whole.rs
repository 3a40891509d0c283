//! However the engine cuts its text into pieces, a streamed answer says what a whole one says.

mod support;

use inference::Finish;
use proptest::prelude::*;
use support::fakes::{FakePipeline, says};
use support::{STREAMED, Setup, WHOLE};

#[derive(Debug, Clone)]
struct Case {
    pieces: Vec<String>,
    pipeline: FakePipeline,
}

fn case() -> impl Strategy<Value = Case> {
    // Few characters, so that patterns occur, and some of more than one byte, so that a cut in the middle would show.
    let text = "[abé€\u{1f600}\"\\\\\n<]{0,60}";
    let pieces = (text, prop::collection::vec(any::<prop::sample::Index>(), 0..12)).prop_map(|(text, cuts)| {
        let characters: Vec<char> = text.chars().collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(characters.len() + 1)).collect();
        cuts.extend([0, characters.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|cut| characters[cut[0]..cut[1]].iter().collect()).collect()
    });
    let pattern = prop::option::of("[abé€<]{2,3}");
    (pieces, pattern.clone(), pattern.clone(), pattern).prop_map(|(pieces, replaced, stops_at, thinks_until)| {
        let pipeline = FakePipeline {
            // What replaces cannot become part of another pattern: the fake looks at its own output again.
            replaces: replaced.map(|from| (from, "#".to_owned())),
            stops_at: stops_at.map(|at| (at, Finish::Stop)),
            thinks_until,
            ..FakePipeline::default()
        };
        Case { pieces, pipeline }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn streamed_equals_whole(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (streamed, whole) = runtime.block_on(async {
            let pieces: Vec<&str> = case.pieces.iter().map(String::as_str).collect();
            let server = Setup { script: says(&pieces), pipeline: case.pipeline.clone(), ..Setup::default() }.start().await;
            (server.chat(STREAMED).await, server.chat(WHOLE).await)
        });
        prop_assert!(streamed.is_whole && streamed.body.ends_with("data: [DONE]\n\n"), "{}", streamed.body);
        let message = &whole.json()["choices"][0]["message"];
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        prop_assert_eq!(streamed.streamed_texts(), (text("content"), text("reasoning_content")));
    }
}
