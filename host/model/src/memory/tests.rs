use super::*;
use crate::gguf::written::Written;

const GB: u64 = 1_000_000_000;

/// 16 layers of 8 KV heads of 128 values: 64 KiB per token; a matrix of 1 GB of weights.
fn header() -> Header {
    Written::of("llama")
        .number("llama.block_count", 16)
        .number("llama.embedding_length", 2048)
        .number("llama.feed_forward_length", 8192)
        .number("llama.attention.head_count", 16)
        .number("llama.attention.head_count_kv", 8)
        .tensor("output.weight", 1, &[2048, 244_141])
        .header()
}

fn ram(have_bytes: u64) -> Budget {
    Budget { memory: Memory::Ram, have_bytes }
}

fn cgroup(have_bytes: u64) -> Budget {
    let limit_file = "/sys/fs/cgroup/memory.max".into();
    Budget { memory: Memory::Cgroup { limit_file, limit_bytes: 2 * GB }, have_bytes }
}

fn device(name: &str, have_bytes: u64) -> Budget {
    Budget { memory: Memory::Device { name: name.to_owned() }, have_bytes }
}

fn refusal(workload: &Workload, budgets: &[Budget]) -> NotEnough {
    *check(&header(), workload, budgets).expect_err("too large")
}

/// Without the margin this would need 1,639 MB, with it 1,721.
const WORKLOAD: fn() -> Workload = || Workload::new(4096, 2);

// R19
#[test]
fn what_fits_is_told_what_it_takes() {
    let footprint = check(&header(), &WORKLOAD(), &[ram(8 * GB), cgroup(2 * GB)]).expect("room");
    assert_eq!(footprint.weights_bytes, 2048 * 244_141 * 2);
    assert_eq!(footprint.kv_bytes, 65_536 * 4096 * 2);
    assert!(check(&header(), &WORKLOAD(), &[]).is_ok());
}

#[test]
fn the_margin_is_asked_for_and_not_a_byte_more() {
    let footprint = check(&header(), &WORKLOAD(), &[]).expect("no budget");
    let need = footprint.total_bytes() + margin_bytes(&footprint);
    assert!(margin_bytes(&footprint) >= footprint.total_bytes() / 100 * 5);
    assert!(check(&header(), &WORKLOAD(), &[ram(need)]).is_ok());
    assert_eq!(refusal(&WORKLOAD(), &[ram(need - 1)]).need_bytes, need);
}

// R26
#[test]
fn a_refusal_names_both_numbers_the_memory_and_the_ways_out() {
    assert_eq!(
        refusal(&WORKLOAD(), &[ram(8 * GB), cgroup(3 * GB / 2)]).to_string(),
        "the model needs 1.7 GB and 1.5 GB are left of the cgroup's limit of 2.0 GB (/sys/fs/cgroup/memory.max) (weights 1.0 GB, \
         KV cache of 2 x 4096 tokens 536.9 MB, compute buffers 38.0 MB, process 28.0 MB, margin 80.1 MB); set \
         `context_length` to 2560 or less, or set `max_concurrency` to 1, or set `kv_cache_type` to q8_0, or choose a \
         smaller quantisation of the model, or raise the limit"
    );
    assert_eq!(
        refusal(&Workload::new(4096, 1), &[ram(GB / 2)]).ways_out(),
        ["choose a smaller model or quantisation", "free memory or use a larger machine"]
    );
}

#[test]
fn the_smallest_memory_is_the_one_that_is_named() {
    assert_eq!(refusal(&WORKLOAD(), &[ram(GB), cgroup(GB / 2)]).have_bytes, GB / 2);
    assert_eq!(refusal(&WORKLOAD(), &[ram(GB / 2), cgroup(GB)]).memory, Memory::Ram);
    // One that suffices is no reason, however small.
    assert_eq!(
        refusal(&WORKLOAD(), &[device("GPU 0", GB), ram(GB / 2)]).memory,
        Memory::Device { name: "GPU 0".to_owned() }
    );
}

#[test]
fn the_largest_settings_that_fit_are_found() {
    let header = header();
    for have_bytes in [GB + GB / 8, GB + GB / 4, GB + GB / 2] {
        let found = refusal(&Workload::new(65_536, 8), &[ram(have_bytes)]);
        for (setting, most) in [("context", found.context_length_max), ("sequences", found.sequences_max)] {
            let workload = |number| match setting {
                "context" => Workload::new(number, 8),
                _ => Workload::new(65_536, number),
            };
            match most {
                Some(most) => {
                    assert!(check(&header, &workload(most), &[ram(have_bytes)]).is_ok(), "{setting} {most}");
                    assert!(check(&header, &workload(most + 1), &[ram(have_bytes)]).is_err(), "{setting} {most}");
                }
                None => assert!(check(&header, &workload(1), &[ram(have_bytes)]).is_err(), "{setting}"),
            }
        }
    }
}

#[test]
fn devices_hold_the_model_together_and_ram_the_process() {
    let two = [device("GPU 0", GB), device("GPU 1", GB), ram(GB / 10)];
    assert!(check(&header(), &WORKLOAD(), &two).is_ok());
    let small = [device("GPU 0", GB / 2), device("GPU 1", GB / 2), ram(GB / 10)];
    let refusal = refusal(&WORKLOAD(), &small);
    assert_eq!(refusal.have_bytes, GB / 2 * 2);
    let shown = refusal.to_string();
    assert!(shown.contains("1.0 GB are left of the memory of GPU 0 and GPU 1"), "{shown}");
    assert!(shown.ends_with("set `device` to cpu, or use more or larger GPUs"), "{shown}");
    // A process needs room as well.
    assert!(check(&header(), &WORKLOAD(), &[device("GPU 0", 8 * GB), ram(GB / 100)]).is_err());
}

#[test]
fn an_estimate_asks_for_more_and_says_so() {
    let jamba = Written::of("jamba")
        .number("jamba.block_count", 16)
        .number("jamba.embedding_length", 2048)
        .number("jamba.attention.head_count", 16)
        .number("jamba.attention.head_count_kv", 8)
        .header();
    let error = check(&jamba, &Workload::new(8192, 1), &[ram(GB / 2)]).expect_err("too large");
    assert!(error.margin_bytes >= error.footprint.total_bytes() / 4 - 100);
    let shown = error.to_string();
    assert!(shown.contains("; the KV cache is an estimate: which of its layers"), "{shown}");
}

/// Sixteen layers of 100 MB each, and an output of as much.
fn layered() -> Header {
    (0..16)
        .fold(
            Written::of("llama")
                .number("llama.block_count", 16)
                .number("llama.embedding_length", 2048)
                .number("llama.feed_forward_length", 8192)
                .number("llama.attention.head_count", 16)
                .number("llama.attention.head_count_kv", 8)
                .tensor("token_embd.weight", 1, &[2048, 24_414]),
            |written, layer| written.tensor(&format!("blk.{layer}.ffn_up.weight"), 1, &[2048, 24_414]),
        )
        .tensor("output.weight", 1, &[2048, 24_414])
        .header()
}

// R19
#[test]
fn a_device_takes_as_many_layers_as_it_holds_and_ram_the_rest() {
    let header = layered();
    let workload = Workload::new(1024, 1);
    let layers = |have_bytes| place(&header, &workload, &[device("GPU 0", have_bytes), ram(4 * GB)], None);
    let all = layers(4 * GB).expect("room");
    assert_eq!((all.layers, all.layers_total), (17, 17));
    assert_eq!(all.device.weights_bytes, 17 * 2048 * 24_414 * 2);
    assert_eq!(all.host.weights_bytes, 2048 * 24_414 * 2, "tokens are looked up by the processor");
    assert_eq!(all.device.kv_bytes, all.footprint.kv_bytes);

    let half = layers(GB).expect("room");
    assert!((6..10).contains(&half.layers), "{half:?}");
    assert_eq!(half.device.weights_bytes + half.host.weights_bytes, half.footprint.weights_bytes);
    assert_eq!(half.device.kv_bytes, half.footprint.kv_bytes / 16 * u64::from(half.layers - 1));
    assert_eq!(half.device.kv_bytes + half.host.kv_bytes, half.footprint.kv_bytes);
    // One more would not fit.
    let budgets = [device("GPU 0", GB), ram(4 * GB)];
    assert!(place(&header, &workload, &budgets, Some(half.layers)).is_ok());
    let error = place(&header, &workload, &budgets, Some(half.layers + 1)).expect_err("too many");
    assert_eq!(error.layers_max, Some(half.layers));
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("{} layers of the model need", half.layers + 1)), "{shown}");
    assert!(shown.contains(&format!("set `gpu_layers` to {} or less", half.layers)), "{shown}");
    assert!(!shown.contains("process"), "{shown}");
}

// R26
#[test]
fn a_device_that_holds_no_layer_is_refused_with_what_one_needs() {
    let error = place(&layered(), &Workload::new(1024, 1), &[device("GPU 0", GB / 100), ram(4 * GB)], None);
    let shown = error.expect_err("nothing fits").to_string();
    assert!(shown.starts_with("one layer of the model needs"), "{shown}");
}

#[test]
fn an_output_that_is_the_input_too_is_on_the_device_as_well() {
    let header = Written::of("llama")
        .number("llama.block_count", 1)
        .number("llama.embedding_length", 64)
        .number("llama.attention.head_count", 4)
        .tensor("token_embd.weight", 1, &[64, 1000])
        .tensor("blk.0.ffn_up.weight", 1, &[64, 100])
        .header();
    let placement = place(&header, &Workload::new(256, 1), &[device("GPU 0", GB), ram(GB)], None).expect("room");
    assert_eq!(placement.device.weights_bytes, 64 * 1000 * 2 + 64 * 100 * 2);
    assert_eq!(placement.host.weights_bytes, 64 * 1000 * 2);
}

// R19
#[test]
fn the_longest_context_is_found_and_leaves_the_margin() {
    let header = layered();
    let longest = |budgets: &[Budget], most| context_length_max(&header, &Workload::new(1, 2), budgets, None, most);
    assert_eq!(longest(&[ram(64 * GB)], 32_768), Some(32_768));
    let found = longest(&[ram(3 * GB)], 131_072).expect("room");
    assert!(found.is_multiple_of(256) && found < 131_072, "{found}");
    let place = |context_length| place(&header, &Workload::new(context_length, 2), &[ram(3 * GB)], None);
    assert!(place(found).is_ok() && place(found + 256).is_err());
    assert_eq!(longest(&[ram(GB)], 131_072), None);
}

#[test]
fn layers_are_given_up_for_a_context_of_use_and_no_longer_one() {
    let header = layered();
    let longest = |have_bytes| {
        let budgets = [device("GPU 0", have_bytes), ram(64 * GB)];
        let found = context_length_max(&header, &Workload::new(1, 1), &budgets, None, 131_072).expect("room");
        (found, place(&header, &Workload::new(found, 1), &budgets, None).expect("it fits").layers)
    };
    let (long, layers) = longest(3 * GB);
    assert!(long > 8192 && layers == 17, "{long} {layers}");
    let (short, layers) = longest(GB);
    assert!(short == 4096 && layers < 17, "{short} {layers}");
}

// R26: what llama.cpp keeps of every token of an input is most of what a small model takes.
#[test]
fn an_encoding_model_that_does_not_fit_is_told_of_shorter_inputs() {
    let header = Written::of("bert")
        .number("bert.block_count", 2)
        .number("bert.embedding_length", 768)
        .number("bert.feed_forward_length", 3072)
        .number("bert.attention.head_count", 12)
        .texts("tokenizer.ggml.tokens", &vec![""; 100_000])
        .header();
    let workload = Workload::encoding(2048, crate::Encodes::InOnePiece);
    let refusal = check(&header, &workload, &[ram(GB / 2)]).expect_err("too large");
    let most = refusal.context_length_max.expect("shorter inputs fit");
    assert!((513..2048).contains(&most), "{most}");
    assert!(check(&header, &Workload { context_length: most, ..workload }, &[ram(GB / 2)]).is_ok());
    let text = refusal.to_string();
    assert!(text.contains("KV cache for inputs of 2048 tokens 0.0 MB"), "{text}");
    assert!(!text.contains("max_concurrency"), "{text}");
}
