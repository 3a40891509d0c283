use std::ffi::CString;
use std::sync::{Arc, OnceLock};

use ::tests::markov::Markov;
use engine::DecoderShape;
use inference::{SpecialTokens, Vocabulary as _};
use proptest::prelude::*;

use super::*;
use crate::dry::Breakers;
use crate::kv_type::KvType;
use crate::model::{LoadOptions, Weights};
use crate::threads::Threads;

/// As many tokens as the tests' own logits have.
const TOKENS: u32 = 64;

fn sampling() -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(1), ..Sampling::default() }
}

/// A sampler without a model: nothing is suppressed, and DRY has no breakers.
fn sampler(sampling: &Sampling) -> Sampler {
    let bans = |bias: f32| bias <= BIAS_BANS;
    let place = |&(token, bias): &(Token, f32)| (token.0 as usize, bias);
    Sampler {
        biases: sampling.logit_bias.iter().map(place).filter(|&(_, bias)| !bans(bias)).collect(),
        banned: sampling.logit_bias.iter().map(place).filter(|&(_, bias)| bans(bias)).map(|(token, _)| token).collect(),
        penalties: Penalties::new(sampling),
        dry: sampling.dry.as_ref().map(|dry| Dry::new(dry, Breakers::new())),
        chain: (sampling.temperature >= TEMPERATURE_MIN).then(|| Chain::new(sampling)),
    }
}

fn mask(tokens: &[u32]) -> TokenMask {
    let mut words = vec![0; TOKENS.div_ceil(u32::BITS) as usize];
    for token in tokens {
        words[(token / u32::BITS) as usize] |= 1 << (token % u32::BITS);
    }
    TokenMask::from_words(words)
}

impl Sampler {
    fn next(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Option<u32> {
        let mut room = Room::default();
        let logits = self.adjusted(logits, &[], &mut room.logits);
        let token = self.choose(logits, allowed, &mut room.candidates, &mut room.maxima)?;
        self.accept(token);
        Some(token.0)
    }

    /// As [`Sampler::choose`], with the biases and penalties of `self` in `logits` already.
    fn draws(&mut self, logits: &[f32], allowed: Option<&TokenMask>, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next(logits, allowed).expect("there are tokens to choose from")).collect()
    }
}

/// Logits that fall by `step` from token to token.
fn falling(step: f32) -> Vec<f32> {
    (0..TOKENS).map(|token| -step * token as f32).collect()
}

#[test]
fn a_given_seed_is_never_the_one_that_means_any() {
    assert_eq!(seed(None), SEED_ANY);
    assert_eq!(seed(Some(7)), 7);
    assert_ne!(seed(Some(u64::from(u32::MAX))), SEED_ANY);
    assert_ne!(seed(Some(7 << 32)), seed(Some(8 << 32)));
}

#[test]
fn a_mask_is_walked_by_its_bits() {
    let logits = falling(1.0);
    let tokens = |mask: &TokenMask| held(&logits, mask).map(|(token, _)| token.0).collect::<Vec<_>>();
    assert_eq!(tokens(&mask(&[0, 31, 32, 63])), [0, 31, 32, 63]);
    assert!(tokens(&mask(&[])).is_empty());
    let beyond = TokenMask::from_words(vec![0, 0, 1, u32::MAX]);
    assert!(tokens(&beyond).is_empty(), "bits beyond the vocabulary are no tokens");
}

#[test]
fn a_seed_repeats_its_choices_with_and_without_a_mask() {
    let (logits, mask) = (falling(0.05), mask(&[5, 9, 40, 41, 42]));
    for allowed in [None, Some(&mask)] {
        let draws = |seed| sampler(&Sampling { seed: Some(seed), ..sampling() }).draws(&logits, allowed, 64);
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
    let draws = || sampler(&Sampling { seed: None, ..sampling() }).draws(&logits, None, 64);
    assert_ne!(draws(), draws());
}

#[test]
fn at_temperature_0_the_likeliest_allowed_token_is_chosen() {
    for temperature in [0.0, 1e-9] {
        let mut greedy = sampler(&Sampling { temperature, ..sampling() });
        assert_eq!(greedy.next(&falling(1.0), None), Some(0));
        assert_eq!(greedy.next(&falling(1.0), Some(&mask(&[40, 9, 17]))), Some(9));
        assert_eq!(greedy.next(&falling(0.0), None), Some(0), "of equal ones the first");
    }
    let cold = sampler(&Sampling { temperature: TEMPERATURE_MIN, ..sampling() }).draws(&falling(1.0), None, 100);
    assert!(cold.iter().all(|&token| token == 0));
}

/// Shares of `tokens` in many draws, against what they should be.
fn check_shares(draws: &[u32], tokens: &[u32], expected: &[f32]) {
    for (token, expected) in tokens.iter().zip(expected) {
        let share = draws.iter().filter(|draw| *draw == token).count() as f32 / draws.len() as f32;
        assert!((share - expected).abs() < 0.01, "token {token} has {share}, not {expected}");
    }
}

#[test]
fn a_mask_leaves_the_odds_of_what_it_allows() {
    let logits = falling(0.1);
    let allowed = [3, 4, 20, 63];
    let weights = allowed.map(|token| logits[token as usize].exp());
    let expected = weights.map(|weight| weight / weights.iter().sum::<f32>());
    let draws = sampler(&sampling()).draws(&logits, Some(&mask(&allowed)), 40_000);
    assert!(draws.iter().all(|draw| allowed.contains(draw)));
    check_shares(&draws, &allowed, &expected);
}

#[test]
fn where_no_token_is_allowed_none_is_chosen() {
    for temperature in [0.0, 1.0] {
        let mut sampler = sampler(&Sampling { temperature, logit_bias: vec![(Token(5), -100.0)], ..sampling() });
        assert_eq!(sampler.next(&falling(1.0), Some(&mask(&[]))), None);
        assert_eq!(sampler.next(&falling(1.0), Some(&mask(&[5]))), None, "the only one is banned");
        assert_eq!(sampler.next(&[f32::NAN; 4], None), None);
        assert_eq!(sampler.next(&[f32::INFINITY, f32::NAN, -1.0, f32::NEG_INFINITY], None), Some(2));
    }
}

#[test]
fn biases_ban_favour_and_force() {
    let biased = |token, bias| {
        let sampling = Sampling { logit_bias: vec![(Token(token), bias)], ..sampling() };
        sampler(&sampling).draws(&falling(0.05), None, 2000)
    };
    let count = |draws: &[u32], token| draws.iter().filter(|&&draw| draw == token).count();
    assert_eq!(count(&biased(0, -100.0), 0), 0);
    assert_eq!(count(&biased(40, 100.0), 40), 2000);
    let (less, more) = (count(&biased(20, -1.0), 20), count(&biased(20, 1.0), 20));
    assert!(more > 3 * less && less > 0, "{less} and {more}");
    // Nobody's token: it bans nothing and breaks nothing.
    assert_eq!(biased(1_000_000, -100.0).len(), 2000);
}

/// The tokens that `sampling` may choose.
fn support(sampling: &Sampling, logits: &[f32]) -> Vec<u32> {
    let mut tokens = sampler(sampling).draws(logits, None, 20_000);
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

#[test]
fn every_cut_keeps_what_it_should() {
    // Each token is half as likely as the one before: 1/2, 1/4, 1/8, …
    let halves = falling(std::f32::consts::LN_2);
    assert!(support(&sampling(), &halves).len() > 8);
    assert_eq!(support(&Sampling { top_k: 3, ..sampling() }, &halves), [0, 1, 2]);
    assert_eq!(support(&Sampling { top_p: 0.7, ..sampling() }, &halves), [0, 1]);
    assert_eq!(support(&Sampling { min_p: 0.2, ..sampling() }, &halves), [0, 1, 2]);
    // Their entropy is 2 ln 2: the second token is exactly typical, the first and the third are equally less so.
    assert_eq!(support(&Sampling { typical_p: 0.2, ..sampling() }, &halves), [1]);
    assert_eq!(support(&Sampling { typical_p: 0.8, ..sampling() }, &halves), [0, 1, 2]);
    assert_eq!(support(&Sampling { temperature: 0.01, ..sampling() }, &halves), [0]);
}

#[test]
fn temperature_changes_the_odds() {
    let draws = |temperature| sampler(&Sampling { temperature, ..sampling() }).draws(&[0.0, 1.0], None, 40_000);
    let odds = |temperature: f32| 1.0 / (1.0 + (-1.0 / temperature).exp());
    for temperature in [0.5, 1.0, 2.0] {
        check_shares(&draws(temperature), &[1], &[odds(temperature)]);
    }
}

#[test]
fn a_choice_is_noted_once_however_often_it_was_tried() {
    let sampling = Sampling { temperature: 0.0, frequency_penalty: 0.4, ..sampling() };
    let mut sampler = sampler(&sampling);
    // Token 0 is refused each time. 8 is chosen until three penalties outweigh its distance to 9, and so on.
    let chosen = sampler.draws(&falling(1.0), Some(&mask(&[8, 9])), 6);
    assert_eq!(chosen, [8, 8, 8, 9, 8, 9]);
}

#[test]
fn dry_ends_a_loop() {
    let settings = inference::Dry { multiplier: 1.0, base: 1.75, allowed_length: 2, sequence_breakers: Vec::new() };
    // Token n is followed by n + 1, and 3 by 0; second best is 10 + n.
    let run = |dry: Option<inference::Dry>| {
        let mut sampler = sampler(&Sampling { temperature: 0.0, dry, ..sampling() });
        let mut token = 0;
        let mut next = || {
            let mut logits = vec![0.0; TOKENS as usize];
            logits[(token as usize + 1) % 4] = 2.0;
            logits[10 + token as usize % 10] = 1.0;
            token = sampler.next(&logits, None).unwrap();
            token
        };
        (0..12).map(|_| next()).collect::<Vec<_>>()
    };
    assert_eq!(run(None), [1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0]);
    // After 1 2 3 0 1 2 the 3 would make three of three: it costs the multiplier, and one more what is left of 2.
    assert_ne!(run(Some(settings)), run(None));
}

/// What one of llama.cpp's samplers makes of logits after these tokens; takes the sampler.
fn as_llama(sampler: *mut sys::llama_sampler, history: &[u32], logits: &[f32]) -> Vec<f32> {
    let candidate = |(id, &logit): (i32, &f32)| sys::llama_token_data { id, logit, p: 0.0 };
    let mut candidates: Vec<_> = (0..).zip(logits).map(candidate).collect();
    let mut array = sys::llama_token_data_array {
        data: candidates.as_mut_ptr(),
        size: candidates.len(),
        selected: -1,
        sorted: false,
    };
    // SAFETY: the sampler is the caller's, fresh, and freed here once; the array is as long as it says.
    unsafe {
        for token in history {
            sys::llama_sampler_accept(sampler, token.cast_signed());
        }
        sys::llama_sampler_apply(sampler, &raw mut array);
        sys::llama_sampler_free(sampler);
    }
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    candidates.into_iter().map(|candidate| candidate.logit).collect()
}

fn check_equal(ours: &[f32], llama: &[f32]) -> Result<(), TestCaseError> {
    for (token, (ours, llama)) in ours.iter().zip(llama).enumerate() {
        let is_same = (ours - llama).abs() <= 1e-5 * llama.abs().max(1.0);
        prop_assert!(is_same, "token {token}: {ours}, and llama.cpp says {llama}");
    }
    Ok(())
}

/// A Markov model, loaded once.
fn model() -> &'static (Arc<Weights>, LlamaVocabulary) {
    static MODEL: OnceLock<(Arc<Weights>, LlamaVocabulary)> = OnceLock::new();
    MODEL.get_or_init(|| {
        crate::backend::backends(&crate::BackendOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        Markov::default().chain(&["x:y", "a\n", "\n\nb", "end"]).write(&path).unwrap();
        let weights = Arc::new(Weights::load(&LoadOptions::new(path, "tiny"), &[]).unwrap());
        let vocabulary = LlamaVocabulary::of(&weights).unwrap();
        (weights, vocabulary)
    })
}

/// llama.cpp's own DRY sampler.
fn llama_dry(settings: &inference::Dry) -> *mut sys::llama_sampler {
    let texts: Vec<_> = settings.sequence_breakers.iter().map(|text| CString::new(text.as_str()).unwrap()).collect();
    let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    let allowed = i32::try_from(settings.allowed_length).unwrap();
    // SAFETY: the model lives as long as the process, and the texts until the call is over.
    unsafe {
        sys::llama_sampler_init_dry(
            model().0.vocabulary(),
            settings.multiplier,
            settings.base,
            allowed,
            4096,
            pointers.as_mut_ptr(),
            pointers.len(),
        )
    }
}

proptest! {
    #[test]
    fn nothing_but_what_is_allowed_is_ever_chosen(
        seed in any::<u64>(),
        logits in proptest::collection::vec(-20.0_f32..20.0, TOKENS as usize),
        bits in any::<[u32; 2]>(),
        banned in proptest::collection::vec(0..TOKENS, 0..8),
        temperature in prop_oneof![Just(0.0_f32), 0.01_f32..2.0],
        top_k in 0..8_u32,
        (top_p, min_p, typical_p) in (0.0_f32..=1.0, 0.0_f32..=1.0, 0.0_f32..=1.0),
        (repeat_penalty, frequency_penalty) in (0.5_f32..2.0, -2.0_f32..2.0),
    ) {
        let mask = TokenMask::from_words(bits.to_vec());
        let logit_bias = banned.iter().map(|&token| (Token(token), -100.0)).collect();
        let dry = Some(inference::Dry { multiplier: 5.0, base: 8.0, allowed_length: 0, sequence_breakers: vec![] });
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, typical_p, repeat_penalty, frequency_penalty, logit_bias, dry, seed: Some(seed),
            ..Sampling::default()
        };
        let mut sampler = sampler(&sampling);
        let may = |token: u32| mask.contains(Token(token)) && !banned.contains(&token);
        for _ in 0..20 {
            match sampler.next(&logits, Some(&mask)) {
                Some(token) => prop_assert!(may(token), "{} is not allowed", token),
                None => prop_assert!(!(0..TOKENS).any(may)),
            }
            let free = sampler.next(&logits, None).expect("not all are banned");
            prop_assert!(!banned.contains(&free));
        }
    }

    #[test]
    fn penalties_are_llamas(
        history in proptest::collection::vec(0..TOKENS, 0..100),
        logits in proptest::collection::vec(-20.0_f32..20.0, TOKENS as usize),
        (repeat_penalty, frequency_penalty, presence_penalty) in (0.1_f32..2.0, -2.0_f32..2.0, -2.0_f32..2.0),
    ) {
        let sampling = Sampling { repeat_penalty, frequency_penalty, presence_penalty, ..sampling() };
        let mut sampler = sampler(&sampling);
        for &token in &history {
            sampler.accept(Token(token));
        }
        let mut room = Vec::new();
        // SAFETY: a plain constructor.
        let llama = unsafe {
            let tokens = TOKENS.cast_signed();
            sys::llama_sampler_init_penalties(tokens, 4096, repeat_penalty, frequency_penalty, presence_penalty)
        };
        check_equal(sampler.adjusted(&logits, &[], &mut room), &as_llama(llama, &history, &logits))?;
    }

    #[test]
    fn dry_is_llamas(
        text in "[ab:\n]{0,60}",
        texts in proptest::collection::vec(prop_oneof!["[ab:\n]{1,3}", "[xyd]{1,2}", "end|<s>| a"], 0..4),
        (multiplier, base, allowed_length) in (0.1_f32..5.0, 1.0_f32..4.0, 0..5_u32),
        words in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (_, vocabulary) = model();
        let settings = inference::Dry { multiplier, base, allowed_length, sequence_breakers: texts };
        let mut history: Vec<u32> =
            vocabulary.tokenize(&text, SpecialTokens::Literal).into_iter().map(|token| token.0).collect();
        // A few tokens from anywhere, twice.
        let size = vocabulary.size() as usize;
        let some: Vec<u32> = words.iter().map(|word| u32::try_from(word.index(size)).unwrap()).collect();
        history.extend(some.iter().chain(&history.clone()).chain(&some).copied().collect::<Vec<_>>());

        let mut dry = Dry::new(&settings, vocabulary.breakers(&settings.sequence_breakers));
        for &token in &history {
            dry.accept(Token(token));
        }
        let logits = vec![0.0; size];
        let mut ours = logits.clone();
        dry.apply(&mut ours);
        let llama = as_llama(llama_dry(&settings), &history, &logits);
        // Beyond this ours stay numbers.
        let llama: Vec<f32> = llama.into_iter().map(|logit| logit.max(-1e30)).collect();
        check_equal(&ours, &llama)?;
    }
}

#[test]
fn a_sampler_has_what_its_request_asks_for_and_no_more() {
    let (weights, vocabulary) = model();
    let shape = DecoderShape { slots: 1, context_length: 64, rows_max: 16, samples_max: 1 };
    let threads = Threads { count: 1, cpus: None, are_busy: true };
    let context = Context::new(weights, shape, &threads, KvType::default()).unwrap();
    let new = |sampling: Sampling| Sampler::new(&sampling, &context, vocabulary);
    let dry = |multiplier| {
        let sequence_breakers = vec![":".to_owned()];
        Some(inference::Dry { multiplier, base: 2.0, allowed_length: 1, sequence_breakers })
    };
    let plain = new(Sampling { temperature: 0.0, dry: dry(0.0), ..sampling() });
    assert!(plain.dry.is_none() && plain.penalties.is_none() && plain.chain.is_none() && plain.biases.is_empty());
    let logit_bias = vec![(Token(3), -100.0), (Token(4), -99.0)];
    let full = new(Sampling { dry: dry(1.0), frequency_penalty: 0.1, logit_bias, ..sampling() });
    assert!(full.dry.is_some() && full.penalties.is_some() && full.chain.is_some());
    assert_eq!((full.biases, full.banned), (vec![(4, -99.0)], vec![3]));
}

#[test]
fn a_bias_of_one_choice_is_there_once() {
    let mut greedy = sampler(&Sampling { temperature: 0.0, ..sampling() });
    let mut chosen = |biases: &[(Token, f32)]| {
        let choice = Choice { biases, ..Choice::default() };
        greedy.sample(&falling(1.0), &choice, &mut Room::default()).map(|sampled| sampled.token.0)
    };
    assert_eq!(chosen(&[(Token(9), 50.0)]), Ok(9));
    assert_eq!(chosen(&[(Token(0), BIAS_BANS), (Token(1), -5.0)]), Ok(2));
    assert_eq!(chosen(&[]), Ok(0));
    let all: Vec<_> = (0..TOKENS).map(|token| (Token(token), BIAS_BANS)).collect();
    assert_eq!(chosen(&all), Err(EngineFault::NoToken));
}
