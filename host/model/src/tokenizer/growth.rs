//! How much a `tokenizer.json` may make of a text before it is cut.
//!
//! Normalizers and pre-tokenizers replace text by text, one after the other: thirty that double it make a gigabyte of a
//! letter, and do so while the file is read already, of its added tokens. So each step is known by name, with the most bytes
//! that it can make of one, before the crate `tokenizers` sees the file.

use serde::Deserialize;
use serde_json::Value;

use crate::limits::{TOKENIZER_GROWN_BYTES_MAX, TOKENIZER_TEXT_BYTES};

/// The part of the file that changes text, and the texts that are changed while it is read.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

/// Refuses a file that would make too much of little. `Err` says why.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let steps: Steps = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let added = steps.added_tokens.iter().fold(TOKENIZER_TEXT_BYTES, |sum, it| sum.saturating_add(length(&it.content)));
    let growth = growth(&steps.normalizer)?.saturating_mul(growth(&steps.pre_tokenizer)?);
    if added.saturating_mul(growth) > TOKENIZER_GROWN_BYTES_MAX {
        return Err(format!("its normalizers may make {growth} bytes of one"));
    }
    Ok(())
}

/// Members that say what text becomes, and the type of the step whose they are.
const MEMBERS: [(&str, &str); 6] = [
    ("content", "Replace"),
    ("prepend", "Prepend"),
    ("replacement", "Metaspace"),
    ("precompiled_charsmap", "Precompiled"),
    ("normalizers", "Sequence"),
    ("pretokenizers", "Sequence"),
];

/// The most bytes that a step makes of one.
fn growth(step: &Value) -> Result<u64, String> {
    let text = |key: &str| step[key].as_str().map_or(0, length);
    let all = |key: &str| {
        let steps = step[key].as_array().map(Vec::as_slice).unwrap_or_default();
        steps.iter().try_fold(1_u64, |product, step| Ok::<_, String>(product.saturating_mul(growth(step)?)))
    };
    let kind = step["type"].as_str();
    // The crate guesses at what it does not know by its type, and guesses by these.
    if let Some((member, _)) = MEMBERS.iter().find(|(member, owner)| step.get(member).is_some() && kind != Some(owner))
    {
        return Err(format!("it has a step of the type {} with `{member}`", kind.unwrap_or("(none)")));
    }
    Ok(match kind {
        None if step.is_null() => 1,
        Some("Sequence") => all("normalizers")?.saturating_mul(all("pretokenizers")?),
        // A text of its own length at the least; an expression may match between any two letters.
        Some("Replace") => {
            let replaced = step["pattern"]["String"].as_str().map_or(0, length);
            if replaced > 0 { text("content").div_ceil(replaced).max(1) } else { text("content").saturating_add(1) }
        }
        Some("Prepend") => text("prepend").saturating_add(1),
        Some("Precompiled") => {
            let longest = step["precompiled_charsmap"].as_str().and_then(longest_replacement);
            longest.ok_or("its table of characters is damaged")?.max(1)
        }
        Some("Metaspace") => text("replacement").max(1).saturating_add(text("replacement")),
        // A letter of two bytes for each byte and a blank before; a blank on both sides of an ideograph; other forms of
        // Unicode.
        Some("ByteLevel" | "Bert" | "NFC" | "NFD" | "Lowercase") => 3,
        // U+FDFA, of three bytes, becomes 33. By the last two the crate knows nothing and guesses: the same at most.
        Some("NFKC" | "NFKD" | "BertNormalizer" | "CharDelimiterSplit") => 11,
        Some(
            "Strip" | "StripAccents" | "Nmt" | "BertPreTokenizer" | "Delimiter" | "Whitespace" | "Split"
            | "Punctuation" | "WhitespaceSplit" | "Digits" | "UnicodeScripts" | "FixedLength",
        ) => 1,
        other => return Err(format!("it has a step of the unknown type {}", other.unwrap_or("(none)"))),
    })
}

/// The longest text that a table of SentencePiece's puts in a character's place: behind a trie and its size, texts that end
/// in NUL.
fn longest_replacement(base64: &str) -> Option<u64> {
    let table = decoded(base64)?;
    let (size, rest) = table.split_first_chunk()?;
    let texts = rest.get(usize::try_from(u32::from_le_bytes(*size)).ok()?..)?;
    texts.split(|&byte| byte == 0).map(|text| text.len() as u64).max()
}

fn decoded(base64: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(base64.len() / 4 * 3), 0_u32, 0);
    for byte in base64.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(digit(byte)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn length(text: &str) -> u64 {
    text.len() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_growth(step: &Value, expected: Result<u64, &str>) {
        assert_eq!(growth(step), expected.map_err(str::to_owned), "{step}");
    }

    #[test]
    fn what_real_files_do_is_little() {
        let replace =
            |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        check_growth(&Value::Null, Ok(1));
        // Gemma.
        check_growth(&replace(json!({"String": " "}), "▁"), Ok(3));
        // Llama 2.
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        let both = json!({"type": "Sequence", "normalizers": [prepend, replace(json!({"String": " "}), "▁")]});
        check_growth(&both, Ok(12));
        check_growth(&replace(json!({"Regex": " {2,}"}), " "), Ok(2));
        // Qwen, Llama 3, SmolLM2.
        let split = json!({"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false});
        let cut =
            json!({"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel", "add_prefix_space": false}]});
        check_growth(&cut, Ok(3));
        check_growth(&json!({"type": "Metaspace", "replacement": "▁"}), Ok(6));
    }

    #[test]
    fn a_step_that_is_not_known_is_refused() {
        check_growth(&json!({"type": "Echo"}), Err("it has a step of the unknown type Echo"));
        // The crate guesses at what has no type.
        let untyped = json!({"pattern": {"String": "a"}, "content": "aa"});
        check_growth(&untyped, Err("it has a step of the type (none) with `content`"));
        let disguised = json!({"type": "BertNormalizer", "pattern": {"String": "a"}, "content": "aa"});
        check_growth(&disguised, Err("it has a step of the type BertNormalizer with `content`"));
    }

    #[test]
    fn a_table_is_as_long_as_its_longest_text() {
        let table = |texts: &[u8]| {
            let bytes = [&4_u32.to_le_bytes(), [1_u8; 4].as_slice(), texts].concat();
            json!({"type": "Precompiled", "precompiled_charsmap": base64(&bytes)})
        };
        check_growth(&table(b"a\0bcd\0ef"), Ok(3));
        check_growth(&table(b""), Ok(1));
        for damaged in ["", "AAA", "////////", "not base64!"] {
            let step = json!({"type": "Precompiled", "precompiled_charsmap": damaged});
            check_growth(&step, Err("its table of characters is damaged"));
        }
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let quads = bytes.chunks(3).map(|three| {
            let bits = three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
            let digits = (0..=three.len()).map(|at| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]));
            format!("{:=<4}", digits.collect::<String>())
        });
        quads.collect()
    }
}
