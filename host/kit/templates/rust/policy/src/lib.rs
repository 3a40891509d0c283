//! Rejects requests that are longer than the operator likes.

use outrigger_plugin::prelude::*;
use serde::Deserialize;

/// The `config` table of the plugin. `default`: it works without one. `deny_unknown_fields`: a key that is spelled wrong is an error
/// when the plugin is loaded, not a surprise later.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Bytes of all texts of a request together.
    max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_bytes: 4096 }
    }
}

/// Made anew for each request.
pub struct This {
    max_bytes: usize,
}

impl Plugin for This {
    fn new(cx: &Context) -> Result<Self> {
        let config: Config = cx.config()?;
        Ok(Self { max_bytes: config.max_bytes })
    }
}

impl Policy for This {
    /// Runs before anything is computed: a rejection costs no model time.
    fn inspect(&mut self, request: Request, _call: &Call) -> Result<Decision> {
        let texts = request.messages.iter().flat_map(|message| &message.parts).map(|part| match part {
            Part::Text(text) => text.len(),
            Part::ToolResult(result) => result.content.len(),
            _ => 0,
        });
        let bytes: usize = texts.sum();
        if bytes > self.max_bytes {
            let message = format!("The request has {bytes} bytes of text, and {} are allowed.", self.max_bytes);
            return Ok(Decision::reject(413, "request_too_long", message));
        }
        Ok(Decision::accept().note("template-name", bytes.to_string()))
    }
}

outrigger_plugin::export!(This: Policy);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing::{self, call, chat};

    use super::*;

    #[test]
    fn what_is_short_is_accepted() {
        let mut policy = testing::plugin::<This>("{}").unwrap();
        let decision = policy.inspect(chat("Hello!"), &call()).unwrap();
        assert_eq!(decision, Decision::accept().note("template-name", "6"));
    }
}
