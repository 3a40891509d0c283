//! Masks words that the operator does not want to read.

use outrigger_plugin::prelude::*;
use serde::Deserialize;

/// The `config` table of the plugin. `default`: it works without one. `deny_unknown_fields`: a key that is spelled wrong
/// is an error when the plugin is loaded, not a surprise later.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The words, in any case.
    words: Vec<String>,
    /// What stands in their place.
    replacement: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { words: vec!["damn".to_owned()], replacement: "[…]".to_owned() }
    }
}

/// Made anew for each request.
pub struct WordFilter {
    replacement: String,
    window: MatchWindow,
}

impl Plugin for WordFilter {
    fn new(cx: &Context) -> Result<Self> {
        let Config { words, replacement } = cx.config()?;
        if words.iter().any(String::is_empty) {
            return Err("a word is empty".into());
        }
        Ok(Self { replacement, window: MatchWindow::new(words).ignoring_case().whole_words() })
    }
}

impl Postprocess for WordFilter {
    /// How many words were masked in this answer.
    type Filter = usize;

    fn push(&mut self, masked: &mut usize, chunk: &Chunk) -> Result<Output> {
        Ok(self.window.replace(chunk, |_word, _which| {
            *masked += 1;
            self.replacement.clone()
        }))
    }

    fn finish(&mut self, masked: &mut usize, _end: Finish, _usage: Usage) -> Result<Annotations> {
        Ok(vec![("word-filter".to_owned(), masked.to_string())])
    }
}

outrigger_plugin::export!(WordFilter: Postprocess);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing;

    use super::*;

    #[test]
    fn words_are_masked_wherever_the_tokens_fall() {
        let filter = || testing::plugin::<WordFilter>(r#"{"words": ["fudge"]}"#);
        let sent = testing::every_chunking(filter, "Oh FUDGE! I fudged the fudge.");
        assert_eq!(sent.text, "Oh […]! I fudged the […].");
        assert_eq!(sent.notes, [("word-filter".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn a_wrong_key_is_refused() {
        assert!(testing::plugin::<WordFilter>(r#"{"word": "x"}"#).is_err());
    }
}
