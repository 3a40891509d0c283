//! A secret that a configuration file says, or says where to find.

use std::fmt;
use std::path::PathBuf;

use anyhow::bail;
use serde::Deserialize;

/// What stands in the file: perhaps the secret itself, so it is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretText(String);

/// Where the secret is (R3).
#[derive(PartialEq, Eq)]
pub(crate) enum Secret {
    /// It stands in the file itself.
    Literal(String),
    /// `${env:NAME}`.
    Environment(String),
    /// `${file:PATH}`: read again whenever it is used, so that a rotated secret is the one that counts.
    File(PathBuf),
}

impl SecretText {
    /// What the text of `key` means.
    pub(crate) fn parse(&self, key: &str) -> anyhow::Result<Secret> {
        let text = self.0.trim();
        let Some(inner) = text.strip_prefix("${") else { return Ok(Secret::Literal(text.to_owned())) };
        match inner.strip_suffix('}').and_then(|inner| inner.split_once(':')) {
            Some(("env", name)) if !name.is_empty() => Ok(Secret::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Secret::File(PathBuf::from(path))),
            _ => bail!("`{key}` begins with ${{ and is neither ${{env:NAME}} nor ${{file:/path}}"),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

#[cfg(test)]
impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R3
    #[test]
    fn a_secret_stands_there_or_elsewhere() {
        let parse = |text: &str| SecretText::from(text).parse("hf_token").map_err(|error| error.to_string());
        assert!(parse("hf_abc") == Ok(Secret::Literal("hf_abc".to_owned())));
        assert!(parse("${env:HF}") == Ok(Secret::Environment("HF".to_owned())));
        assert!(parse("${file:/run/secrets/hf}") == Ok(Secret::File("/run/secrets/hf".into())));
        for text in ["${vault:x}", "${env:}", "${file:", "${}"] {
            let error = parse(text).err().expect("no form of a secret");
            assert_eq!(error, "`hf_token` begins with ${ and is neither ${env:NAME} nor ${file:/path}");
        }
    }
}
