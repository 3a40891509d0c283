//! What keys and values are kept as.

use std::fmt;
use std::str::FromStr;

use llama_cpp_sys_2 as sys;

/// What llama.cpp keeps of every token, per number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 16-bit floats.
    #[default]
    F16,
    /// Blocks of 32 numbers of 8 bits: half the memory and a little less than its worth of accuracy. llama.cpp's tiled
    /// attention does not know them, so the processor reads long prompts more slowly.
    Q8_0,
    /// Blocks of 32 numbers of 4 bits: a quarter of the memory, and answers that are visibly worse with many models.
    Q4_0,
}

impl KvType {
    const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// llama.cpp's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    pub(crate) fn as_raw(self) -> sys::ggml_type {
        match self {
            Self::F16 => sys::GGML_TYPE_F16,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q4_0 => sys::GGML_TYPE_Q4_0,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KvType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is no type of keys and values; {names} are")
        })
    }
}
