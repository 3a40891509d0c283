//! What the name of a file says.
//!
//! A name consists of words with `-` or `.` between them. A quantisation is one word (`Q4_K_M`), together with the word
//! before it where that is a prefix which makes it something else (`UD-Q4_K_M`). A name that shows no quantisation has that
//! of the folder it is in (`Q4_K_M/model-00001-of-00002.gguf`).

use crate::RepositoryPath;
use crate::shard::{self, Shard};

/// Words that belong to the quantisation behind them: Unsloth's dynamic ones (`UD-`), mradermacher's
/// importance-weighted ones (`i1-`, elsewhere `I-`), ubergarm's small ones (`smol-`).
const PREFIXES: &[&str] = &["UD", "I1", "I", "SMOL"];

/// Whether the file holds a model by itself or as a shard: llama.cpp's `gguf_filename_is_model`, except that draft heads
/// are also known in other letters when their mark comes first.
pub(super) fn is_model(file_name: &str) -> bool {
    let lower = file_name.to_ascii_lowercase();
    let is_draft = ["mtp-", "eagle3-", "dflash-", "dspark-"]
        .iter()
        .any(|mark| file_name.contains(mark) || lower.starts_with(mark));
    without_extension(file_name).is_some() && !lower.contains("mmproj") && !lower.contains("imatrix") && !is_draft
}

/// What a repository without a model has instead.
pub(super) fn other_weights<'a>(file_names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let mut found = None;
    for name in file_names {
        if name.contains(".gguf-split-") || name.contains(".gguf.part") {
            return Some("GGUF files that were cut by hand and must be joined first");
        }
        if name.ends_with(".safetensors") {
            found = Some("safetensors; look for the same model with -GGUF in its name");
        }
    }
    found
}

/// The path without shard number and extension, and the shard that the name says it is.
pub(super) fn split(path: &RepositoryPath) -> (&str, Option<Shard>) {
    let path = path.as_str();
    match shard::split(path) {
        Some((stem, shard)) => (stem, Some(shard)),
        None => (without_extension(path).unwrap_or(path), None),
    }
}

fn without_extension(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(".gguf".len())?;
    let (stem, extension) = name.split_at_checked(at)?;
    extension.eq_ignore_ascii_case(".gguf").then_some(stem)
}

/// Whether the name shows exactly this quantisation, in whatever case. It may be any whole word, or several.
pub(super) fn has_quant(stem: &str, quant: &str) -> bool {
    segments(stem).any(|segment| holds(segment, quant))
}

fn holds(segment: &str, quant: &str) -> bool {
    let wanted: Vec<&str> = words(quant).collect();
    let found: Vec<&str> = words(segment).collect();
    let is_here =
        |window: &[&str]| window.iter().zip(&wanted).all(|(found, wanted)| found.eq_ignore_ascii_case(wanted));
    found.windows(wanted.len().max(1)).enumerate().any(|(at, window)| {
        let before = at.checked_sub(1).and_then(|before| found.get(before));
        is_here(window) && !before.is_some_and(|word| is_prefix(word))
    })
}

/// The quantisation that the name shows, in upper case.
pub(super) fn label(stem: &str) -> Option<String> {
    segments(stem).find_map(|segment| {
        let words: Vec<&str> = words(segment).collect();
        let at = words.iter().rposition(|word| is_quant(word))?;
        let start = if at > 0 && is_prefix(words[at - 1]) { at - 1 } else { at };
        Some(words[start..=at].join("-").to_ascii_uppercase())
    })
}

/// The file's name and, where it shows no quantisation, its folders, nearest first.
fn segments(stem: &str) -> impl Iterator<Item = &str> {
    let mut segments = stem.rsplit('/');
    let name = segments.next().unwrap_or(stem);
    let is_told = words(name).any(is_quant);
    std::iter::once(name).chain(segments.take_while(move |_| !is_told))
}

fn words(segment: &str) -> impl Iterator<Item = &str> {
    segment.split(['-', '.'])
}

fn is_prefix(word: &str) -> bool {
    PREFIXES.iter().any(|prefix| word.eq_ignore_ascii_case(prefix))
}

/// `Q8_0`, `IQ3_XXS`, `TQ1_0`, `F16`, `BF16`, `FP16`, `MXFP4_MOE`, `NVFP4`, …
fn is_quant(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let body = word.strip_prefix(['I', 'T']).unwrap_or(&word);
    let is_k_or_i = body.strip_prefix('Q').is_some_and(|rest| {
        let (digits, rest) = rest.split_at(rest.len().min(1));
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.is_empty()
            && (rest.is_empty() || rest.starts_with('_'))
    });
    let is_float = ["F16", "F32", "BF16", "FP16", "FP32", "FP8"].contains(&word.as_str());
    is_k_or_i || is_float || word.starts_with("MXFP4") || word.starts_with("NVFP4")
}
