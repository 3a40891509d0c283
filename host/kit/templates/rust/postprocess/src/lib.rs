//! Masks words that the operator does not want to read.

use outrigger_plugin::prelude::*;
use serde::Deserialize;

/// The `config` table of the plugin. `default`: it works without one. `deny_unknown_fields`: a key that is spelled wrong is an error
/// when the plugin is loaded, not a surprise later.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The words, in any case.
    words: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { words: vec!["fudge".to_owned()] }
    }
}

/// Made anew for each request.
pub struct This {
    window: MatchWindow,
}

impl Plugin for This {
    fn new(cx: &Context) -> Result<Self> {
        let config: Config = cx.config()?;
        Ok(Self { window: MatchWindow::new(config.words).ignoring_case().whole_words() })
    }
}

impl Postprocess for This {
    /// What is remembered of one answer: how many words were masked.
    type Filter = usize;

    /// `chunk` is all text that is not sent yet. `replace` holds back only what may still become one of the words.
    fn push(&mut self, masked: &mut usize, chunk: &Chunk) -> Result<Output> {
        Ok(self.window.replace(chunk, |_word, _which| {
            *masked += 1;
            "[…]".to_owned()
        }))
    }

    /// Notes stand in the host's log, and in the reply.
    fn finish(&mut self, masked: &mut usize, _end: Finish, _usage: Usage) -> Result<Annotations> {
        Ok(vec![("template-name".to_owned(), masked.to_string())])
    }
}

outrigger_plugin::export!(This: Postprocess);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing;

    use super::*;

    #[test]
    fn words_are_masked_wherever_the_tokens_fall() {
        let filter = || testing::plugin::<This>(r#"{"words": ["heck"]}"#);
        let sent = testing::every_chunking(filter, "Oh HECK! I checked.");
        assert_eq!(sent.text, "Oh […]! I checked.");
    }
}
