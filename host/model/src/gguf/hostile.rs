//! Headers that were sound until somebody had at them: never a panic, never more memory than the bytes are worth.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::limits::STRING_BYTES_MAX;
use super::written::Written;
use super::{Header, Model, Vocabulary};
use crate::allocation::peak_bytes;
use crate::memory::{self, Budget, Memory};
use crate::{Facts, Footprint, Workload};

/// Something of everything: texts, arrays of each kind, tensors, a split, windows, experts.
fn sound() -> Vec<u8> {
    let written = Written::of("gemma3")
        .number("gemma3.block_count", 6)
        .number("gemma3.context_length", 8192)
        .number("gemma3.embedding_length", 256)
        .number("gemma3.feed_forward_length", 512)
        .number("gemma3.attention.sliding_window", 512)
        .number("gemma3.expert_used_count", 2)
        .numbers("gemma3.attention.head_count", &[4, 4, 4, 4, 4, 8])
        .bools("gemma3.attention.sliding_window_pattern", &[true, true, true, true, true, false])
        .number("split.count", 1)
        .number("general.alignment", 32)
        .number("general.file_type", 15)
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["a", "Ġb", "<e>"])
        .numbers("tokenizer.ggml.token_type", &[1, 1, 3])
        .text("tokenizer.chat_template", "{{ messages }}")
        .tensor("token_embd.weight", 12, &[256, 8])
        .tensor("blk.0.attn_q.weight", 2, &[32, 8])
        .tensor("blk.5.ffn_up.weight", 0, &[8, 8, 2]);
    let mut bytes = written.bytes();
    bytes.resize(usize::try_from(written.file_bytes()).expect("small"), 0);
    bytes
}

/// Everything that is done with a header before a model is loaded.
fn look(bytes: &[u8], length: u64) {
    let path = Path::new("hostile.gguf");
    let Ok(header) = Header::read_from(bytes, path, length) else { return };
    let _ = Vocabulary::read_from(Cursor::new(bytes), path, length, &header);
    let workload = Workload { keeps_windows_whole: false, ..Workload::new(u32::MAX, u32::MAX) };
    let _ = Footprint::of(&header, &workload);
    if let Err(refusal) = memory::check(&header, &workload, &[Budget { memory: Memory::Ram, have_bytes: 1 << 30 }]) {
        let _ = refusal.to_string();
    }
    let _ = Facts::of(&Model { shards: vec![path.to_owned()], header });
}

/// What a header may take beside what it holds: layers, buffers of the vocabulary, messages.
const FIXED_BYTES: u64 = 512 << 10;
/// What it may take for each of its bytes: a key of one letter becomes a node of a tree, a token of none a `String`.
const BYTES_PER_BYTE: u64 = 128;

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let worth = FIXED_BYTES + bytes.len() as u64 * BYTES_PER_BYTE;
    let peak = peak_bytes(|| look(bytes, bytes.len() as u64));
    prop_assert!(peak <= worth, "{peak} bytes were held for {} of a header", bytes.len());
    // As if the file were larger than any disk: one text may be asked for that never comes.
    let peak = peak_bytes(|| look(bytes, 1 << 62));
    prop_assert!(peak <= worth + STRING_BYTES_MAX, "{peak} bytes were held for {} of a header", bytes.len());
    Ok(())
}

#[test]
fn the_header_that_is_changed_is_a_sound_one() {
    let bytes = sound();
    let header =
        Header::read_from(bytes.as_slice(), "sound.gguf".as_ref(), bytes.len() as u64).expect("a sound header");
    assert_eq!((header.tensor_count, header.metadata.len()), (3, 16));
    assert!(peak_bytes(|| drop(vec![0_u8; 1 << 20])) >= 1 << 20, "allocations are counted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn changed_bits_are_survived(flips in proptest::collection::vec((any::<Index>(), 0_u32..8), 1..6)) {
        let mut bytes = sound();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        check(&bytes)?;
    }

    #[test]
    fn a_cut_is_survived(keep in any::<Index>(), more in proptest::collection::vec(any::<u8>(), 0..16)) {
        let mut bytes = sound();
        bytes.truncate(keep.index(bytes.len()));
        bytes.extend(more);
        check(&bytes)?;
    }

    #[test]
    fn huge_numbers_are_survived(
        places in proptest::collection::vec(any::<Index>(), 1..4),
        number in select(vec![u64::MAX, i64::MAX.unsigned_abs(), 1 << 62, 1 << 32, (1 << 32) - 1, 256 << 20, 16 << 20, 4 << 20, 65_536, 1_024]),
        width in select(vec![4_usize, 8]),
    ) {
        let mut bytes = sound();
        for at in places {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        check(&bytes)?;
    }
}
