use proptest::prelude::*;

use super::*;
use crate::gguf::parse::{TYPE_ARRAY, TYPE_STRING};

/// A header written by hand, field by field.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(version: u32, tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn text(self, value: &str) -> Self {
        let mut this = self.u64(value.len() as u64);
        this.0.extend(value.as_bytes());
        this
    }
    fn tensor(self, name: &str, rows: u64, offset: u64) -> Self {
        self.text(name).u32(1).u64(rows).u32(0).u64(offset)
    }
    fn padded(mut self, data: usize) -> Self {
        let end = self.0.len().next_multiple_of(32) + data;
        self.0.resize(end, 0);
        self
    }
}

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read_from(bytes, "test.gguf".as_ref(), bytes.len() as u64)
}

fn check_refused(bytes: &Bytes, expected: &str) {
    let error = parse(&bytes.0).expect_err("a bad header");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn facts_are_read() {
    let bytes = Bytes::new(3, 1, 3)
        .text("general.architecture")
        .u32(TYPE_STRING)
        .text("llama")
        .text("llama.context_length")
        .u32(4)
        .u32(8192)
        .text("tokenizer.ggml.scores")
        .u32(TYPE_ARRAY)
        .u32(6)
        .u64(2)
        .u32(0)
        .u32(0)
        .tensor("output.weight", 8, 0)
        .padded(32);
    let header = parse(&bytes.0).expect("a good header");
    assert_eq!(header.architecture(), Some("llama"));
    assert_eq!(header.context_length(), Some(8192));
    assert_eq!(
        header.metadata["tokenizer.ggml.scores"],
        Value::Array(Array { length: 2, numbers: None, kind: 6, offset: 150 })
    );
    assert_eq!((header.tensor_count, header.tensor_bytes), (1, 32));
    assert_eq!(header.chat_template(), None);
}

#[test]
fn the_kv_cache_is_counted_from_the_header() {
    let number = |bytes: Bytes, key: &str, value: u32| bytes.text(key).u32(4).u32(value);
    let mut bytes = Bytes::new(3, 0, 5).text("general.architecture").u32(TYPE_STRING).text("llama");
    bytes = number(bytes, "llama.block_count", 30);
    bytes = number(bytes, "llama.embedding_length", 576);
    bytes = number(bytes, "llama.attention.head_count", 9);
    bytes = number(bytes, "llama.attention.head_count_kv", 3);
    let header = parse(&bytes.0).expect("a good header");
    // SmolLM2-135M: llama.cpp reports 180 MiB for 8,192 tokens.
    assert_eq!(header.kv_cache_bytes(8192), Some(180 << 20));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    check_refused(
        &Bytes(b"PK\x03\x04zip".to_vec()),
        "not a GGUF file: it starts with the bytes [50, 4b, 03, 04], and a GGUF starts with the letters GGUF",
    );
    check_refused(
        &Bytes(b"<!DOCTYPE html>".to_vec()),
        "not a GGUF file: it starts with \"<!DO\", and a GGUF starts with the letters GGUF",
    );
    check_refused(
        &Bytes::default(),
        "not a GGUF file: it starts with 0 bytes in all, and a GGUF starts with the letters GGUF",
    );
    check_refused(
        &Bytes::new(1, 0, 0),
        "GGUF version 1 is not supported (2 and 3 are); convert the model again with a current converter",
    );
}

#[test]
fn a_cut_file_says_how_much_is_missing() {
    check_refused(
        &Bytes::new(3, 1, 0).tensor("output.weight", 1024, 0).padded(32),
        "the file is cut short: tensor `output.weight` needs 4192 bytes and the file has 128; the download was \
         probably interrupted, fetch it again",
    );
}

#[test]
fn absurd_counts_take_no_memory() {
    check_refused(
        &Bytes::new(3, u64::MAX, 0),
        "the number of tensors is 18446744073709551615, and 65536 is the most that is accepted; the file is damaged \
         or hostile",
    );
    check_refused(
        &Bytes::new(3, 0, 1).text("k").u32(TYPE_ARRAY).u32(0).u64(u64::MAX),
        "the length of the value of `k` is 18446744073709551615, and 16777216 is the most that is accepted; the file \
         is damaged or hostile",
    );
    check_refused(
        &Bytes::new(3, 0, 1).text("k").u32(TYPE_ARRAY).u32(TYPE_ARRAY).u64(1),
        "the value of `k` is an array of type number 9; the file is damaged or hostile",
    );
}

#[test]
fn a_key_stands_once() {
    let twice = Bytes::new(3, 0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(2);
    check_refused(&twice, "the metadata key `k` stands twice; the file is damaged or hostile");
}

proptest! {
    /// Whatever the bytes, the answer is a header or an error: no panic, no overflow, no large allocation.
    #[test]
    fn any_bytes_are_answered(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(&tail);
        let _ = parse(&bytes);
    }

    /// A good file with bytes changed or cut off likewise.
    #[test]
    fn damaged_files_are_answered(at in 0_usize..200, byte in any::<u8>(), keep in 0_usize..200) {
        let mut bytes = Bytes::new(3, 1, 1)
            .text("general.architecture").u32(TYPE_STRING).text("llama")
            .tensor("output.weight", 8, 0).padded(32).0;
        let last = bytes.len() - 1;
        bytes[at.min(last)] = byte;
        bytes.truncate(keep.max(4));
        let _ = parse(&bytes);
    }
}

/// A name is foreign text: what is said about it may reach a terminal and a log.
#[test]
fn a_name_is_shown_short_and_without_control_characters() {
    let key = "\u{1b}[2J\n".to_owned() + &"k".repeat(60_000);
    let bytes = Bytes::new(3, 0, 1).text(&key).u32(99);
    let shown = format!("\\u{{1b}}[2J\\n{}…", "k".repeat(75));
    check_refused(
        &bytes,
        &format!("the value of `{shown}` has the unknown type number 99; the file is damaged or hostile"),
    );
    let twice = Bytes::new(3, 0, 2).text(&key).u32(7).byte(1).text(&key).u32(7).byte(1);
    check_refused(&twice, &format!("the metadata key `{shown}` stands twice; the file is damaged or hostile"));
}

/// A header that is small enough to be read may be too large to be kept beside a model.
#[test]
fn texts_are_kept_up_to_a_size_of_all_together() {
    let long = "x".repeat(15 << 20);
    let header = |count: u64| {
        let empty = Bytes::new(3, 0, count);
        (0..count).fold(empty, |bytes, number| bytes.text(&format!("k{number}")).u32(TYPE_STRING).text(&long))
    };
    assert!(parse(&header(2).0).is_ok());
    check_refused(
        &header(3),
        "the length of the value of `k2` is 15728640, and 2097146 is the most that is accepted; the file is damaged or hostile",
    );
}
