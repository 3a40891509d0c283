//! How the next token is chosen.

use std::ptr::NonNull;

use engine::{Choice, Sampled};
use inference::{EngineFault, Sampling, Token};
use llama_cpp_sys_2 as sys;

use crate::context::Context;

/// llama.cpp's `LLAMA_DEFAULT_SEED`: it draws one itself.
const SEED_ANY: u32 = u32::MAX;

/// llama.cpp's chain of samplers for one sequence.
pub(crate) struct Sampler {
    chain: NonNull<sys::llama_sampler>,
}

impl Sampler {
    /// The chain in llama.cpp's own order: penalties, `top_k`, `top_p`, `min_p`, temperature, choice.
    pub(crate) fn new(sampling: &Sampling, context: &Context) -> Self {
        let vocabulary_size = context.vocabulary_size();
        // SAFETY: plain constructors. Each result is handed to the chain, which frees it.
        unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_params { no_perf: true });
            let this = Self { chain: NonNull::new(chain).expect("llama.cpp allocates or ends the process") };
            let add = |sampler| sys::llama_sampler_chain_add(chain, sampler);

            let suppressed = context.suppressed_tokens();
            if !suppressed.is_empty() {
                let count = i32::try_from(suppressed.len()).unwrap_or(i32::MAX);
                add(sys::llama_sampler_init_logit_bias(vocabulary_size, count, suppressed.as_ptr()));
            }
            if has_penalties(sampling) {
                // The whole completion counts, however long it becomes.
                let last_tokens = i32::try_from(context.context_length()).unwrap_or(i32::MAX);
                add(sys::llama_sampler_init_penalties(
                    vocabulary_size,
                    last_tokens,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ));
            }
            if sampling.temperature <= 0.0 {
                add(sys::llama_sampler_init_greedy());
                return this;
            }
            if sampling.top_k > 0 {
                add(sys::llama_sampler_init_top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.top_p < 1.0 {
                add(sys::llama_sampler_init_top_p(sampling.top_p, 1));
            }
            if sampling.min_p > 0.0 {
                add(sys::llama_sampler_init_min_p(sampling.min_p, 1));
            }
            add(sys::llama_sampler_init_temp(sampling.temperature));
            add(sys::llama_sampler_init_dist(seed(sampling.seed)));
            this
        }
    }

    /// Chooses the token after a row of the context's last batch that wanted logits.
    pub(crate) fn sample(&mut self, context: &mut Context, row: i32, _choice: &Choice<'_>) -> Result<Sampled, EngineFault> {
        // SAFETY: both are alive. llama.cpp asserts that the row has logits: the engine asks for rows that wanted them.
        let token = unsafe { sys::llama_sampler_sample(self.chain.as_ptr(), context.as_ptr(), row) };
        Ok(Sampled { token: Token(token.unsigned_abs()), logprobs: None })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the chain is ours.
        unsafe { sys::llama_sampler_free(self.chain.as_ptr()) };
    }
}

#[expect(clippy::float_cmp, reason = "exactly 1 and 0 are what means off")]
fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0 || sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0
}

/// llama.cpp's seeds have 32 bits, one of which means "any": ours keep all their 64 bits as far as they go.
fn seed(seed: Option<u64>) -> u32 {
    let Some(seed) = seed else { return SEED_ANY };
    let folded = u32::try_from((seed ^ (seed >> 32)) & u64::from(u32::MAX)).expect("32 bits are left");
    if folded == SEED_ANY { 0 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_seed_is_never_the_one_that_means_any() {
        assert_eq!(seed(None), SEED_ANY);
        assert_eq!(seed(Some(7)), 7);
        assert_ne!(seed(Some(u64::from(u32::MAX))), SEED_ANY);
        assert_ne!(seed(Some(7 << 32)), seed(Some(8 << 32)));
    }
}
