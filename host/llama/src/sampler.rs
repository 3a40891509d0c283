//! How the next token is chosen.
//!
//! In llama.cpp's own order: biases, penalties, DRY, `top_k`, `typical_p`, `top_p`, `min_p`, temperature, choice. The first
//! three change single tokens and are reckoned on a copy of the logits (`penalties` and `dry` say why); the rest is
//! llama.cpp's chain over the tokens that may be chosen at all. A token that is banned, or whose logit is not a number,
//! is no candidate: the chain divides, sorts and takes logarithms, and infinities are not made for that.
//!
//! **Masks.** A token is chosen without the mask first, and again among those that are allowed only if the mask does not
//! hold it. llama.cpp's `common_sampler_sample` does the same (`grammar_first = false`). Almost always the first choice
//! is allowed, and testing one bit is all that the mask costs. The distribution is the masked one: a token that is
//! allowed comes with `p + (1 - a) * p / a = p / a`, where `a` is the probability of all that are allowed. Where `top_k`
//! and its kin cut first, `p` is what they leave, so that the few tokens which would survive a cut under the mask only
//! are a little less likely than in a masked cut; the likeliest one, at temperature 0, is the same.
//!
//! Biases that hold for one choice only (`Choice::biases`) are added where the request's own are.
//!
//! **Repeatability.** The seed starts one generator per sequence. Each choice draws once, and once more where the mask
//! refuses, so the same logits and masks give the same tokens. The logits themselves depend on the shape of the batches
//! (up to 0.5 apart): a seed repeats an answer where the requests beside it repeat too, or where there are none.

use std::ptr::NonNull;

use engine::{Choice, Sampled};
use inference::{EngineFault, Sampling, Token, TokenMask};
use llama_cpp_sys_2 as sys;

use crate::context::Context;
use crate::dry::Dry;
use crate::likeliest::{self, likeliest};
use crate::limits::{BIAS_BANS, TEMPERATURE_MIN};
use crate::logprobs::logprobs;
use crate::penalties::Penalties;
use crate::vocabulary::LlamaVocabulary;

/// llama.cpp's `LLAMA_DEFAULT_SEED`: it draws one itself.
const SEED_ANY: u32 = u32::MAX;

/// What chooses the tokens of one sequence.
pub(crate) struct Sampler {
    biases: Vec<(usize, f32)>,
    /// By the request, or by the model's makers.
    banned: Vec<usize>,
    penalties: Option<Penalties>,
    dry: Option<Dry>,
    /// `None`: the likeliest token, always.
    chain: Option<Chain>,
}

/// Room to work in, for one choice at a time.
#[derive(Default)]
pub(crate) struct Room {
    logits: Vec<f32>,
    candidates: Vec<sys::llama_token_data>,
    maxima: Vec<f32>,
}

impl Sampler {
    pub(crate) fn new(sampling: &Sampling, context: &Context, vocabulary: &LlamaVocabulary) -> Self {
        let place = |token: Token| token.0 as usize;
        let suppressed = context.suppressed_tokens().iter().map(|bias| Token(bias.token.unsigned_abs()));
        let bans = |bias: f32| bias <= BIAS_BANS;
        let asked = sampling.logit_bias.iter().filter(|&&(_, bias)| bans(bias)).map(|&(token, _)| token);
        let biases = sampling.logit_bias.iter().filter(|&&(_, bias)| !bans(bias));
        let dry = sampling.dry.as_ref().filter(|dry| dry.multiplier > 0.0);
        Self {
            biases: biases.map(|&(token, bias)| (place(token), bias)).collect(),
            banned: suppressed.chain(asked).map(place).collect(),
            penalties: Penalties::new(sampling),
            dry: dry.map(|dry| Dry::new(dry, vocabulary.breakers(&dry.sequence_breakers))),
            chain: (sampling.temperature >= TEMPERATURE_MIN).then(|| Chain::new(sampling)),
        }
    }

    /// Chooses a token by the model's logits.
    pub(crate) fn sample(&mut self, raw: &[f32], choice: &Choice<'_>, room: &mut Room) -> Result<Sampled, EngineFault> {
        let Room { logits, candidates, maxima } = room;
        let logits = self.adjusted(raw, choice.biases, logits);
        let token = match self.choose(logits, choice.allowed, candidates, maxima) {
            Some(token) => token,
            None if raw.iter().any(|logit| logit.is_finite()) => return Err(EngineFault::NoToken),
            None => return Err(EngineFault::Decode("none of the logits is a number".to_owned())),
        };
        self.accept(token);
        Ok(Sampled { token, logprobs: choice.logprobs.map(|count| logprobs(raw, token, count)) })
    }

    /// The logits after biases, bans, penalties and DRY; a copy only where one of these is on.
    fn adjusted<'a>(&mut self, raw: &'a [f32], more: &[(Token, f32)], copy: &'a mut Vec<f32>) -> &'a [f32] {
        let Self { biases, banned, penalties, dry, .. } = self;
        if biases.is_empty() && more.is_empty() && banned.is_empty() && penalties.is_none() && dry.is_none() {
            return raw;
        }
        copy.clear();
        copy.extend_from_slice(raw);
        for &(token, bias) in &*biases {
            if let Some(logit) = copy.get_mut(token) {
                *logit += bias;
            }
        }
        for &(token, bias) in more {
            if let Some(logit) = copy.get_mut(token.0 as usize) {
                *logit = if bias <= BIAS_BANS { f32::NEG_INFINITY } else { *logit + bias };
            }
        }
        for &token in &*banned {
            if let Some(logit) = copy.get_mut(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(penalties) = penalties {
            penalties.apply(copy);
        }
        if let Some(dry) = dry {
            dry.apply(copy);
        }
        copy
    }

    /// A token that the mask, the bans and the model allow; `None` where there is none.
    fn choose(
        &mut self,
        logits: &[f32],
        allowed: Option<&TokenMask>,
        candidates: &mut Vec<sys::llama_token_data>,
        maxima: &mut Vec<f32>,
    ) -> Option<Token> {
        let kept = self.kept();
        match kept {
            0 => gather(all(logits), candidates),
            count => likeliest(logits, count, maxima, candidates),
        }
        let first = self.choose_among(candidates, kept > 0)?;
        match allowed {
            Some(mask) if !mask.contains(first) => {
                gather(held(logits, mask), candidates);
                if kept > 0 {
                    likeliest::keep(kept, candidates);
                }
                self.choose_among(candidates, kept > 0)
            }
            _ => Some(first),
        }
    }

    /// How many of the likeliest tokens are looked at; 0: all of them.
    fn kept(&self) -> usize {
        self.chain.as_ref().map_or(1, |chain| chain.top_k)
    }

    fn choose_among(&mut self, candidates: &mut [sys::llama_token_data], is_sorted: bool) -> Option<Token> {
        if let Some(chain) = &mut self.chain {
            return chain.choose(candidates, is_sorted);
        }
        // The likeliest one is wanted, and it is the only one that was kept.
        candidates.first().map(|token| Token(token.id.unsigned_abs()))
    }

    /// Takes note of the choice, once.
    pub(crate) fn accept(&mut self, token: Token) {
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token);
        }
        if let Some(dry) = &mut self.dry {
            dry.accept(token);
        }
        if let Some(chain) = &mut self.chain {
            chain.accept(token);
        }
    }
}

/// Makes candidates of tokens whose logits are numbers.
fn gather(tokens: impl Iterator<Item = (Token, f32)>, candidates: &mut Vec<sys::llama_token_data>) {
    candidates.clear();
    let tokens = tokens.filter(|(_, logit)| logit.is_finite());
    candidates.extend(tokens.map(|(token, logit)| sys::llama_token_data { id: token.0.cast_signed(), logit, p: 0.0 }));
}

/// Every token with its logit.
fn all(logits: &[f32]) -> impl Iterator<Item = (Token, f32)> + '_ {
    (0..).map(Token).zip(logits.iter().copied())
}

/// The tokens of a mask with their logits; words without a bit are skipped as one.
fn held<'a>(logits: &'a [f32], mask: &'a TokenMask) -> impl Iterator<Item = (Token, f32)> + 'a {
    let words = (0..).step_by(u32::BITS as usize).zip(mask.words());
    words.flat_map(|(base, &word)| bits(word).map(move |bit| base + bit)).filter_map(|token: u32| {
        let logit = logits.get(token as usize)?;
        Some((Token(token), *logit))
    })
}

/// The places of the bits that are set, lowest first.
fn bits(word: u32) -> impl Iterator<Item = u32> {
    let is_left = |rest: &u32| *rest != 0;
    std::iter::successors(Some(word).filter(is_left), move |rest| Some(rest & (rest - 1)).filter(is_left))
        .map(u32::trailing_zeros)
}

/// The logits of a row, one for each token of the vocabulary.
pub(crate) fn logits(context: &mut Context, row: usize) -> Option<&[f32]> {
    let row = i32::try_from(row).ok()?;
    let count = usize::try_from(context.vocabulary_size()).ok()?;
    // SAFETY: the context is alive. llama.cpp gives null for a row without logits, and otherwise as many as the
    // vocabulary has tokens, valid until the next batch: the context is borrowed as long as they are.
    unsafe {
        let logits = sys::llama_get_logits_ith(context.as_ptr(), row);
        (!logits.is_null()).then(|| std::slice::from_raw_parts(logits, count))
    }
}

/// llama.cpp's chain of samplers, from `top_k` on.
struct Chain {
    raw: NonNull<sys::llama_sampler>,
    top_k: usize,
}

impl Chain {
    /// Likely tokens that a cut leaves at least.
    const KEEP_MIN: usize = 1;

    fn new(sampling: &Sampling) -> Self {
        // SAFETY: plain constructors. Each result is handed to the chain, which frees it.
        unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_params { no_perf: true });
            let raw = NonNull::new(chain).expect("llama.cpp allocates or ends the process");
            let this = Self { raw, top_k: sampling.top_k as usize };
            let add = |sampler| sys::llama_sampler_chain_add(chain, sampler);
            if sampling.top_k > 0 {
                add(sys::llama_sampler_init_top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.typical_p < 1.0 {
                add(sys::llama_sampler_init_typical(sampling.typical_p, Self::KEEP_MIN));
            }
            if sampling.top_p < 1.0 {
                add(sys::llama_sampler_init_top_p(sampling.top_p, Self::KEEP_MIN));
            }
            if sampling.min_p > 0.0 {
                add(sys::llama_sampler_init_min_p(sampling.min_p, Self::KEEP_MIN));
            }
            add(sys::llama_sampler_init_temp(sampling.temperature));
            add(sys::llama_sampler_init_dist(seed(sampling.seed)));
            this
        }
    }

    /// One of the candidates, whose order changes; `None` where there are none. The generator moves on.
    fn choose(&mut self, candidates: &mut [sys::llama_token_data], is_sorted: bool) -> Option<Token> {
        if candidates.is_empty() {
            return None;
        }
        let mut array = sys::llama_token_data_array {
            data: candidates.as_mut_ptr(),
            size: candidates.len(),
            selected: -1,
            sorted: is_sorted,
        };
        // SAFETY: the chain is alive, and the array as long as it says; the samplers only shorten it.
        unsafe { sys::llama_sampler_apply(self.raw.as_ptr(), &raw mut array) };
        let chosen = candidates.get(usize::try_from(array.selected).ok()?)?;
        Some(Token(chosen.id.unsigned_abs()))
    }

    fn accept(&mut self, token: Token) {
        // SAFETY: the chain is alive.
        unsafe { sys::llama_sampler_accept(self.raw.as_ptr(), token.0.cast_signed()) };
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // SAFETY: the chain is ours.
        unsafe { sys::llama_sampler_free(self.raw.as_ptr()) };
    }
}

/// llama.cpp's seeds have 32 bits, one of which means "any": ours keep all their 64 bits as far as they go.
fn seed(seed: Option<u64>) -> u32 {
    let Some(seed) = seed else { return SEED_ANY };
    let folded = u32::try_from((seed ^ (seed >> 32)) & u64::from(u32::MAX)).expect("32 bits are left");
    if folded == SEED_ANY { 0 } else { folded }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
