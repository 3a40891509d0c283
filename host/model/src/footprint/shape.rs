//! The facts that a footprint depends on, as llama.cpp reads them (`llama-model.cpp: load_hparams`, `models/*.cpp`).

use super::architectures::{HYBRID, RECURRENT, WINDOWED, WITHOUT_MEMORY};
use crate::gguf::{Header, Tensor};
use crate::limits::LAYERS_MAX;

/// What the size of a KV cache rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The header says all of it, and llama.cpp computes it the same way.
    Stated,
    /// Part of it is an estimate, on the high side where it can be.
    Estimated {
        /// Why, as the end of a sentence.
        because: &'static str,
    },
}

/// One layer's memory, in values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layer {
    /// Of a token's key.
    pub(super) key_width: u64,
    /// Of a token's value.
    pub(super) value_width: u64,
    /// Of a sequence, however long it is.
    pub(super) state_width: u64,
    /// Whether it looks back no further than the window.
    pub(super) is_windowed: bool,
}

/// What a footprint depends on beside the workload. Widths are in values per token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) weights_bytes: u64,
    /// Of these, what llama.cpp copies into another order.
    pub(super) rearranged_bytes: u64,
    /// Of these, each layer's.
    layer_weights_bytes: Vec<u64>,
    /// Of these, the output's.
    output_weights_bytes: u64,
    /// The output's where it is what tokens are looked up in, too: there is a copy of it on a device.
    output_copied_bytes: u64,
    pub(super) embedding: u64,
    pub(super) layers: Vec<Layer>,
    /// Tokens that windowed layers look back.
    pub(super) window: u64,
    pub(super) attention_width: u64,
    pub(super) feed_forward_width: u64,
    /// What each token brings along for all layers, where a model has such (Gemma 3n and 4).
    pub(super) input_width: u64,
    pub(super) vocabulary: u64,
    pub(super) merges: u64,
    pub(super) basis: Basis,
}

impl Shape {
    pub(crate) fn of(header: &Header) -> Self {
        let architecture = header.architecture().unwrap_or_default();
        let mut basis = Basis::Stated;
        let layer_count = layer_count(header, &mut basis);
        let by_layer = |key| header.facts_by_layer(key, layer_count);
        let most = |all: &[u64]| all.iter().copied().max().unwrap_or(0);

        let embedding = header.fact("embedding_length").unwrap_or_else(|| first_row(header, "token_embd.weight"));
        let heads = by_layer("attention.head_count").unwrap_or_default();
        let heads_kv = by_layer("attention.head_count_kv").unwrap_or_else(|| heads.clone());
        let head = embedding.checked_div(heads.first().copied().unwrap_or(0)).unwrap_or(embedding);
        let key = header.fact("attention.key_length").unwrap_or(head);
        let value = header.fact("attention.value_length").unwrap_or(head);

        let shape = Layers {
            header,
            architecture,
            heads_kv: if heads_kv.len() == layer_count { heads_kv } else { vec![1; layer_count] },
            key,
            value,
        };
        let layers = shape.all(&mut basis);
        let key_width = layers.iter().map(|layer| layer.key_width).max().unwrap_or(0);
        let attention_width = most(&heads).saturating_mul(key.max(value)).saturating_add(key_width).saturating_mul(2);
        let of_layer = |at: usize| {
            let is_of_layer = |tensor: &&Tensor| tensor.block().is_some_and(|block| block as usize == at);
            bytes(header.tensors.iter().filter(is_of_layer))
        };
        let has_output = header.tensors.iter().any(|tensor| tensor.name == "output.weight");
        Self {
            weights_bytes: header.tensor_bytes,
            rearranged_bytes: rearranged_bytes(header),
            layer_weights_bytes: (0..layer_count).map(of_layer).collect(),
            output_weights_bytes: bytes(header.tensors.iter().filter(|tensor| tensor.name.starts_with("output"))),
            output_copied_bytes: bytes(
                header.tensors.iter().filter(|tensor| !has_output && tensor.name == "token_embd.weight"),
            ),
            embedding,
            window: shape
                .window()
                .map_or(0, |(_, _, window)| window)
                .max(header.fact("attention.sliding_window").unwrap_or(0)),
            attention_width,
            feed_forward_width: feed_forward_width(
                header,
                embedding,
                most(&by_layer("feed_forward_length").unwrap_or_default()),
            ),
            input_width: header
                .fact("embedding_length_per_layer_input")
                .unwrap_or(0)
                .saturating_mul(layer_count as u64),
            vocabulary: vocabulary(header),
            merges: header.array("tokenizer.ggml.merges").map_or(0, |merges| merges.length),
            layers,
            basis,
        }
    }
}

impl Shape {
    /// The layers, and the output.
    pub(crate) fn layers_with_output(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The weights of the last `layers`, of which one is the output, and what of the others is needed there as well.
    pub(crate) fn weights_of_last(&self, layers: u32) -> (u64, u64) {
        let first = self.layer_weights_bytes.len().saturating_sub(layers.saturating_sub(1) as usize);
        let of_layers = self.layer_weights_bytes[first..].iter().fold(0, |sum: u64, &bytes| sum.saturating_add(bytes));
        (of_layers.saturating_add(self.output_weights_bytes), self.output_copied_bytes)
    }
}

fn bytes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
    tensors.fold(0, |sum: u64, tensor| sum.saturating_add(tensor.bytes))
}

/// What the layers are made of.
struct Layers<'a> {
    header: &'a Header,
    architecture: &'a str,
    heads_kv: Vec<u64>,
    key: u64,
    value: u64,
}

impl Layers<'_> {
    fn all(&self, basis: &mut Basis) -> Vec<Layer> {
        let count = self.heads_kv.len();
        if WITHOUT_MEMORY.contains(&self.architecture) {
            return vec![Layer::default(); count];
        }
        let windowed = self.windowed();
        let remembering = self.remembering();
        let recurrent = self.recurrent(basis);
        // MLA: what is kept of a token is one compressed vector, from which keys and values are made.
        let is_compressed = self.header.fact("attention.key_length_mla").is_some()
            && self.header.fact("attention.value_length_mla").is_some();
        let index = self.header.fact("attention.indexer.key_length").unwrap_or(0);
        if index > 0 {
            *basis = Basis::Estimated { because: "the index of its sparse attention is counted for every layer" };
        }
        let key_windowed = self.header.fact("attention.key_length_swa").unwrap_or(self.key);
        let value_windowed = self.header.fact("attention.value_length_swa").unwrap_or(self.value);

        let layer = |(at, &heads): (usize, &u64)| {
            let is_windowed = windowed[at];
            let mut layer = Layer { is_windowed, ..Layer::default() };
            if recurrent[at].is_recurrent {
                layer.state_width = self.state_width();
            }
            if recurrent[at].attends && at < remembering {
                let (key, value) = if is_windowed { (key_windowed, value_windowed) } else { (self.key, self.value) };
                layer.key_width = heads.saturating_mul(key).saturating_add(index);
                layer.value_width = if is_compressed { 0 } else { heads.saturating_mul(value) };
            }
            layer
        };
        self.heads_kv.iter().enumerate().map(layer).collect()
    }

    /// Period, whether its first layer sees all, and window, where the architecture has them by rule.
    fn window(&self) -> Option<(usize, bool, u64)> {
        let &(name, period, all_first, usual) = WINDOWED.iter().find(|(name, ..)| *name == self.architecture)?;
        // Only the largest EXAONE 4 has windows, and Llama 4 and SmallThinker have theirs whatever the header says.
        if name == "exaone4" && self.heads_kv.len() != 64 {
            return None;
        }
        let stated = self.header.fact("attention.sliding_window");
        let window = match (name, stated) {
            (_, Some(0)) => return None,
            ("llama4", _) => 8192,
            ("smallthinker", Some(_)) => 4096,
            (_, stated) => stated.unwrap_or(usual),
        };
        (window > 0).then_some((period, all_first, window))
    }

    fn windowed(&self) -> Vec<bool> {
        let count = self.heads_kv.len();
        let window = self.window();
        let stated = self.header.fact("attention.sliding_window").unwrap_or(0) > 0;
        if (window.is_some() || stated)
            && let Some(listed) = self.header.array(&format!("{}.attention.sliding_window_pattern", self.architecture))
            && let Some(numbers) = &listed.numbers
        {
            return numbers.iter().map(|&number| number != 0).chain(std::iter::repeat(false)).take(count).collect();
        }
        if matches!(self.architecture, "lfm2" | "lfm2moe") && stated {
            return self.heads_kv.iter().map(|&heads| heads > 0).collect();
        }
        let Some((usual, all_first, _)) = window else { return vec![false; count] };
        let period =
            self.header.fact("attention.sliding_window_pattern").and_then(|period| usize::try_from(period).ok());
        let period = period.unwrap_or(usual);
        let sees_all = |at: usize| period != 0 && at % period == if all_first { 0 } else { period - 1 };
        (0..count).map(|at| !sees_all(at)).collect()
    }

    /// The layers from the first on that keep keys and values; the others use theirs.
    fn remembering(&self) -> usize {
        let count = self.heads_kv.len();
        if self.architecture == "gemma3n" {
            return count.min(20);
        }
        let shared = self.header.fact("attention.shared_kv_layers").unwrap_or(0);
        count.saturating_sub(usize::try_from(shared).unwrap_or(count))
    }

    fn recurrent(&self, basis: &mut Basis) -> Vec<Kind> {
        let count = self.heads_kv.len();
        let one = |is_recurrent| Kind { is_recurrent, attends: !is_recurrent };
        if RECURRENT.contains(&self.architecture) {
            return vec![one(true); count];
        }
        if !HYBRID.contains(&self.architecture) {
            return vec![one(false); count];
        }
        let by_layer = |key| self.header.facts_by_layer(key, count);
        if let Some(listed) = by_layer("attention.recurrent_layers") {
            return listed.iter().map(|&is| one(is != 0)).collect();
        }
        if self.architecture.starts_with("qwen") || self.architecture == "minimax-01" {
            let usual = if self.architecture == "minimax-01" { 8 } else { 4 };
            let every = self.header.fact("full_attention_interval").filter(|&every| every > 0).unwrap_or(usual);
            return (1..=count as u64).map(|number| one(number % every != 0)).collect();
        }
        // A layer of these that feeds forward does nothing else.
        if self.architecture.starts_with("nemotron_h")
            && let Some(widths) = by_layer("feed_forward_length")
        {
            let kind = |(&heads, &width): (&u64, &u64)| Kind {
                is_recurrent: heads == 0 && width == 0,
                attends: heads > 0 && width == 0,
            };
            return self.heads_kv.iter().zip(&widths).map(kind).collect();
        }
        if self.heads_kv.contains(&0) {
            return self.heads_kv.iter().map(|&heads| one(heads == 0)).collect();
        }
        if self.architecture != "falcon-h1" {
            *basis =
                Basis::Estimated { because: "which of its layers are recurrent is not known; each is counted as both" };
        }
        vec![Kind { is_recurrent: true, attends: true }; count]
    }

    /// `llama-hparams.cpp: n_embd_r + n_embd_s`.
    fn state_width(&self) -> u64 {
        let fact = |key| self.header.fact(key).unwrap_or(0);
        let embedding = fact("embedding_length");
        let heads = self.header.facts_by_layer("attention.head_count", 1).map_or(0, |heads| heads[0]);
        let product = |factors: &[u64]| factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor));
        if let Some(head) = self.header.fact("wkv.head_size") {
            let shifts = self.header.fact("token_shift_count").unwrap_or(2);
            return product(&[embedding, shifts]).saturating_add(product(&[embedding, head]));
        }
        if let Some(kept) = self.header.fact("shortconv.l_cache") {
            return product(&[embedding, kept.saturating_sub(1)]);
        }
        let kernel = fact("ssm.conv_kernel");
        if let Some(head) = self.header.fact("kda.head_dim") {
            let kept = if kernel > 0 { kernel - 1 } else { 3 };
            return product(&[3, kept, heads, head]).saturating_add(product(&[head, head, heads]));
        }
        let (inner, state) = (fact("ssm.inner_size"), fact("ssm.state_size"));
        let convolved = inner.saturating_add(product(&[2, fact("ssm.group_count"), state]));
        product(&[kernel.saturating_sub(1), convolved]).saturating_add(product(&[state, inner]))
    }
}

#[derive(Clone, Copy)]
struct Kind {
    is_recurrent: bool,
    attends: bool,
}

fn layer_count(header: &Header, basis: &mut Basis) -> usize {
    let stated = header.fact("block_count").or_else(|| {
        *basis = Basis::Estimated { because: "the header does not say how many layers there are" };
        header.tensors.iter().filter_map(Tensor::block).max().map(|last| u64::from(last) + 1)
    });
    usize::try_from(stated.unwrap_or(0)).unwrap_or(LAYERS_MAX).min(LAYERS_MAX)
}

fn feed_forward_width(header: &Header, embedding: u64, dense: u64) -> u64 {
    let used = header.fact("expert_used_count").unwrap_or(0);
    let dense_width = dense.saturating_mul(3);
    if used == 0 {
        return dense_width;
    }
    let expert = header.facts_by_layer("expert_feed_forward_length", 1).map_or(dense, |widths| widths[0]);
    let of_one = expert.saturating_mul(3).saturating_add(embedding);
    let shared = header.fact("expert_shared_feed_forward_length").unwrap_or(0).saturating_mul(3);
    let experts = used.saturating_mul(of_one).saturating_add(shared);
    let has_dense_layers = header.fact("leading_dense_block_count").unwrap_or(0) > 0;
    if has_dense_layers { experts.max(dense_width) } else { experts }
}

fn vocabulary(header: &Header) -> u64 {
    match header.array("tokenizer.ggml.tokens") {
        Some(tokens) => tokens.length,
        None => header.fact("vocab_size").unwrap_or(0),
    }
}

fn first_row(header: &Header, name: &str) -> u64 {
    header.tensors.iter().find(|tensor| tensor.name == name).map_or(0, |tensor| tensor.dimensions[0])
}

/// `ggml-cpu/repack.cpp: ggml_repack_get_optimal_repack_type`, as far as it does so with AVX2: matrices whose rows are a
/// multiple of eight, except those that are looked up by row.
fn rearranged_bytes(header: &Header) -> u64 {
    let is_rearranged = |tensor: &&Tensor| {
        let is_matrix = tensor.dimensions[1] > 1 && tensor.dimensions[1].is_multiple_of(8);
        let is_kind = matches!(tensor.kind.name(), "Q4_0" | "Q4_K" | "IQ4_NL" | "MXFP4");
        is_matrix && is_kind && !tensor.name.contains("token_embd")
    };
    header.tensors.iter().filter(is_rearranged).fold(0, |sum: u64, tensor| sum.saturating_add(tensor.bytes))
}
