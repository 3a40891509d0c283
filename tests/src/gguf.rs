//! Writes GGUF files, version 3: as much of the format as fixtures need.

/// Data of tensors starts at multiples of this many bytes, `general.alignment`'s default.
const ALIGNMENT: usize = 32;

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Unsigned integer.
    U32(u32),
    /// Number.
    F32(f32),
    /// Truth.
    Bool(bool),
    /// Text.
    Text(String),
    /// Array of texts.
    Texts(Vec<String>),
    /// Array of integers.
    I32s(Vec<i32>),
    /// Array of numbers.
    F32s(Vec<f32>),
}

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenKind {
    /// Text.
    Normal = 1,
    /// What stands for anything unknown.
    Unknown = 2,
    /// Steers the model; no text.
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    /// One byte, spelled `<0x0A>`.
    Byte = 6,
}

/// A file being put together.
#[derive(Debug, Default)]
pub struct GgufWriter {
    values: Vec<u8>,
    value_count: u64,
    infos: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl GgufWriter {
    /// Adds a metadata value.
    pub fn value(&mut self, key: &str, value: Value) {
        let out = &mut self.values;
        text(out, key);
        match value {
            Value::U32(number) => {
                out.extend(4u32.to_le_bytes());
                out.extend(number.to_le_bytes());
            }
            Value::F32(number) => {
                out.extend(6u32.to_le_bytes());
                out.extend(number.to_le_bytes());
            }
            Value::Bool(truth) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(truth));
            }
            Value::Text(string) => {
                out.extend(8u32.to_le_bytes());
                text(out, &string);
            }
            Value::Texts(items) => array(out, 8, items, |out, item| text(out, &item)),
            Value::I32s(items) => array(out, 5, items, |out, item| out.extend(item.to_le_bytes())),
            Value::F32s(items) => array(out, 6, items, |out, item| out.extend(item.to_le_bytes())),
        }
        self.value_count += 1;
    }

    /// Adds a tensor of 32-bit numbers; the first of the shape varies fastest.
    ///
    /// # Panics
    ///
    /// When the values do not fill the shape.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name} has values for another shape");
        text(&mut self.infos, name);
        self.infos.extend(u32::try_from(shape.len()).unwrap_or(u32::MAX).to_le_bytes());
        for &length in shape {
            self.infos.extend((length as u64).to_le_bytes());
        }
        self.infos.extend(0u32.to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        pad(&mut self.data);
        self.tensor_count += 1;
    }

    /// The file's bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(self.values);
        file.extend(self.infos);
        pad(&mut file);
        file.extend(self.data);
        file
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn array<T>(out: &mut Vec<u8>, kind: u32, items: Vec<T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    for item in items {
        write(out, item);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}
