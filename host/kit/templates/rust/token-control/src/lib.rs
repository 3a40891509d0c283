//! Begins every answer with a text of the operator's choice.

use outrigger_plugin::prelude::*;
use serde::Deserialize;

/// The `config` table of the plugin. `default`: it works without one. `deny_unknown_fields`: a key that is spelled wrong is an error
/// when the plugin is loaded, not a surprise later.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    text: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { text: "Well. ".to_owned() }
    }
}

/// Made anew for each request.
pub struct This {
    text: String,
}

impl Plugin for This {
    fn new(cx: &Context) -> Result<Self> {
        let config: Config = cx.config()?;
        Ok(Self { text: config.text })
    }
}

impl TokenControl for This {
    /// What is remembered of one answer: whether it has begun.
    type Controller = bool;

    fn open(&mut self, _call: &Call, _choice: u32, _prompt: Vec<u32>, _vocab_size: u32) -> Result<bool> {
        Ok(false)
    }

    /// What may follow the tokens that came since the last step. Others of its answers: `Allow` and `Deny` with tokens, `Fixed` with
    /// one of the masks that `masks` gave, `Bias`, `Stop`.
    fn step(&mut self, has_begun: &mut bool, _appended: &[u32]) -> Result<Constraint> {
        if std::mem::replace(has_begun, true) {
            return Ok(Constraint::FreeFor(u32::MAX));
        }
        Ok(Constraint::Force(model::tokenize(&self.text, false)))
    }
}

outrigger_plugin::export!(This: TokenControl);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing;

    use super::*;

    #[test]
    fn every_answer_begins_with_the_text() {
        let mut plugin = testing::plugin::<This>(r#"{"text": "Yes! "}"#).unwrap();
        let written = testing::write(&mut plugin, "prompt", "Why not?").unwrap();
        assert_eq!((written.text.as_str(), written.steps), ("Yes! Why not?", 2));
    }
}
