//! Bytes that a tensor takes.

/// `(type number, values in a block, bytes of a block)`: `ggml_type` of ggml.h and the block structs of
/// ggml-common.h, as llama.cpp b11434 has them.
const TYPES: &[(u32, u64, u64)] = &[
    (0, 1, 4),      // F32
    (1, 1, 2),      // F16
    (2, 32, 18),    // Q4_0
    (3, 32, 20),    // Q4_1
    (6, 32, 22),    // Q5_0
    (7, 32, 24),    // Q5_1
    (8, 32, 34),    // Q8_0
    (9, 32, 36),    // Q8_1
    (10, 256, 84),  // Q2_K
    (11, 256, 110), // Q3_K
    (12, 256, 144), // Q4_K
    (13, 256, 176), // Q5_K
    (14, 256, 210), // Q6_K
    (15, 256, 292), // Q8_K
    (16, 256, 66),  // IQ2_XXS
    (17, 256, 74),  // IQ2_XS
    (18, 256, 98),  // IQ3_XXS
    (19, 256, 50),  // IQ1_S
    (20, 32, 18),   // IQ4_NL
    (21, 256, 110), // IQ3_S
    (22, 256, 82),  // IQ2_S
    (23, 256, 136), // IQ4_XS
    (24, 1, 1),     // I8
    (25, 1, 2),     // I16
    (26, 1, 4),     // I32
    (27, 1, 8),     // I64
    (28, 1, 8),     // F64
    (29, 256, 56),  // IQ1_M
    (30, 1, 2),     // BF16
    (34, 256, 54),  // TQ1_0
    (35, 256, 66),  // TQ2_0
    (39, 32, 17),   // MXFP4
    (40, 64, 36),   // NVFP4
    (41, 128, 18),  // Q1_0
    (42, 64, 18),   // Q2_0
];

/// Bytes of a tensor of this type and shape; `Err` says what is wrong with them.
pub(super) fn size_bytes(kind: u32, dimensions: &[u64]) -> Result<u64, String> {
    let &(_, block_values, block_bytes) = TYPES
        .iter()
        .find(|(number, ..)| *number == kind)
        .ok_or_else(|| format!("has type number {kind}, which this build of llama.cpp does not know"))?;
    let first = dimensions.first().copied().unwrap_or(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_ggml() {
        assert_eq!(size_bytes(0, &[64, 356]), Ok(64 * 356 * 4));
        assert_eq!(size_bytes(3, &[576, 49152]), Ok(576 * 49152 / 32 * 20));
        assert_eq!(size_bytes(12, &[256]), Ok(144));
    }

    #[test]
    fn impossible_tensors_are_named() {
        assert!(size_bytes(4, &[32]).unwrap_err().contains("type number 4"));
        assert!(size_bytes(12, &[100]).unwrap_err().contains("do not divide"));
        assert!(size_bytes(0, &[u64::MAX, 2]).unwrap_err().contains("impossible shape"));
        assert!(size_bytes(0, &[0, 2]).unwrap_err().contains("impossible shape"));
    }
}
