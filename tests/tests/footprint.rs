//! What a header promises beside what the process takes, and a split model beside a whole one.

use std::path::{Path, PathBuf};
use std::process::Command;

use model::gguf::{Header, Model};
use model::{Encodes, Footprint, Workload};
use serde_json::json;
use tests::host::{Host, demo_model, embedding_model, python};
use tests::markov::Markov;

/// Private and file-backed pages of a process, in bytes: what it holds, whoever else does.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    (kilobytes("RssAnon:") + kilobytes("RssFile:")) * 1024
}

/// Of that, the pages of the program's own file.
fn code_bytes(pid: u32) -> u64 {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("a program");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("a process");
    let (mut is_its, mut kilobytes) = (false, 0);
    for line in maps.lines() {
        if let Some(resident) = line.strip_prefix("Rss:").filter(|_| is_its) {
            kilobytes += resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        } else if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            is_its = Path::new(line.rsplit(' ').next().unwrap_or_default()) == program;
        }
    }
    assert!(kilobytes > 0, "no mapping of {}", program.display());
    kilobytes * 1024
}

/// Serves the model, has it compute full batches, and compares.
fn check(path: &Path, context_length: u32, sequences: u32) {
    let header = Header::read(path).expect("a sound header");
    let footprint = Footprint::of(&header, &Workload::new(context_length, sequences));
    let host = Host::serve(
        path,
        &[&format!("--context-length={context_length}"), &format!("--max-concurrency={sequences}"), "--model-id=m"],
    );
    // More than a batch, so that every buffer is touched.
    let question = "word ".repeat(600);
    let body = json!({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": question}]});
    let reply = host.chat(&body);
    assert_eq!(reply.status, 200, "{}", reply.text);

    compare(&host, &footprint, &format!("{context_length} x {sequences}"));
}

fn compare(host: &Host, footprint: &Footprint, what: &str) {
    // Without the code, of which a build for tests has twice as much as the one that was measured.
    let found = resident_bytes(host.pid()) - code_bytes(host.pid());
    // What llama.cpp copied into another order is resident twice until memory is wanted.
    let expected = footprint.total_bytes() - model::CODE_BYTES + footprint.rearranged_bytes;
    let off = (expected as f64 / found as f64 - 1.0) * 100.0;
    println!("{what}: {found} bytes resident, {expected} expected, {off:+.1} %: {footprint:?}");
    assert!(off.abs() <= 10.0, "{expected} bytes were expected and {found} are resident, {off:+.1} %: {footprint:?}");
}

// R18
#[test]
fn a_footprint_is_what_the_process_takes() {
    check(&demo_model(), 2048, 1);
    check(&demo_model(), 4096, 4);
}

// R18: K-quants, of which llama.cpp rearranges some, sliding windows, and five times the vocabulary.
#[test]
#[ignore = "needs Gemma 3 270M (253 MB), which `tests/run.sh --full` downloads"]
fn a_footprint_is_what_the_process_takes_with_windows_and_k_quants() {
    let gemma = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models/gemma-3-270m-q4_k_m.gguf");
    check(&gemma, 2048, 1);
    check(&gemma, 8192, 4);
}

// R18
#[test]
fn a_footprint_is_what_an_embedding_model_takes() {
    let header = Header::read(&embedding_model()).expect("a sound header");
    let encodes = Encodes::of(&header).expect("a model that encodes");
    let footprint = Footprint::of(&header, &Workload::encoding(512, encodes));
    let host = Host::serve(&embedding_model(), &["--model-id=m"]);
    // The longest input, so that every buffer is touched.
    let reply = host.post("/v1/embeddings", &json!({"model": "m", "input": vec![7; 512]}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    compare(&host, &footprint, "512 tokens encoded");
}

/// The model, split by `gguf`'s own writer in files of six tensors.
fn split(path: &Path, folder: &Path) -> Vec<PathBuf> {
    let script = r#"
import sys, gguf
source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents(), split_max_tensors=6)
for name, field in reader.fields.items():
    if not name.startswith("GGUF.") and name != "general.architecture":
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"#;
    let target = folder.join("split.gguf");
    let output = Command::new(python()).arg("-c").arg(script).args([path, &target]).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut shards: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    shards.sort();
    shards
}

// X2
#[test]
fn a_model_that_gguf_split_is_read_and_served_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.gguf");
    Markov::default().write(&whole).expect("a model");
    let parts = folder.path().join("parts");
    std::fs::create_dir(&parts).expect("a folder");
    let shards = split(&whole, &parts);
    assert!(shards.len() > 2, "{shards:?}");

    let (whole, split) = (Model::open(&whole).expect("a model"), Model::open(&shards[1]).expect("a split model"));
    assert_eq!(split.shards, shards);
    assert_eq!(split.header.tensors, whole.header.tensors);
    let workload = Workload::new(1024, 2);
    assert_eq!(Footprint::of(&split.header, &workload), Footprint::of(&whole.header, &workload));

    let host = Host::serve(&shards[0], &["--model-id=m"]);
    let body =
        json!({"model": "m", "temperature": 0, "max_tokens": 4, "messages": [{"role": "assistant", "content": "ab"}]});
    let with_split = host.chat(&body).content();
    let host = Host::serve(&whole.shards[0], &["--model-id=m"]);
    assert_eq!(host.chat(&body).content(), with_split);
}
