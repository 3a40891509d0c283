//! GGUF headers written by hand, field by field, for tests.

use super::parse::{TYPE_ARRAY, TYPE_STRING};

/// A header being written. Counts are filled in by [`Written::bytes`], unless they were said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data_bytes: u64,
}

impl Written {
    /// A header of this architecture.
    pub(crate) fn of(architecture: &str) -> Self {
        Self::default().text("general.architecture", architecture)
    }

    fn key(mut self, key: &str, kind: u32) -> Self {
        self.value_count += 1;
        string(&mut self.values, key);
        self.values.extend(kind.to_le_bytes());
        self
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        let mut this = self.key(key, TYPE_STRING);
        string(&mut this.values, value);
        this
    }

    pub(crate) fn number(self, key: &str, value: u32) -> Self {
        let mut this = self.key(key, 4);
        this.values.extend(value.to_le_bytes());
        this
    }

    fn array(self, key: &str, kind: u32, length: usize) -> Self {
        let mut this = self.key(key, TYPE_ARRAY);
        this.values.extend(kind.to_le_bytes());
        this.values.extend((length as u64).to_le_bytes());
        this
    }

    pub(crate) fn numbers(self, key: &str, values: &[i32]) -> Self {
        let mut this = self.array(key, 5, values.len());
        this.values.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        this
    }

    pub(crate) fn bools(self, key: &str, values: &[bool]) -> Self {
        let mut this = self.array(key, 7, values.len());
        this.values.extend(values.iter().map(|&value| u8::from(value)));
        this
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let mut this = self.array(key, TYPE_STRING, values.len());
        for value in values {
            string(&mut this.values, value);
        }
        this
    }

    /// A tensor behind those before it.
    pub(crate) fn tensor(mut self, name: &str, kind: u32, dimensions: &[u64]) -> Self {
        let mut padded = [1; 4];
        padded[..dimensions.len()].copy_from_slice(dimensions);
        let bytes = super::TensorType::of(kind).expect("a type").size_bytes(padded).expect("a shape");
        string(&mut self.tensors, name);
        self.tensors.extend(u32::try_from(dimensions.len()).expect("few").to_le_bytes());
        self.tensors.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(self.data_bytes.to_le_bytes());
        self.tensor_count += 1;
        self.data_bytes += bytes.next_multiple_of(32);
        self
    }

    /// The header alone.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.value_count.to_le_bytes());
        bytes.extend(&self.values);
        bytes.extend(&self.tensors);
        bytes
    }

    /// Bytes of the file that this is the header of.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.bytes().len() as u64).next_multiple_of(32) + self.data_bytes
    }

    /// What is read from it.
    pub(crate) fn header(&self) -> super::Header {
        let bytes = self.bytes();
        super::Header::read_from(bytes.as_slice(), "test.gguf".as_ref(), self.file_bytes()).expect("a good header")
    }

    /// Writes the file, of which the tensors are a hole.
    pub(crate) fn save(&self, path: &std::path::Path) {
        std::fs::write(path, self.bytes()).expect("a writable folder");
        let file = std::fs::File::options().write(true).open(path).expect("the file");
        file.set_len(self.file_bytes()).expect("a length");
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
