//! What follows a match and is dropped with it, however long it is: nothing of it needs to be held back.

use outrigger_plugin::{Found, MatchWindow};

use crate::limits::PEM_BYTES_MAX;

/// The rest of something that has been masked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// More characters of a key.
    Key(Alphabet),
    /// The payload and signature of a JSON Web Token.
    Jwt,
    /// A private key up to its last line, or so many bytes.
    PemBody(usize),
    /// That last line.
    PemEnd,
}

/// How much of the text belongs to a tail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) bytes: usize,
    /// What is left of the tail; `None`: it has ended.
    pub(crate) tail: Option<Tail>,
}

impl Tail {
    /// The tail of a private key's first line.
    pub(crate) const PEM: Self = Self::PemBody(PEM_BYTES_MAX);

    /// Takes what belongs to the tail from the beginning of `text`.
    pub(crate) fn drop_from(self, text: &str, last: bool) -> Dropped {
        match self {
            Self::Key(alphabet) => {
                let bytes = text.find(|character| !alphabet.has(character)).unwrap_or(text.len());
                Dropped { bytes, tail: (bytes == text.len()).then_some(self) }
            }
            Self::Jwt => self.drop_jwt(text, last),
            Self::PemBody(left) => drop_body(text, left, last),
            Self::PemEnd => drop_end(text, last),
        }
    }

    /// A dot belongs to the token only where the token goes on behind it; else it ends a sentence.
    fn drop_jwt(self, text: &str, last: bool) -> Dropped {
        let mut characters = text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let is_part = match (character, characters.peek()) {
                ('.', Some(&(_, next))) => Alphabet::Base64Url.has(next),
                ('.', None) if !last => return Dropped { bytes: at, tail: Some(self) },
                ('.', None) => false,
                _ => Alphabet::Base64Url.has(character),
            };
            if !is_part {
                return Dropped { bytes: at, tail: None };
            }
        }
        Dropped { bytes: text.len(), tail: Some(self) }
    }
}

fn drop_body(text: &str, left: usize, last: bool) -> Dropped {
    let known = &text[..text.floor_char_boundary(left)];
    let is_cut = known.len() < text.len();
    match MatchWindow::new(["-----END"]).find(known, last || is_cut) {
        Found::Match { place, .. } => Dropped { bytes: place.end, tail: Some(Tail::PemEnd) },
        Found::Nothing { free } => {
            Dropped { bytes: free, tail: if is_cut { None } else { Some(Tail::PemBody(left - free)) } }
        }
    }
}

/// The line ends with dashes; one that does not ends all the same.
fn drop_end(text: &str, last: bool) -> Dropped {
    let line = text.find('\n').map_or(text, |end| &text[..end]);
    if let Some(dashes) = line.find("-----") {
        Dropped { bytes: dashes + 5, tail: None }
    } else if line.len() < text.len() || last {
        Dropped { bytes: line.len(), tail: None }
    } else {
        // Fewer dashes may become five.
        Dropped { bytes: text.trim_end_matches('-').len(), tail: Some(Tail::PemEnd) }
    }
}

/// The characters that keys are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alphabet {
    Alphanumeric,
    CapitalsAndDigits,
    /// Letters, digits, `-` and `_`: JSON Web Tokens and most keys.
    Base64Url,
}

impl Alphabet {
    pub(crate) fn has(self, character: char) -> bool {
        match self {
            Self::Alphanumeric => character.is_ascii_alphanumeric(),
            Self::CapitalsAndDigits => character.is_ascii_uppercase() || character.is_ascii_digit(),
            Self::Base64Url => character.is_ascii_alphanumeric() || matches!(character, '-' | '_'),
        }
    }
}
