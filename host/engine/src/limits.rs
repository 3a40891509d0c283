//! Every limit of the engine.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Sequences computed side by side unless configured: one, so that a local model answers one request at a time at
/// full speed (R20).
pub const SLOTS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN;

/// Prompt tokens computed per step, beside one token for each sequence that is already answering. A step of 256 costs
/// 3 % of prefill throughput against one of 2,048, and a client that leaves is noticed between two.
pub const PREFILL_TOKENS_PER_STEP_DEFAULT: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The same, where an answer is under way, until it is known how long such steps take.
pub const PREFILL_TOKENS_BESIDE_ANSWERS_DEFAULT: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");

/// How long a step may take that computes prompts beside answers: readers see a pause of a little
/// more, or of the shortest chunk's time where that is longer.
pub const STEP_TIME_BESIDE_ANSWERS_DEFAULT: Duration = Duration::from_millis(400);

/// Requests that wait for a slot. Admission bounds them long before; this bounds the memory if it does not.
pub const QUEUE_LENGTH_DEFAULT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Bytes of host memory for copies of what slots had computed before they were given to others. On `SmolLM2`
/// (23 KB per token) that is 11,000 tokens: some conversations, and the system prompt that most of them share.
pub const PREFIX_CACHE_BYTES_DEFAULT: usize = 256 << 20;

/// Tokens of one sequence that are guessed in a step. Where a text is copied, 16 took 7 % less CPU time per token than 8 and
/// half of what none took (`SmolLM2`, two cores, `bench_guesses`); each costs a row of logits in memory.
pub const GUESSES_MAX_DEFAULT: usize = 16;

/// Tokens that have to be saved for a copy to be made, or waited for. Saving and loading 512 tokens of `SmolLM2` took 225 ms on
/// a loaded machine, as long as it takes to compute some 60.
pub const PREFIX_TOKENS_MIN_DEFAULT: usize = 64;

/// Requests whose inputs are encoded side by side unless configured: one, as with [`SLOTS_DEFAULT`] (R20).
pub const ENCODING_REQUESTS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN;

/// Tokens of a batch of inputs to encode. Every one of them is compared with all others of the batch, whosever they are, so
/// larger batches cost more than they save: of inputs of 8 tokens, 3,030 tokens/s were encoded by 512, 2,550 by 128 and 2,090
/// by 2,048 (`MiniLM`, two busy cores, `bench_encoding`).
pub const ROWS_PER_BATCH_DEFAULT: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");

/// Inputs of such a batch: what [`ROWS_PER_BATCH_DEFAULT`] holds of inputs of eight tokens.
pub const INPUTS_PER_BATCH_DEFAULT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Events that a generation may be ahead of its reader. A token is one event at most: half a second of a fast model.
pub const EVENTS_AHEAD_DEFAULT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Events kept free in every channel so that the end of an answer never waits for its reader: the last text and the
/// end itself.
pub(crate) const EVENTS_RESERVED: usize = 2;

/// Tokens that a controller forces and that are taken in one step: each is looked up in the grammar and made text on the decode
/// thread, while everybody waits. As many as are worth a batch of their own.
pub(crate) const FORCED_TOKENS_PER_STEP: usize = 64;

/// How long the decode thread sleeps while sequences wait for what controls their tokens and there is nothing else to compute.
/// Usually the answer is there before the logits are; of one that is not, this is what its token may come later.
pub(crate) const CONTROL_POLL: Duration = Duration::from_micros(200);

/// How long the decode thread sleeps while every sequence waits for its reader. A token takes longer to compute.
pub(crate) const PAUSE_POLL: Duration = Duration::from_millis(3);
