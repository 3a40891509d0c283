//! The tokens of a model, read on demand: a header keeps only where they are.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::header::{Array, Header};
use super::limits::{METADATA_BYTES_MAX, TOKEN_BYTES_MAX, TOKENS_MAX};
use super::parse::{TYPE_STRING, read_number};
use super::read::{GgufError, Reader, open};

/// The tokens of a model, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`: how they are spelled. `gpt2` spells bytes as letters (byte-level BPE), `llama` spells a
    /// blank as `▁` and bytes as `<0x0A>` (SentencePiece).
    pub model: String,
    /// How each is written in the file. What is not UTF-8 has replacement characters.
    pub texts: Vec<String>,
    /// What each is for; as many as texts, or none where the file does not say.
    pub kinds: Vec<TokenKind>,
    /// The merges of a byte-pair encoding, in their order.
    pub merges: Vec<String>,
}

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// What stands for anything unknown.
    Unknown,
    /// Steers the model; no text.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// Not in use.
    Unused,
    /// One byte.
    Byte,
    /// A number that llama.cpp does not know.
    Other,
}

impl Vocabulary {
    /// Reads the tokens of the file at `path`, whose header is `header`. `None` where it has none.
    pub fn read(path: &Path, header: &Header) -> Result<Option<Self>, GgufError> {
        let (file, length) = open(path)?;
        Self::read_from(file, path, length, header)
    }

    /// Reads the tokens from `source`, which is called `path` in errors and is `length` bytes long.
    pub fn read_from<S: Read + Seek>(
        mut source: S,
        path: &Path,
        length: u64,
        header: &Header,
    ) -> Result<Option<Self>, GgufError> {
        let (Some(model), Some(texts)) = (header.text("tokenizer.ggml.model"), header.array("tokenizer.ggml.tokens"))
        else {
            return Ok(None);
        };
        let mut strings = |array: &Array, what| -> Result<Vec<String>, GgufError> {
            let mut reader = start(&mut source, path, length, array, what)?;
            if array.kind != TYPE_STRING {
                return Err(GgufError::Invalid(format!("{what} are not texts")));
            }
            (0..array.length).map(|_| reader.text(what, TOKEN_BYTES_MAX)).collect()
        };
        let texts = strings(texts, "the tokens")?;
        let merges = match header.array("tokenizer.ggml.merges") {
            Some(merges) => strings(merges, "the merges")?,
            None => Vec::new(),
        };
        let mut kinds = Vec::new();
        if let Some(array) = header.array("tokenizer.ggml.token_type") {
            let what = "the types of tokens";
            let mut reader = start(&mut source, path, length, array, what)?;
            kinds = (0..array.length)
                .map(|_| read_number(&mut reader, what, array.kind).map(TokenKind::of))
                .collect::<Result<_, _>>()?;
            if kinds.len() != texts.len() {
                return Err(GgufError::Invalid(format!(
                    "there are {} tokens and {} types of them",
                    texts.len(),
                    kinds.len()
                )));
            }
        }
        Ok(Some(Self { model: model.to_owned(), texts, kinds, merges }))
    }
}

/// A reader of an array's elements.
fn start<'a, S: Read + Seek>(
    source: &'a mut S,
    path: &Path,
    length: u64,
    array: &Array,
    what: &str,
) -> Result<Reader<BufReader<&'a mut S>>, GgufError> {
    if array.length > TOKENS_MAX {
        let what = format!("the number of {}", what.trim_start_matches("the "));
        return Err(GgufError::Limit { what, found: array.length, limit: TOKENS_MAX });
    }
    let io = |source| GgufError::Io { path: path.to_owned(), source };
    source.seek(SeekFrom::Start(array.offset)).map_err(io)?;
    let inner = BufReader::with_capacity(1 << 16, source);
    Ok(Reader::at(inner, path.to_owned(), length, array.offset, METADATA_BYTES_MAX))
}

impl TokenKind {
    fn of(number: i64) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::gguf::written::Written;

    fn written() -> Written {
        Written::of("llama")
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &["a", "Ġb", "<e>"])
            .numbers("tokenizer.ggml.token_type", &[1, 4, 3])
            .texts("tokenizer.ggml.merges", &["Ġ b"])
    }

    fn read(written: &Written) -> Result<Option<Vocabulary>, String> {
        let (header, bytes) = (written.header(), written.bytes());
        let length = bytes.len() as u64;
        Vocabulary::read_from(Cursor::new(bytes), "test.gguf".as_ref(), length, &header)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tokens_are_read_when_they_are_asked_for() {
        let vocabulary = read(&written()).expect("sound tokens").expect("a vocabulary");
        assert_eq!(vocabulary.model, "gpt2");
        assert_eq!(vocabulary.texts, ["a", "Ġb", "<e>"]);
        assert_eq!(vocabulary.kinds, [TokenKind::Normal, TokenKind::UserDefined, TokenKind::Control]);
        assert_eq!(vocabulary.merges, ["Ġ b"]);
        assert_eq!(read(&Written::of("llama")), Ok(None));
    }

    #[test]
    fn tokens_that_are_none_are_refused() {
        let model = || Written::of("llama").text("tokenizer.ggml.model", "gpt2");
        let check = |written: &Written, expected: &str| {
            assert_eq!(read(written), Err(format!("{expected}; the file is damaged or hostile")));
        };
        check(&model().numbers("tokenizer.ggml.tokens", &[1]), "the tokens are not texts");
        let tokens = || model().texts("tokenizer.ggml.tokens", &["a"]);
        check(&tokens().numbers("tokenizer.ggml.merges", &[1]), "the merges are not texts");
        check(&tokens().numbers("tokenizer.ggml.token_type", &[1, 1]), "there are 1 tokens and 2 types of them");
        check(
            &tokens().texts("tokenizer.ggml.token_type", &["x"]),
            "the types of tokens has the unknown type number 8",
        );
    }

    #[test]
    fn a_file_that_changed_since_its_header_was_read_is_an_error() {
        let (header, bytes) = (written().header(), written().bytes());
        for length in 0..bytes.len() {
            let _ = Vocabulary::read_from(Cursor::new(&bytes[..length]), "t".as_ref(), length as u64, &header);
            // Shorter than it was when it was measured.
            let _ = Vocabulary::read_from(Cursor::new(&bytes[..length]), "t".as_ref(), bytes.len() as u64, &header);
        }
        assert!(Vocabulary::read_from(Cursor::new(&bytes[..60]), "t".as_ref(), 60, &header).is_err());
    }
}
