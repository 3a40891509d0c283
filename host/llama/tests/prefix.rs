//! What a slot remembers is as good as computed anew: on a real model, whose every token depends on all before it.

use std::path::{Path, PathBuf};

use engine::{Choice, Decoder as _, DecoderShape, Logits, RawLogprobs, Row, Slot};
use inference::{Sampling, SpecialTokens, Token};
use llama::{LlamaDecoder, LoadOptions, Model};

const SLOTS: usize = 3;
const TEXT: &str = "A lighthouse keeper on a small island writes down the weather every morning. On Monday there was fog, on \
                    Tuesday rain, on Wednesday a storm that broke two windows, and on Thursday the sky was clear again. \
                    The keeper's log for Thursday begins with the";
const OTHER: &str =
    " The recipe for a simple bread needs flour, water, salt and some patience, because the dough has to rest.";

fn demo() -> PathBuf {
    tests::host::demo_model()
}

fn gemma() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/gemma-3-270m-q4_k_m.gguf")
}

struct Bench {
    model: Model,
    decoder: LlamaDecoder,
}

impl Bench {
    fn new(path: PathBuf) -> Self {
        let model = Model::load(&LoadOptions { context_length: Some(1024), ..LoadOptions::new(path, "test") }).unwrap();
        let decoder = model
            .decoder(DecoderShape { slots: SLOTS, context_length: 1024, rows_max: 600, samples_max: SLOTS })
            .unwrap();
        Self { model, decoder }
    }

    fn tokens(&self, text: &str) -> Vec<Token> {
        let vocabulary = self.model.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.prompt_start().into_iter().collect();
        tokens.extend(vocabulary.tokenize(text, SpecialTokens::Literal));
        tokens
    }

    fn begin(&mut self, slot: usize, keep: usize) -> usize {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        self.decoder.begin(Slot(slot), u32::try_from(keep).unwrap(), &sampling) as usize
    }

    /// Computes `tokens` from `from` on, and how likely the next ones are.
    fn compute(&mut self, slot: usize, tokens: &[Token], from: usize) -> RawLogprobs {
        let slot = Slot(slot);
        let rows: Vec<Row> = (from..tokens.len())
            .map(|place| Row {
                slot,
                token: tokens[place],
                position: u32::try_from(place).unwrap(),
                wants_logits: place + 1 == tokens.len(),
            })
            .collect();
        self.decoder.decode(&rows, &|| false).unwrap();
        let choice = Choice { logprobs: Some(5), ..Choice::default() };
        self.decoder.sample(slot, Logits::Row(rows.len() - 1), &choice).unwrap().logprobs.unwrap()
    }

    /// `tokens` from nothing, in a slot that forgets them again.
    fn alone(&mut self, tokens: &[Token]) -> RawLogprobs {
        let slot = SLOTS - 1;
        assert_eq!(self.begin(slot, 0), 0);
        let logprobs = self.compute(slot, tokens, 0);
        self.decoder.end(Slot(slot));
        self.decoder.forget(Slot(slot));
        logprobs
    }
}

/// The same token first, and all as likely as that. Logits depend on how many rows are computed together, so what is
/// computed in other pieces is not equal to the last bit.
#[track_caller]
fn check_alike(found: &RawLogprobs, wanted: &RawLogprobs) {
    assert_eq!(found.top[0].0, wanted.top[0].0, "{found:?} {wanted:?}");
    for (token, logprob) in &wanted.top[..3] {
        let other = found.top.iter().find(|(other, _)| other == token);
        assert!(other.is_some_and(|(_, other)| (other - logprob).abs() < 0.5), "{found:?} {wanted:?}");
    }
}

fn check_reuse(path: PathBuf) {
    let mut bench = Bench::new(path);
    let tokens = bench.tokens(TEXT);
    let whole = bench.alone(&tokens);

    // The same again, all but its last token kept.
    assert_eq!(bench.begin(0, 0), 0);
    bench.compute(0, &tokens, 0);
    bench.decoder.end(Slot(0));
    let keep = tokens.len() - 1;
    assert_eq!(bench.begin(0, keep), keep);
    let again = bench.compute(0, &tokens, keep);
    check_alike(&again, &whole);

    // A copy of it, in another slot: the same bits, so the same logits.
    let saved = bench.decoder.save(Slot(0)).unwrap();
    assert_eq!(saved.len(), bench.decoder.saved_bytes(Slot(0)));
    bench.decoder.end(Slot(0));
    assert!(bench.decoder.restore(Slot(1), &saved));
    assert_eq!(bench.begin(1, keep), keep);
    assert_eq!(bench.compute(1, &tokens, keep), again);
    bench.decoder.end(Slot(1));

    // Back to the middle, and on with something else.
    let middle = tokens.len() / 2;
    let turned: Vec<Token> = tokens[..middle].iter().copied().chain(bench.tokens(OTHER).into_iter().skip(1)).collect();
    let wanted = bench.alone(&turned);
    for slot in [0, 1] {
        assert_eq!(bench.begin(slot, middle), middle);
        check_alike(&bench.compute(slot, &turned, middle), &wanted);
        bench.decoder.end(Slot(slot));
    }
}

#[test]
fn what_is_remembered_is_as_good_as_computed() {
    check_reuse(demo());
}

#[test]
#[ignore = "needs Gemma 3 270M (253 MB), which `tests/run.sh --full` downloads"]
fn what_is_remembered_is_as_good_as_computed_with_sliding_windows() {
    check_reuse(gemma());
}

#[test]
fn a_copy_that_is_none_leaves_an_empty_slot() {
    let mut bench = Bench::new(demo());
    let tokens = bench.tokens(TEXT);
    let whole = bench.alone(&tokens);
    bench.begin(0, 0);
    bench.compute(0, &tokens, 0);
    bench.decoder.end(Slot(0));
    let saved = bench.decoder.save(Slot(0)).unwrap();
    for bad in [&saved[..saved.len() / 2], &saved[..3], b"nothing of the kind", b""] {
        assert!(!bench.decoder.restore(Slot(0), bad), "{} bytes", bad.len());
        assert_eq!(bench.begin(0, 0), 0);
        check_alike(&bench.compute(0, &tokens, 0), &whole);
        bench.decoder.end(Slot(0));
    }
}

#[test]
fn what_is_not_remembered_is_not_kept() {
    let mut bench = Bench::new(demo());
    let tokens = bench.tokens(TEXT);
    assert_eq!(bench.begin(0, 5), 0, "the slot is empty");
    bench.compute(0, &tokens[..10], 0);
    bench.decoder.end(Slot(0));
    assert_eq!(bench.begin(0, 11), 0, "it remembers ten");
}
