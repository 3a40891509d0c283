//! From bytes to a header. Every count and length is checked before anything is done with it.

use std::collections::BTreeMap;
use std::io::Read;

use super::header::{Array, Header, Value};
use super::limits::{
    ALIGNMENT_MAX, ARRAY_LENGTH_MAX, DIMENSIONS_MAX, METADATA_COUNT_MAX, NAME_BYTES_MAX, NUMBERS_KEPT_MAX,
    NUMBERS_KEPT_TOTAL_MAX, STRING_BYTES_MAX, TENSOR_COUNT_MAX, TENSOR_NAME_BYTES_MAX, TEXT_KEPT_BYTES_MAX,
};
use super::read::{GgufError, Reader, shown};
use super::tensor::{Tensor, TensorType};

pub(super) fn header<R: Read>(mut reader: Reader<R>) -> Result<Header, GgufError> {
    let version = check_magic(&mut reader)?;
    let tensor_count = reader.count("the number of tensors", TENSOR_COUNT_MAX)?;
    let metadata_count = reader.count("the number of metadata keys", METADATA_COUNT_MAX)?;

    let mut metadata = BTreeMap::new();
    let mut left = Left { numbers: NUMBERS_KEPT_TOTAL_MAX, text_bytes: TEXT_KEPT_BYTES_MAX };
    for _ in 0..metadata_count {
        let key = left.text(&mut reader, "a metadata key", NAME_BYTES_MAX)?;
        let kind = reader.u32("a metadata type")?;
        let value = read_value(&mut reader, &key, kind, &mut left)?;
        if metadata.contains_key(&key) {
            return Err(GgufError::Invalid(format!("the metadata key `{}` stands twice", shown(&key))));
        }
        metadata.insert(key, value);
    }

    let mut tensors = Vec::new();
    let mut offsets = Vec::new();
    for _ in 0..tensor_count {
        let (tensor, offset) = read_tensor(&mut reader)?;
        tensors.push(tensor);
        offsets.push(offset);
    }

    let file_bytes = reader.length();
    let alignment = alignment(&metadata)?;
    let data_start = reader.position().next_multiple_of(alignment);
    let mut tensor_bytes = 0_u64;
    for (Tensor { name, bytes, .. }, offset) in tensors.iter().zip(offsets) {
        if offset % alignment != 0 {
            return Err(GgufError::Invalid(format!(
                "tensor `{}` starts at {offset}, off the boundary of {alignment} bytes",
                shown(name)
            )));
        }
        let needed = data_start.saturating_add(offset).saturating_add(*bytes);
        if needed > file_bytes {
            let what = format!("tensor `{}`", shown(name));
            return Err(GgufError::Truncated { what, needed, found: file_bytes });
        }
        tensor_bytes = tensor_bytes.saturating_add(*bytes);
    }
    if tensor_bytes > file_bytes {
        return Err(GgufError::Invalid(format!(
            "the tensors have {tensor_bytes} bytes in a file of {file_bytes}: they lie on top of each other"
        )));
    }
    Ok(Header { version, metadata, tensors, tensor_count, tensor_bytes, file_bytes })
}

/// What may still be kept of the metadata.
struct Left {
    /// Elements of arrays.
    numbers: u64,
    /// Bytes of keys and texts.
    text_bytes: u64,
}

impl Left {
    fn text<R: Read>(&mut self, reader: &mut Reader<R>, what: &str, limit: u64) -> Result<String, GgufError> {
        let text = reader.string(what, limit.min(self.text_bytes))?;
        self.text_bytes -= text.len() as u64;
        Ok(text)
    }
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

pub(super) const TYPE_STRING: u32 = 8;
pub(super) const TYPE_ARRAY: u32 = 9;

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

fn read_value<R: Read>(reader: &mut Reader<R>, key: &str, kind: u32, left: &mut Left) -> Result<Value, GgufError> {
    let what = format!("the value of `{}`", shown(key));
    Ok(match kind {
        TYPE_STRING => Value::Text(left.text(reader, &what, STRING_BYTES_MAX)?),
        TYPE_ARRAY => Value::Array(read_array(reader, &what, &mut left.numbers)?),
        6 => Value::Float(f32::from_bits(reader.u32(&what)?).into()),
        12 => Value::Float(f64::from_bits(reader.u64(&what)?)),
        7 => Value::Bool(reader.u8(&what)? != 0),
        10 => Value::Unsigned(reader.u64(&what)?),
        _ => {
            let number = read_number(reader, &what, kind)?;
            match kind {
                0 | 2 | 4 => Value::Unsigned(number.unsigned_abs()),
                _ => Value::Signed(number),
            }
        }
    })
}

/// A whole number or truth value; those beyond 63 bits become the largest there is.
pub(super) fn read_number<R: Read>(reader: &mut Reader<R>, what: &str, kind: u32) -> Result<i64, GgufError> {
    Ok(match kind {
        0 | 7 => reader.u8(what)?.into(),
        1 => reader.u8(what)?.cast_signed().into(),
        2 => reader.u16(what)?.into(),
        3 => reader.u16(what)?.cast_signed().into(),
        4 => reader.u32(what)?.into(),
        5 => reader.u32(what)?.cast_signed().into(),
        10 => i64::try_from(reader.u64(what)?).unwrap_or(i64::MAX),
        11 => reader.u64(what)?.cast_signed(),
        _ => return Err(GgufError::Invalid(format!("{what} has the unknown type number {kind}"))),
    })
}

fn read_array<R: Read>(reader: &mut Reader<R>, what: &str, numbers_left: &mut u64) -> Result<Array, GgufError> {
    let kind = reader.u32(what)?;
    let length = reader.count(&format!("the length of {what}"), ARRAY_LENGTH_MAX)?;
    let offset = reader.position();
    let mut numbers = None;
    if let Some(size) = fixed_size(kind) {
        let are_whole = !matches!(kind, 6 | 12);
        if are_whole && length <= NUMBERS_KEPT_MAX.min(*numbers_left) {
            *numbers_left -= length;
            numbers = Some((0..length).map(|_| read_number(reader, what, kind)).collect::<Result<_, _>>()?);
        } else {
            reader.skip(what, length * size)?;
        }
    } else if kind == TYPE_STRING {
        for _ in 0..length {
            let bytes = reader.count(what, STRING_BYTES_MAX)?;
            reader.skip(what, bytes)?;
        }
    } else {
        // llama.cpp reads no arrays of arrays either, and nesting is how a small file asks for deep recursion.
        return Err(GgufError::Invalid(format!("{what} is an array of type number {kind}")));
    }
    Ok(Array { length, numbers, kind, offset })
}

fn read_tensor<R: Read>(reader: &mut Reader<R>) -> Result<(Tensor, u64), GgufError> {
    let name = reader.string("a tensor's name", TENSOR_NAME_BYTES_MAX)?;
    let dimension_count = reader.u32("a tensor's number of dimensions")?;
    if dimension_count > DIMENSIONS_MAX {
        return Err(GgufError::Limit {
            what: format!("the number of dimensions of tensor `{}`", shown(&name)),
            found: dimension_count.into(),
            limit: DIMENSIONS_MAX.into(),
        });
    }
    let mut dimensions = [1; DIMENSIONS_MAX as usize];
    for dimension in dimensions.iter_mut().take(dimension_count as usize) {
        *dimension = reader.u64("a tensor's dimension")?;
    }
    let number = reader.u32("a tensor's type")?;
    let offset = reader.u64("a tensor's offset")?;
    let wrong = |what: String| GgufError::Invalid(format!("tensor `{}` {what}", shown(&name)));
    let kind = TensorType::of(number)
        .ok_or_else(|| wrong(format!("has type number {number}, which this build of llama.cpp does not know")))?;
    let bytes = kind.size_bytes(dimensions).map_err(wrong)?;
    Ok((Tensor { name, kind, dimensions, bytes }, offset))
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
