#![expect(clippy::float_cmp, reason = "mebibytes of whole blocks are exact in a float")]

use super::*;
use crate::gguf::written::Written;

const MIB: f64 = 1_048_576.0;

/// Numbers of ggml's types.
const F32: u32 = 0;
const F16: u32 = 1;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;
const Q5_K: u32 = 13;
const Q6_K: u32 = 14;

/// A dense model of the Llama family.
#[derive(Clone, Copy)]
struct Dense {
    architecture: &'static str,
    layers: u32,
    embedding: u32,
    feed_forward: u32,
    heads: u32,
    heads_kv: u32,
    head: u32,
    vocabulary: usize,
}

impl Dense {
    fn header(self) -> Written {
        let key = |key: &str| format!("{}.{key}", self.architecture);
        Written::of(self.architecture)
            .number(&key("block_count"), self.layers)
            .number(&key("embedding_length"), self.embedding)
            .number(&key("feed_forward_length"), self.feed_forward)
            .number(&key("attention.head_count"), self.heads)
            .number(&key("attention.head_count_kv"), self.heads_kv)
            .number(&key("attention.key_length"), self.head)
            .number(&key("attention.value_length"), self.head)
            .texts("tokenizer.ggml.tokens", &vec![""; self.vocabulary])
    }

    /// With all its tensors; `kind` says how one is stored, by its name and layer.
    fn with_tensors(self, kind: impl Fn(&str, u32) -> u32) -> Written {
        let (embedding, feed_forward) = (u64::from(self.embedding), u64::from(self.feed_forward));
        let (all, kv) = (u64::from(self.heads * self.head), u64::from(self.heads_kv * self.head));
        let vocabulary = self.vocabulary as u64;
        let mut header = self
            .header()
            .tensor("token_embd.weight", kind("token_embd", 0), &[embedding, vocabulary])
            .tensor("output.weight", kind("output", 0), &[embedding, vocabulary])
            .tensor("output_norm.weight", F32, &[embedding]);
        for layer in 0..self.layers {
            let matrices = [
                ("attn_q", [embedding, all]),
                ("attn_k", [embedding, kv]),
                ("attn_v", [embedding, kv]),
                ("attn_output", [all, embedding]),
                ("ffn_gate", [embedding, feed_forward]),
                ("ffn_up", [embedding, feed_forward]),
                ("ffn_down", [feed_forward, embedding]),
            ];
            for (name, shape) in matrices {
                header = header.tensor(&format!("blk.{layer}.{name}.weight"), kind(name, layer), &shape);
            }
            for name in ["attn_norm", "ffn_norm"] {
                header = header.tensor(&format!("blk.{layer}.{name}.weight"), F32, &[embedding]);
            }
        }
        header
    }
}

const LLAMA_2_7B: Dense = Dense {
    architecture: "llama",
    layers: 32,
    embedding: 4096,
    feed_forward: 11008,
    heads: 32,
    heads_kv: 32,
    head: 128,
    vocabulary: 32000,
};
const SMOLLM2: Dense = Dense {
    architecture: "llama",
    layers: 30,
    embedding: 576,
    feed_forward: 1536,
    heads: 9,
    heads_kv: 3,
    head: 64,
    vocabulary: 49152,
};
const GEMMA_3_270M: Dense = Dense {
    architecture: "gemma3",
    layers: 18,
    embedding: 640,
    feed_forward: 2048,
    heads: 4,
    heads_kv: 1,
    head: 256,
    vocabulary: 262_144,
};

fn of(header: &Written, workload: Workload) -> Footprint {
    Footprint::of(&header.header(), &workload)
}

fn kv_mib(header: &Written, workload: Workload) -> f64 {
    of(header, workload).kv_bytes as f64 / MIB
}

fn check_near(found: f64, expected: f64, percent: f64, what: &str) {
    let off = (found / expected - 1.0) * 100.0;
    assert!(off.abs() <= percent, "{what}: {found:.3} is {off:+.1} % off {expected:.3}");
}

/// What `quantize` chooses for a `_M` mix (`llama-quant.cpp`): more bits for the output, and for half the layers' values
/// and second feed-forward matrices.
fn mix(base: u32) -> impl Fn(&str, u32) -> u32 {
    move |name, layer| {
        let has_more = !(4..28).contains(&layer) || (layer - 4) % 3 == 2;
        match name {
            "output" => Q6_K,
            "attn_v" | "ffn_down" if has_more => Q6_K,
            _ => base,
        }
    }
}

// R18
#[test]
fn a_7b_model_weighs_what_everybody_says() {
    let cases: [(&str, f64, Written); 4] = [
        ("f16", 14.0, LLAMA_2_7B.with_tensors(|_, _| F16)),
        ("Q8_0", 7.5, LLAMA_2_7B.with_tensors(|_, _| Q8_0)),
        ("Q5_K_M", 5.0, LLAMA_2_7B.with_tensors(mix(Q5_K))),
        ("Q4_K_M", 4.0, LLAMA_2_7B.with_tensors(mix(Q4_K))),
    ];
    for (name, gigabytes, header) in cases {
        check_near(of(&header, Workload::new(2048, 1)).weights_bytes as f64 / 1e9, gigabytes, 10.0, name);
    }
}

// R19
#[test]
fn the_kv_cache_is_what_llama_cpp_allocates() {
    let smollm2 = SMOLLM2.header();
    // Logged by llama.cpp as `KV buffer size`, in MiB.
    assert_eq!(kv_mib(&smollm2, Workload::new(4096, 1)), 90.0);
    assert_eq!(kv_mib(&smollm2, Workload::new(8192, 4)), 720.0);
    assert_eq!(kv_mib(&LLAMA_2_7B.header(), Workload::new(4096, 1)), 128.0 * 16.0);
    // Contexts are rounded up to 256 tokens.
    assert_eq!(kv_mib(&smollm2, Workload::new(4000, 1)), 90.0);
    assert_eq!(kv_mib(&smollm2, Workload::new(1, 1)), 90.0 / 16.0);
    // Without `head_count_kv` every head has its own.
    let header = Written::of("llama")
        .number("llama.block_count", 30)
        .number("llama.embedding_length", 576)
        .number("llama.attention.head_count", 9);
    assert_eq!(kv_mib(&header, Workload::new(4096, 1)), 270.0);
}

#[test]
fn quantised_keys_and_values_take_whole_blocks() {
    let workload = |keys, values| Workload { keys, values, ..Workload::new(4096, 1) };
    let smollm2 = SMOLLM2.header();
    assert_eq!(kv_mib(&smollm2, workload(TensorType::F32, TensorType::F32)), 180.0);
    assert_eq!(kv_mib(&smollm2, workload(TensorType::Q8_0, TensorType::Q8_0)), 90.0 * 34.0 / 64.0);
    assert_eq!(kv_mib(&smollm2, workload(TensorType::Q8_0, TensorType::Q4_0)), 45.0 * (34.0 + 18.0) / 64.0);
}

#[test]
fn layers_with_a_window_keep_it_and_no_more_where_that_is_wanted() {
    let header = GEMMA_3_270M.header().number("gemma3.attention.sliding_window", 512);
    // Logged: 12 MiB for the three layers that see all, 60 MiB for fifteen with a window.
    assert_eq!(kv_mib(&header, Workload::new(4096, 1)), 72.0);
    assert_eq!(kv_mib(&header, Workload::new(8192, 4)), 576.0);
    let small = Workload { keeps_windows_whole: false, ..Workload::new(4096, 1) };
    // 512 + 257 rows, rounded up to 1,024.
    assert_eq!(kv_mib(&header, small), 12.0 + 15.0);
    assert_eq!(kv_mib(&header, Workload { context_length: 512, ..small }), 1.5 + 7.5);
    // Mistral's files name a window that llama.cpp does not heed.
    let mistral = LLAMA_2_7B.header().number("llama.attention.sliding_window", 4096);
    assert_eq!(kv_mib(&mistral, Workload { context_length: 32768, ..small }), 128.0 * 16.0 * 8.0);
}

#[test]
fn windows_are_also_listed_layer_by_layer() {
    let header = Dense { architecture: "gemma4", layers: 4, ..GEMMA_3_270M }
        .header()
        .number("gemma4.attention.sliding_window", 512)
        .number("gemma4.attention.key_length_swa", 128)
        .number("gemma4.attention.value_length_swa", 128)
        .number("gemma4.attention.shared_kv_layers", 1)
        .bools("gemma4.attention.sliding_window_pattern", &[true, true, false, true]);
    let small = Workload { keeps_windows_whole: false, ..Workload::new(4096, 1) };
    // Two windows of 1,024 cells at half the width, one layer that sees all, one that uses another's.
    assert_eq!(kv_mib(&header, small), 0.5 + 0.5 + 4.0);
}

#[test]
fn heads_may_differ_by_layer() {
    let header = Written::of("openelm")
        .number("openelm.block_count", 3)
        .number("openelm.embedding_length", 1280)
        .numbers("openelm.attention.head_count", &[12, 12, 16])
        .numbers("openelm.attention.head_count_kv", &[3, 3, 4])
        .number("openelm.attention.key_length", 64)
        .number("openelm.attention.value_length", 64);
    assert_eq!(of(&header, Workload::new(1024, 1)).kv_bytes, 10 * 64 * 2 * 2 * 1024);
    assert_eq!(of(&header, Workload::new(1024, 1)).basis, Basis::Stated);
}

#[test]
fn compressed_attention_keeps_one_vector_per_token() {
    // DeepSeek-V2-Lite: 27 layers, 512 + 64 values; llama.cpp stores no values beside them.
    let header = Written::of("deepseek2")
        .number("deepseek2.block_count", 27)
        .number("deepseek2.embedding_length", 2048)
        .number("deepseek2.attention.head_count", 16)
        .number("deepseek2.attention.head_count_kv", 1)
        .number("deepseek2.attention.key_length", 576)
        .number("deepseek2.attention.value_length", 512)
        .number("deepseek2.attention.key_length_mla", 192)
        .number("deepseek2.attention.value_length_mla", 128);
    assert_eq!(of(&header, Workload::new(4096, 2)).kv_bytes, 27 * 576 * 2 * 4096 * 2);
}

#[test]
fn recurrent_layers_keep_a_state_however_long_the_context() {
    // Mamba 130M: 24 layers of 3 × 1536 convolved values and a state of 16 × 1536, in 32-bit floats.
    let mamba = Written::of("mamba")
        .number("mamba.block_count", 24)
        .number("mamba.embedding_length", 768)
        .number("mamba.attention.head_count", 0)
        .number("mamba.ssm.conv_kernel", 4)
        .number("mamba.ssm.inner_size", 1536)
        .number("mamba.ssm.state_size", 16);
    for context_length in [256, 131_072] {
        assert_eq!(of(&mamba, Workload::new(context_length, 2)).kv_bytes, 24 * (3 * 1536 + 16 * 1536) * 4 * 2);
    }
    // LFM2: layers without KV heads are convolutions.
    let lfm2 = Written::of("lfm2")
        .number("lfm2.block_count", 4)
        .number("lfm2.embedding_length", 1024)
        .number("lfm2.attention.head_count", 16)
        .numbers("lfm2.attention.head_count_kv", &[0, 0, 8, 0])
        .number("lfm2.shortconv.l_cache", 3);
    assert_eq!(of(&lfm2, Workload::new(1024, 1)).kv_bytes, 8 * 64 * 2 * 2 * 1024 + 3 * 1024 * 2 * 4);
    // Nemotron-H: what feeds forward keeps nothing.
    let nemotron = Written::of("nemotron_h")
        .number("nemotron_h.block_count", 4)
        .number("nemotron_h.embedding_length", 1024)
        .number("nemotron_h.attention.head_count", 16)
        .number("nemotron_h.ssm.conv_kernel", 4)
        .number("nemotron_h.ssm.inner_size", 2048)
        .number("nemotron_h.ssm.state_size", 128)
        .numbers("nemotron_h.attention.head_count_kv", &[0, 0, 8, 0])
        .numbers("nemotron_h.feed_forward_length", &[0, 4096, 0, 4096]);
    let state = (3 * 2048 + 128 * 2048) * 4;
    assert_eq!(of(&nemotron, Workload::new(1024, 1)).kv_bytes, 8 * 64 * 2 * 2 * 1024 + state);
    // Qwen3-Next: every fourth layer attends.
    let next = Written::of("qwen3next")
        .number("qwen3next.block_count", 8)
        .number("qwen3next.embedding_length", 2048)
        .number("qwen3next.attention.head_count", 16)
        .number("qwen3next.attention.head_count_kv", 2)
        .number("qwen3next.attention.key_length", 256)
        .number("qwen3next.attention.value_length", 256);
    assert_eq!(of(&next, Workload::new(1024, 1)).kv_bytes, 2 * 2 * 256 * 2 * 2 * 1024);
}

#[test]
fn what_is_not_known_is_estimated_and_says_so() {
    let jamba = SMOLLM2_AS_JAMBA.header();
    let Basis::Estimated { because } = of(&jamba, Workload::new(4096, 1)).basis else { panic!("an estimate") };
    assert_eq!(because, "which of its layers are recurrent is not known; each is counted as both");
    assert_eq!(kv_mib(&jamba, Workload::new(4096, 1)), 90.0);

    let bare =
        Written::of("novel").tensor("blk.3.attn_q.weight", F32, &[8, 8]).tensor("token_embd.weight", F32, &[8, 8]);
    let footprint = of(&bare, Workload::new(256, 1));
    assert!(matches!(footprint.basis, Basis::Estimated { .. }));
    assert_eq!(footprint.kv_bytes, 4 * (8 + 8) * 2 * 256);

    assert_eq!(of(&Written::of("bert").number("bert.block_count", 6), Workload::new(512, 1)).kv_bytes, 0);
}

const SMOLLM2_AS_JAMBA: Dense = Dense { architecture: "jamba", ..SMOLLM2 };

// R19
#[test]
fn compute_buffers_are_what_llama_cpp_reserves() {
    let dense = |embedding, feed_forward, heads, heads_kv, head, vocabulary| {
        Dense { architecture: "llama", layers: 2, embedding, feed_forward, heads, heads_kv, head, vocabulary }.header()
    };
    let seven = dense(4096, 11008, 32, 32, 128, 32000);
    let eight = dense(4096, 14336, 32, 8, 128, 128_256);
    let seventy = dense(8192, 28672, 64, 8, 128, 128_256);
    let small = dense(1024, 3072, 16, 8, 128, 151_936);
    let attentive = dense(2048, 512, 32, 32, 128, 32000);
    let wordy = dense(256, 512, 4, 4, 64, 262_144);
    let gemma = GEMMA_3_270M.header().number("gemma3.attention.sliding_window", 512);
    let experts = Dense {
        architecture: "qwen3moe",
        layers: 2,
        embedding: 2048,
        feed_forward: 6144,
        heads: 32,
        heads_kv: 4,
        head: 128,
        vocabulary: 151_936,
    }
    .header()
    .number("qwen3moe.expert_count", 128)
    .number("qwen3moe.expert_used_count", 8)
    .number("qwen3moe.expert_feed_forward_length", 768);
    // Context length, sequences, and what llama.cpp logged as compute buffer and output buffer, in MiB.
    let cases = [
        (&seven, 1024, 1, 52.97 + 0.12),
        (&seven, 4096, 1, 54.47 + 0.12),
        (&seven, 16384, 1, 60.49 + 0.12),
        (&seven, 4096, 8, 55.95 + 0.98),
        (&eight, 4096, 1, 64.26 + 0.49),
        (&eight, 8192, 4, 67.04 + 1.96),
        (&seventy, 16384, 1, 132.52 + 0.49),
        (&small, 4096, 1, 16.07 + 0.58),
        (&small, 8192, 4, 18.29 + 2.32),
        (&experts, 4096, 1, 46.19 + 0.58),
        (&attentive, 4096, 1, 28.12 + 0.12),
        (&wordy, 1024, 32, 33.98 + 32.0),
        (&gemma, 4096, 1, 13.19 + 1.0),
        (&gemma, 8192, 4, 17.41 + 4.0),
        (&SMOLLM2.header(), 4096, 1, 9.36 + 0.19),
        (&SMOLLM2.header(), 8192, 4, 11.5 + 0.75),
    ];
    for (header, context_length, sequences, expected) in cases {
        let workload = Workload { guesses: 0, ..Workload::new(context_length, sequences) };
        let found = of(header, workload).compute_bytes as f64 / MIB;
        check_near(found, expected, 2.0, &format!("{context_length} tokens, {sequences} sequences"));
    }
}

#[test]
fn what_llama_cpp_rearranges_is_told_apart() {
    let header = LLAMA_2_7B.with_tensors(mix(Q4_K));
    let footprint = of(&header, Workload::new(2048, 1));
    let kept: u64 =
        header.header().tensors.iter().filter(|tensor| tensor.kind.name() != "Q4_K").map(|tensor| tensor.bytes).sum();
    let embeddings = TensorType::of(Q4_K).expect("a type").row_bytes(4096) * 32000;
    assert_eq!(footprint.rearranged_bytes, footprint.weights_bytes - kept - embeddings);
    assert_eq!(of(&LLAMA_2_7B.with_tensors(|_, _| Q8_0), Workload::new(2048, 1)).rearranged_bytes, 0);
}

#[test]
fn absurd_numbers_are_a_large_sum_and_no_panic() {
    let mut header = Written::of("gemma3");
    for key in [
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.key_length",
        "attention.value_length",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.indexer.key_length",
        "expert_used_count",
        "embedding_length_per_layer_input",
        "ssm.inner_size",
        "wkv.head_size",
    ] {
        header = header.number(&format!("gemma3.{key}"), u32::MAX);
    }
    let footprint = of(&header, Workload { batch_tokens: u32::MAX, ..Workload::new(u32::MAX, u32::MAX) });
    assert_eq!(footprint.total_bytes(), u64::MAX);
    let nothing = Footprint::of(&Written::default().header(), &Workload { context_length: 0, ..Workload::new(0, 0) });
    assert_eq!((nothing.weights_bytes, nothing.kv_bytes), (0, 0));
}
