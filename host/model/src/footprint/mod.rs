//! How much memory a model takes once it is loaded, from its header alone.
//!
//! Five sums, each as llama.cpp b11434 makes it. `measured` stands for runs of `outrigger serve` beside the buffer sizes
//! that llama.cpp logs; `tests/tests/footprint.rs` repeats them on real models.
//!
//! - **Weights**: the bytes of all tensors. They are mapped from the file, so they count once however often they are read
//!   (`llama-model-loader.cpp: load_all_data`).
//! - **KV cache**: per layer and token a key of `head_count_kv × key_length` values and a value of
//!   `head_count_kv × value_length`, in rows of whole blocks of its type, for `context_length` rounded up to 256 and each
//!   sequence (`llama-context.cpp`: `n_ctx_seq`; `llama-kv-cache.cpp`: constructor). What layers differ in is in
//!   `shape.rs`. Recurrent layers keep a state of fixed size in 32-bit floats (`llama-memory-recurrent.cpp`).
//! - **Compute buffers**: what one batch needs between the layers (`llama-context.cpp: sched_reserve`). llama.cpp learns it
//!   by laying out its graph; this is a fit to what it laid out for eleven shapes (0.06 to 70 B, dense and mixture of
//!   experts, 1 to 16 k tokens of context, 1 to 32 sequences). It is within 2 % of them, and up to 10 % above where attention
//!   is wider than the feed-forward part:
//!   a mask of 2 bytes per token of the batch and of the context, twice where there are sliding windows; and in 32-bit
//!   floats per token of the batch five times the embedding, and the most of what a layer's feed-forward part
//!   (`3 × feed_forward_length`, or `experts_used × (3 × expert_feed_forward_length + embedding_length)`), its attention
//!   (`2 × heads × key_length + 2 × kv heads × key_length`) and the logits (vocabulary × rows that are sampled) take.
//! - **Logits** that are handed out: vocabulary × rows that are sampled × 4 bytes (`llama-context.cpp: output_reserve`), and the
//!   candidates of as many samplers (`llama_token_data`, 12 bytes).
//! - **The process** itself: code, plugins, threads, and some 210 bytes for each token and merge of the vocabulary
//!   (measured on vocabularies of 32,000 to 262,144 tokens).
//!
//! Beside these, llama.cpp rearranges some types on the CPU ([`Footprint::rearranged_bytes`]): that copy is in private
//! memory, and the pages of the file that it was made from stay mapped, unused, until the kernel wants them back. They are
//! therefore not part of what is needed, but a resident set shows them.

mod architectures;
mod shape;

use crate::gguf::{Header, TensorType};
use crate::limits::{
    CELLS_PADDING, PROCESS_BYTES, PROCESS_BYTES_PER_TOKEN, SAMPLER_BYTES_PER_TOKEN, WINDOW_CELLS_PADDING,
};

pub use shape::Basis;
use shape::Layer;
pub(crate) use shape::Shape;

/// What a model is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Tokens that each sequence holds.
    pub context_length: u32,
    /// Requests that are answered at once.
    pub sequences: u32,
    /// Tokens of prompts that are computed at once.
    pub batch_tokens: u32,
    /// Tokens that are guessed in a step for a sequence that is alone: their logits are kept too.
    pub guesses: u32,
    /// What keys are stored as.
    pub keys: TensorType,
    /// What values are stored as.
    pub values: TensorType,
    /// Whether layers with a sliding window keep the whole context all the same, so that a sequence can be taken back to
    /// any earlier token. llama.cpp's default (`swa_full`).
    pub keeps_windows_whole: bool,
}

impl Workload {
    /// What `outrigger serve` does for this context length and number of requests at once: 16-bit keys and values, and
    /// prompts in batches of 256 tokens with up to 16 guesses for each sequence in their place (`engine`'s defaults).
    #[must_use]
    pub fn new(context_length: u32, sequences: u32) -> Self {
        Self {
            context_length,
            sequences: sequences.max(1),
            batch_tokens: 256,
            guesses: 16,
            keys: TensorType::F16,
            values: TensorType::F16,
            keeps_windows_whole: true,
        }
    }
}

/// The memory that a model takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Its tensors.
    pub weights_bytes: u64,
    /// Keys and values of all sequences, or the states of recurrent layers.
    pub kv_bytes: u64,
    /// What computing a batch needs, and its logits.
    pub compute_bytes: u64,
    /// The process around it, with the vocabulary.
    pub process_bytes: u64,
    /// Of the weights, those that llama.cpp copies into another order on a CPU with AVX2. The file's pages that they come
    /// from are no longer needed, but a resident set may show them as well.
    pub rearranged_bytes: u64,
    /// What `kv_bytes` rests on.
    pub basis: Basis,
}

impl Footprint {
    /// The memory that this model takes for this workload.
    #[must_use]
    pub fn of(header: &Header, workload: &Workload) -> Self {
        Self::of_shape(&Shape::of(header), workload)
    }

    /// The same, for one model and several workloads.
    pub(crate) fn of_shape(shape: &Shape, workload: &Workload) -> Self {
        Self {
            weights_bytes: shape.weights_bytes,
            kv_bytes: kv_bytes(shape, workload),
            compute_bytes: compute_bytes(shape, workload),
            process_bytes: process_bytes(shape, workload),
            rearranged_bytes: shape.rearranged_bytes,
            basis: shape.basis,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        [self.weights_bytes, self.kv_bytes, self.compute_bytes, self.process_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Of the keys and values those of the last `layers`, of which one is the output and has none.
    pub(crate) fn kv_of_last(&self, shape: &Shape, workload: &Workload, layers: u32) -> u64 {
        let layers = layers.saturating_sub(1) as usize;
        let first = shape.layers.len().saturating_sub(layers);
        kv_bytes_of(shape, &shape.layers[first..], workload).min(self.kv_bytes)
    }

    /// The logits of a batch.
    pub(crate) fn logits_bytes(shape: &Shape, workload: &Workload) -> u64 {
        product(&[shape.vocabulary, sampled_rows(workload), 4])
    }
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor))
}

fn sum(terms: impl IntoIterator<Item = u64>) -> u64 {
    terms.into_iter().fold(0, u64::saturating_add)
}

/// Tokens that one sequence has room for.
fn cells(workload: &Workload) -> u64 {
    u64::from(workload.context_length.max(1)).next_multiple_of(CELLS_PADDING)
}

/// Tokens that one sequence has room for in a layer with a window (`llama-kv-cache-iswa.cpp`).
fn window_cells(shape: &Shape, workload: &Workload) -> u64 {
    let all = cells(workload);
    if workload.keeps_windows_whole {
        return all;
    }
    all.min(shape.window.saturating_add(batch(workload))).next_multiple_of(WINDOW_CELLS_PADDING)
}

/// Rows of the largest batch: a piece of a prompt, and a token for every sequence.
fn batch(workload: &Workload) -> u64 {
    let rows = u64::from(workload.batch_tokens) + u64::from(workload.sequences);
    rows.min(cells(workload).saturating_mul(workload.sequences.into()))
}

fn kv_bytes(shape: &Shape, workload: &Workload) -> u64 {
    kv_bytes_of(shape, &shape.layers, workload)
}

fn kv_bytes_of(shape: &Shape, layers: &[Layer], workload: &Workload) -> u64 {
    let (all, window) = (cells(workload), window_cells(shape, workload));
    let of_layer = |layer: &Layer| {
        let row = workload.keys.row_bytes(layer.key_width).saturating_add(workload.values.row_bytes(layer.value_width));
        let cells = if layer.is_windowed { window } else { all };
        row.saturating_mul(cells).saturating_add(layer.state_width.saturating_mul(4))
    };
    sum(layers.iter().map(of_layer)).saturating_mul(workload.sequences.into())
}

/// Rows of a batch whose logits are kept.
fn sampled_rows(workload: &Workload) -> u64 {
    u64::from(workload.sequences) + u64::from(workload.guesses.min(workload.batch_tokens))
}

fn compute_bytes(shape: &Shape, workload: &Workload) -> u64 {
    let rows = batch(workload);
    let mut mask_cells = cells(workload);
    if shape.layers.iter().any(|layer| layer.is_windowed) {
        mask_cells = mask_cells.saturating_add(window_cells(shape, workload));
    }
    let masks = product(&[mask_cells, rows, 2]);
    let logits = Footprint::logits_bytes(shape, workload);
    let of_layer = product(&[shape.feed_forward_width.max(shape.attention_width), rows, 4]);
    let between = product(&[shape.embedding.saturating_mul(5).saturating_add(shape.input_width), rows, 4]);
    sum([masks, between, of_layer.max(logits), logits])
}

fn process_bytes(shape: &Shape, workload: &Workload) -> u64 {
    let vocabulary = shape.vocabulary.saturating_add(shape.merges).saturating_mul(PROCESS_BYTES_PER_TOKEN);
    let samplers = product(&[shape.vocabulary, workload.sequences.into(), SAMPLER_BYTES_PER_TOKEN]);
    sum([PROCESS_BYTES, vocabulary, samplers])
}

#[cfg(test)]
mod tests;
