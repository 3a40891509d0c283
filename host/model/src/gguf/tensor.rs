//! Tensors: their types, and the bytes that they take.

use std::fmt;

/// What a GGUF says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// What its values are stored as.
    pub kind: TensorType,
    /// Its sizes, innermost first; 1 where it has no such dimension.
    pub dimensions: [u64; 4],
    /// Bytes in the file, without padding.
    pub bytes: u64,
}

impl Tensor {
    /// How many values it has.
    #[must_use]
    pub fn values(&self) -> u64 {
        // Checked when the header was read.
        self.dimensions.iter().fold(1, |product, &dimension| product.saturating_mul(dimension))
    }

    /// The layer that it belongs to: the number in `blk.N.…`.
    #[must_use]
    pub fn block(&self) -> Option<u32> {
        self.name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
    }
}

/// What values are stored as: a plain number, or one of ggml's quantised blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TensorType(Row);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    number: u32,
    name: &'static str,
    block_values: u64,
    block_bytes: u64,
}

const fn row(number: u32, name: &'static str, block_values: u64, block_bytes: u64) -> TensorType {
    TensorType(Row { number, name, block_values, block_bytes })
}

/// Number, name, values in a block, bytes of a block: `ggml_type` of ggml.h and the block structs of ggml-common.h, as
/// llama.cpp b11434 has them.
const TYPES: &[TensorType] = &[
    TensorType::F32,
    TensorType::F16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    TensorType::IQ4_NL,
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    TensorType::BF16,
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
    row(40, "NVFP4", 64, 36),
    row(41, "Q1_0", 128, 18),
    row(42, "Q2_0", 64, 18),
];

/// Those that a KV cache can be stored as.
impl TensorType {
    /// 32-bit floats.
    pub const F32: Self = row(0, "F32", 1, 4);
    /// 16-bit floats.
    pub const F16: Self = row(1, "F16", 1, 2);
    /// 16-bit floats with the exponent of 32-bit ones.
    pub const BF16: Self = row(30, "BF16", 1, 2);
    /// 8 bits and a scale for 32 values.
    pub const Q8_0: Self = row(8, "Q8_0", 32, 34);
    /// 5 bits and a scale for 32 values.
    pub const Q5_0: Self = row(6, "Q5_0", 32, 22);
    /// 5 bits, a scale and an offset for 32 values.
    pub const Q5_1: Self = row(7, "Q5_1", 32, 24);
    /// 4 bits and a scale for 32 values.
    pub const Q4_0: Self = row(2, "Q4_0", 32, 18);
    /// 4 bits, a scale and an offset for 32 values.
    pub const Q4_1: Self = row(3, "Q4_1", 32, 20);
    /// 4 bits on a curve and a scale for 32 values.
    pub const IQ4_NL: Self = row(20, "IQ4_NL", 32, 18);

    /// ggml's name for it, such as `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Bytes of a row of `values`, rounded up to whole blocks.
    #[must_use]
    pub fn row_bytes(self, values: u64) -> u64 {
        values.div_ceil(self.0.block_values).saturating_mul(self.0.block_bytes)
    }

    /// The type with ggml's number for it.
    pub(crate) fn of(number: u32) -> Option<Self> {
        TYPES.iter().find(|kind| kind.0.number == number).copied()
    }

    /// Bytes of a tensor of this shape; `Err` says what is wrong with it.
    pub(super) fn size_bytes(self, dimensions: [u64; 4]) -> Result<u64, String> {
        let Row { block_values, block_bytes, .. } = self.0;
        let [first, ..] = dimensions;
        if first % block_values != 0 {
            return Err(format!("has rows of {first} values, which blocks of {block_values} do not divide"));
        }
        dimensions
            .iter()
            .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
            .and_then(|values| (values / block_values).checked_mul(block_bytes))
            .filter(|_| !dimensions.contains(&0))
            .ok_or_else(|| format!("has the impossible shape {dimensions:?}"))
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_bytes(number: u32, dimensions: [u64; 4]) -> Result<u64, String> {
        TensorType::of(number).expect("a type").size_bytes(dimensions)
    }

    #[test]
    fn sizes_are_those_of_ggml() {
        assert_eq!(size_bytes(0, [64, 356, 1, 1]), Ok(64 * 356 * 4));
        assert_eq!(size_bytes(3, [576, 49152, 1, 1]), Ok(576 * 49152 / 32 * 20));
        assert_eq!(size_bytes(12, [256, 1, 1, 1]), Ok(144));
        assert_eq!(TensorType::Q8_0.row_bytes(33), 68);
    }

    #[test]
    fn impossible_tensors_are_named() {
        assert_eq!(TensorType::of(4), None);
        assert!(size_bytes(12, [100, 1, 1, 1]).unwrap_err().contains("do not divide"));
        assert!(size_bytes(0, [u64::MAX, 2, 1, 1]).unwrap_err().contains("impossible shape"));
        assert!(size_bytes(0, [1 << 32, 1 << 32, 0, 1]).unwrap_err().contains("impossible shape"));
        assert!(size_bytes(0, [0, 2, 1, 1]).unwrap_err().contains("impossible shape"));
    }

    #[test]
    fn a_number_names_one_type() {
        let mut numbers: Vec<u32> = TYPES.iter().map(|kind| kind.0.number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), TYPES.len());
    }

    #[test]
    fn a_block_is_named_by_its_number() {
        let block = |name: &str| {
            let dimensions = [1; 4];
            Tensor { name: name.to_owned(), kind: TensorType::F32, dimensions, bytes: 4 }.block()
        };
        assert_eq!(block("blk.12.attn_q.weight"), Some(12));
        assert_eq!(block("blk.x.attn_q.weight"), None);
        assert_eq!(block("output.weight"), None);
    }
}
