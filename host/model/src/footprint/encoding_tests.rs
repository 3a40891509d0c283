//! Models that encode, beside the buffers that llama.cpp b11434 logged for files of these shapes with two layers.

use super::*;
use crate::gguf::written::Written;

const F16: u32 = 1;
const MIB: f64 = 1_048_576.0;

/// BERT of this vocabulary and width, four times as wide inside.
fn bert(vocabulary: usize, width: u64) -> Written {
    let number = |number: u64| u32::try_from(number).expect("small");
    Written::of("bert")
        .number("bert.block_count", 2)
        .number("bert.embedding_length", number(width))
        .number("bert.feed_forward_length", number(width * 4))
        .number("bert.attention.head_count", 12)
        .number("bert.pooling_type", 2)
        .texts("tokenizer.ggml.tokens", &vec![""; vocabulary])
        .tensor("blk.0.ffn_up.weight", F16, &[width, width * 4])
}

/// Qwen3 of 50,000 tokens and a width of 1,024.
fn qwen3(pooling: u32) -> Written {
    Written::of("qwen3")
        .number("qwen3.block_count", 2)
        .number("qwen3.embedding_length", 1024)
        .number("qwen3.feed_forward_length", 3072)
        .number("qwen3.attention.head_count", 16)
        .number("qwen3.attention.head_count_kv", 8)
        .number("qwen3.attention.key_length", 128)
        .number("qwen3.attention.value_length", 128)
        .number("qwen3.pooling_type", pooling)
        .texts("tokenizer.ggml.tokens", &vec![""; 50_000])
}

/// `compute_mib` and `kv_mib` are what llama.cpp logged. Logits and vectors of all rows come on top: its output buffer grows
/// to that at the first full batch (and the resident set with it).
fn check(header: &Written, context_length: u32, rows: u64, outputs: u64, compute_mib: f64, kv_mib: f64) {
    let header = header.header();
    let encodes = Encodes::of(&header).expect("a model that encodes");
    let footprint = Footprint::of(&header, &Workload::encoding(context_length, encodes));
    let expected = compute_mib + (rows * outputs * 4) as f64 / MIB;
    let off = footprint.compute_bytes as f64 / MIB / expected - 1.0;
    assert!(off.abs() < 0.02, "{:.1} MiB instead of {expected:.1}", footprint.compute_bytes as f64 / MIB);
    let off_kv = footprint.kv_bytes as f64 / MIB - kv_mib;
    assert!(off_kv.abs() < 0.01, "{} bytes of keys and values", footprint.kv_bytes);
}

#[test]
fn inputs_in_one_piece() {
    check(&bert(30_522, 768), 512, 512, 30_522 + 768, 14.01, 0.0);
    check(&bert(30_522, 768), 2048, 2048, 30_522 + 768, 62.05, 0.0);
    check(&bert(1_000, 384), 8192, 8192, 1_000 + 384, 236.19, 0.0);
    check(&bert(1_000, 384), 2048, 2048, 1_000 + 384, 35.05, 0.0);
    check(&bert(60_000, 1024), 1024, 1024, 60_000 + 1024, 38.02, 0.0);
    check(&qwen3(1), 1024, 1024, 50_000 + 1024, 217.60, 8.0);
}

#[test]
fn inputs_in_parts() {
    check(&qwen3(3), 4096, 128, 50_000 + 1024, 27.92, 32.0);
}

#[test]
fn short_inputs_share_a_batch() {
    let header = bert(30_522, 768).header();
    let of = |context_length| Footprint::of(&header, &Workload::encoding(context_length, Encodes::InOnePiece));
    assert_eq!(of(64), of(512));
    assert!(of(513).compute_bytes > of(512).compute_bytes);
}
