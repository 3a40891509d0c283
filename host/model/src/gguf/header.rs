//! What a GGUF says of itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::limits::{
    ALIGNMENT_MAX, ARRAY_LENGTH_MAX, DIMENSIONS_MAX, METADATA_BYTES_MAX, METADATA_COUNT_MAX, NAME_BYTES_MAX,
    STRING_BYTES_MAX, TENSOR_COUNT_MAX,
};
use super::read::{GgufError, Reader};
use super::tensor;

/// The facts in a GGUF header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Metadata by key. Of arrays only the length is kept.
    pub metadata: BTreeMap<String, Value>,
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
    /// An array of this many elements.
    Array(u64),
}

impl Header {
    /// Reads and checks the header of the file at `path`.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let facts = file.metadata().map_err(io)?;
        if facts.is_dir() {
            return Err(io(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let position_max = METADATA_BYTES_MAX;
        Self::parse(Reader::new(BufReader::with_capacity(1 << 16, file), path.to_owned(), facts.len(), position_max))
    }

    fn parse<R: Read>(mut reader: Reader<R>) -> Result<Self, GgufError> {
        let version = check_magic(&mut reader)?;
        let tensor_count = reader.count("the number of tensors", TENSOR_COUNT_MAX)?;
        let metadata_count = reader.count("the number of metadata keys", METADATA_COUNT_MAX)?;

        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.string("a metadata key", NAME_BYTES_MAX)?;
            let kind = reader.u32("a metadata type")?;
            let value = read_value(&mut reader, &key, kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(GgufError::Invalid(format!("the metadata key `{key}` stands twice")));
            }
        }

        let mut extents = Vec::new();
        for _ in 0..tensor_count {
            extents.push(read_tensor(&mut reader)?);
        }

        let file_bytes = reader.length();
        let alignment = alignment(&metadata)?;
        let data_start = reader.position().next_multiple_of(alignment);
        let mut tensor_bytes = 0_u64;
        for Extent { name, offset, bytes } in extents {
            if offset % alignment != 0 {
                return Err(GgufError::Invalid(format!(
                    "tensor `{name}` starts at {offset}, off the boundary of {alignment} bytes"
                )));
            }
            let needed = data_start.saturating_add(offset).saturating_add(bytes);
            if needed > file_bytes {
                let what = format!("tensor `{name}`");
                return Err(GgufError::Truncated { what, needed, found: file_bytes });
            }
            tensor_bytes = tensor_bytes.saturating_add(bytes);
        }
        Ok(Self { version, metadata, tensor_count, tensor_bytes, file_bytes })
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

    /// `general.architecture`, such as `llama`.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }

    /// Tokens that the model was trained for: `<architecture>.context_length`.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        self.number(&format!("{}.context_length", self.architecture()?))
    }

    /// Bytes of the KV cache for one sequence of `context_length` tokens in 16-bit floats: for every layer and token a
    /// key and a value of `head_count_kv` heads. `None` where the header does not say, or says it layer by layer.
    #[must_use]
    pub fn kv_cache_bytes(&self, context_length: u32) -> Option<u64> {
        let architecture = self.architecture()?;
        let fact = |key: &str| self.number(&format!("{architecture}.{key}"));
        let heads = fact("attention.head_count")?;
        let heads_kv = match self.metadata.get(&format!("{architecture}.attention.head_count_kv")) {
            None => heads,
            Some(_) => fact("attention.head_count_kv")?,
        };
        let head_width = fact("embedding_length")?.checked_div(heads)?;
        let key = fact("attention.key_length").unwrap_or(head_width);
        let value = fact("attention.value_length").unwrap_or(head_width);
        let values_per_token = fact("block_count")?.checked_mul(heads_kv)?.checked_mul(key.checked_add(value)?)?;
        values_per_token.checked_mul(2)?.checked_mul(u64::from(context_length))
    }

    /// The model's own Jinja chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template")
    }
}

struct Extent {
    name: String,
    offset: u64,
    bytes: u64,
}

fn check_magic<R: Read>(reader: &mut Reader<R>) -> Result<u32, GgufError> {
    if reader.length() < 4 {
        return Err(GgufError::NotGguf { found: format!("{} bytes in all", reader.length()) });
    }
    let magic = reader.magic()?;
    if &magic != b"GGUF" {
        let printable = magic.iter().all(|byte| (b' '..=b'~').contains(byte));
        let found = if printable {
            format!("{:?}", String::from_utf8_lossy(&magic))
        } else {
            format!("the bytes {magic:02x?}")
        };
        return Err(GgufError::NotGguf { found });
    }
    match reader.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        found => Err(GgufError::Version { found }),
    }
}

const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// Bytes of a value of fixed size, by GGUF type number.
fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn read_value<R: Read>(reader: &mut Reader<R>, key: &str, kind: u32) -> Result<Value, GgufError> {
    let what = format!("the value of `{key}`");
    Ok(match kind {
        0 => Value::Unsigned(reader.u8(&what)?.into()),
        1 => Value::Signed(reader.u8(&what)?.cast_signed().into()),
        2 => Value::Unsigned(reader.u16(&what)?.into()),
        3 => Value::Signed(reader.u16(&what)?.cast_signed().into()),
        4 => Value::Unsigned(reader.u32(&what)?.into()),
        5 => Value::Signed(reader.u32(&what)?.cast_signed().into()),
        6 => Value::Float(f32::from_bits(reader.u32(&what)?).into()),
        7 => Value::Bool(reader.u8(&what)? != 0),
        TYPE_STRING => Value::Text(reader.string(&what, STRING_BYTES_MAX)?),
        TYPE_ARRAY => Value::Array(skip_array(reader, &what)?),
        10 => Value::Unsigned(reader.u64(&what)?),
        11 => Value::Signed(reader.u64(&what)?.cast_signed()),
        12 => Value::Float(f64::from_bits(reader.u64(&what)?)),
        _ => return Err(GgufError::Invalid(format!("{what} has the unknown type number {kind}"))),
    })
}

fn skip_array<R: Read>(reader: &mut Reader<R>, what: &str) -> Result<u64, GgufError> {
    let kind = reader.u32(what)?;
    let length = reader.count(&format!("the length of {what}"), ARRAY_LENGTH_MAX)?;
    if let Some(size) = fixed_size(kind) {
        reader.skip(what, length * size)?;
    } else if kind == TYPE_STRING {
        for _ in 0..length {
            let bytes = reader.count(what, STRING_BYTES_MAX)?;
            reader.skip(what, bytes)?;
        }
    } else {
        // llama.cpp reads no arrays of arrays either, and nesting is how a small file asks for deep recursion.
        return Err(GgufError::Invalid(format!("{what} is an array of type number {kind}")));
    }
    Ok(length)
}

fn read_tensor<R: Read>(reader: &mut Reader<R>) -> Result<Extent, GgufError> {
    let name = reader.string("a tensor's name", NAME_BYTES_MAX)?;
    let dimension_count = reader.u32("a tensor's number of dimensions")?;
    if dimension_count > DIMENSIONS_MAX {
        return Err(GgufError::Limit {
            what: format!("the number of dimensions of tensor `{name}`"),
            found: dimension_count.into(),
            limit: DIMENSIONS_MAX.into(),
        });
    }
    let mut dimensions = Vec::new();
    for _ in 0..dimension_count {
        dimensions.push(reader.u64("a tensor's dimension")?);
    }
    let kind = reader.u32("a tensor's type")?;
    let offset = reader.u64("a tensor's offset")?;
    let bytes = tensor::size_bytes(kind, &dimensions)
        .map_err(|wrong| GgufError::Invalid(format!("tensor `{name}` {wrong}")))?;
    Ok(Extent { name, offset, bytes })
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let alignment = match metadata.get("general.alignment") {
        None => return Ok(32),
        Some(Value::Unsigned(alignment)) => *alignment,
        Some(_) => 0,
    };
    if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX {
        Ok(alignment)
    } else {
        Err(GgufError::Invalid(format!("the alignment is not a power of two up to {ALIGNMENT_MAX}: {alignment}")))
    }
}

#[cfg(test)]
mod tests;
