//! The tokens of a model, read on demand: a header keeps only where they are.

use std::fs::File;
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
        let (Some(model), Some(texts)) = (header.text("tokenizer.ggml.model"), header.array("tokenizer.ggml.tokens"))
        else {
            return Ok(None);
        };
        let (mut file, length) = open(path)?;
        let mut strings = |array: &Array, what| -> Result<Vec<String>, GgufError> {
            let mut reader = start(&mut file, path, length, array, what)?;
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
            let mut reader = start(&mut file, path, length, array, what)?;
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
fn start<'a>(
    file: &'a mut File,
    path: &Path,
    length: u64,
    array: &Array,
    what: &str,
) -> Result<Reader<BufReader<impl Read + use<'a>>>, GgufError> {
    if array.length > TOKENS_MAX {
        let what = format!("the number of {what}").replace("number of the", "number of");
        return Err(GgufError::Limit { what, found: array.length, limit: TOKENS_MAX });
    }
    let io = |source| GgufError::Io { path: path.to_owned(), source };
    file.seek(SeekFrom::Start(array.offset)).map_err(io)?;
    let inner = BufReader::with_capacity(1 << 16, file);
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
