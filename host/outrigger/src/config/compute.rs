//! Keys about what computes that are not plain numbers.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Tokens that one request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextLength {
    /// As many as memory holds.
    Auto,
    /// So many.
    Tokens(u32),
}

impl FromStr for ContextLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text
                .parse()
                .map(Self::Tokens)
                .map_err(|_| format!("`{text}` is no context length; a number of tokens and auto are")),
        }
    }
}

impl<'de> Deserialize<'de> for ContextLength {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Given;

        impl Visitor<'_> for Given {
            type Value = ContextLength;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens or \"auto\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ContextLength, E> {
                let tokens = u32::try_from(number);
                tokens.map(ContextLength::Tokens).map_err(|_| E::custom(format!("{number} is no number of tokens")))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ContextLength, E> {
                let tokens = u32::try_from(number);
                tokens.map(ContextLength::Tokens).map_err(|_| E::custom(format!("{number} is no number of tokens")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ContextLength, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Given)
    }
}

/// The name of something, as its flag takes it.
pub(super) fn deserialize_name<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        context_length: ContextLength,
    }

    #[test]
    fn a_context_length_is_a_number_or_auto() {
        let check = |written: &str, expected: Result<ContextLength, &str>| {
            let found = toml::from_str::<File>(&format!("context_length = {written}")).map(|file| file.context_length);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{written}"),
                (Err(error), Err(expected)) => assert!(error.message().contains(expected), "{written}: {error}"),
                (found, _) => panic!("{written}: {found:?}"),
            }
        };
        check("4096", Ok(ContextLength::Tokens(4096)));
        check("\"auto\"", Ok(ContextLength::Auto));
        check("\"4096\"", Ok(ContextLength::Tokens(4096)));
        check("-1", Err("-1 is no number of tokens"));
        check("99999999999", Err("99999999999 is no number of tokens"));
        check("\"much\"", Err("`much` is no context length; a number of tokens and auto are"));
        check("true", Err("expected a number of tokens or \"auto\""));
    }
}
