//! What a GGUF says of itself.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use super::limits::METADATA_BYTES_MAX;
use super::parse;
use super::read::{GgufError, Reader};
use super::tensor::Tensor;

/// The facts in a GGUF header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
    /// How many tensors there are.
    pub tensor_count: u64,
    /// Bytes of all tensors together.
    pub tensor_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned whole number of any width.
    Unsigned(u64),
    /// A signed whole number of any width.
    Signed(i64),
    /// A floating-point number of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array; its elements are kept only where they are few whole numbers.
    Array(Array),
}

/// What is kept of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// How many elements it has.
    pub length: u64,
    /// The elements, where they are whole numbers or truth values and at most 1,024: facts by layer.
    pub numbers: Option<Vec<i64>>,
    /// The type number of its elements.
    pub(super) kind: u32,
    /// Where in the file its elements start.
    pub(super) offset: u64,
}

impl Header {
    /// Reads and checks the header of the file at `path`.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let (file, length) = super::read::open(path)?;
        Self::read_from(BufReader::with_capacity(1 << 16, file), path, length)
    }

    /// Reads and checks a header from `source`, the first of `length` bytes of what is called `path` in errors.
    pub fn read_from(source: impl Read, path: &Path, length: u64) -> Result<Self, GgufError> {
        parse::header(Reader::new(source, path.to_owned(), length, METADATA_BYTES_MAX))
    }

    /// A text of the metadata.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key) {
            Some(Value::Unsigned(number)) => Some(*number),
            Some(Value::Signed(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The array of the metadata, if it is one.
    #[must_use]
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.metadata.get(key) {
            Some(Value::Array(array)) => Some(array),
            _ => None,
        }
    }

    /// A whole number of the architecture: `<architecture>.<key>`.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<u64> {
        self.number(&format!("{}.{key}", self.architecture()?))
    }

    /// A fact that the header may state once for all layers or layer by layer; `layers` values, where each is a whole
    /// number. An array that is too short ends in its last value, as one that is longer is cut off.
    #[must_use]
    pub fn facts_by_layer(&self, key: &str, layers: usize) -> Option<Vec<u64>> {
        if let Some(fact) = self.fact(key) {
            return Some(vec![fact; layers]);
        }
        let numbers = self.array(&format!("{}.{key}", self.architecture()?))?.numbers.as_ref()?;
        let last = *numbers.last()?;
        let all = numbers.iter().copied().chain(std::iter::repeat(last)).take(layers);
        all.map(|number| u64::try_from(number).ok()).collect()
    }

    /// `general.architecture`, such as `llama`.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }

    /// Tokens that the model was trained for: `<architecture>.context_length`.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        self.fact("context_length")
    }

    /// Bytes of the KV cache for one sequence of `context_length` tokens in 16-bit floats: for every layer and token a
    /// key and a value of `head_count_kv` heads. `None` where the header does not say, or says it layer by layer.
    #[must_use]
    pub fn kv_cache_bytes(&self, context_length: u32) -> Option<u64> {
        let architecture = self.architecture()?;
        let heads = self.fact("attention.head_count")?;
        let heads_kv = match self.metadata.get(&format!("{architecture}.attention.head_count_kv")) {
            None => heads,
            Some(_) => self.fact("attention.head_count_kv")?,
        };
        let head_width = self.fact("embedding_length")?.checked_div(heads)?;
        let key = self.fact("attention.key_length").unwrap_or(head_width);
        let value = self.fact("attention.value_length").unwrap_or(head_width);
        let values_per_token = self.fact("block_count")?.checked_mul(heads_kv)?.checked_mul(key.checked_add(value)?)?;
        values_per_token.checked_mul(2)?.checked_mul(u64::from(context_length))
    }

    /// The model's own Jinja chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template")
    }
}

#[cfg(test)]
mod tests;
