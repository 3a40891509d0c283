//! The plugins that travel in the binary.

/// Renders prompts and reads answers unless another plugin is configured to.
pub(crate) const DEFAULT_PROMPT_PLUGIN: &str = "chat-template";

/// Names of the bundled plugins.
pub(crate) const NAMES: [&str; 5] = [DEFAULT_PROMPT_PLUGIN, "json-guard", "prompt-policy", "redact", "stop-words"];

/// The bundled component of this name.
pub(crate) fn component(name: &str) -> Option<&'static [u8]> {
    match name {
        DEFAULT_PROMPT_PLUGIN => Some(bundled::CHAT_TEMPLATE),
        "json-guard" => Some(bundled::JSON_GUARD),
        "prompt-policy" => Some(bundled::PROMPT_POLICY),
        "redact" => Some(bundled::REDACT),
        "stop-words" => Some(bundled::STOP_WORDS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_component() {
        for name in NAMES {
            assert!(component(name).is_some_and(|bytes| bytes.starts_with(b"\0asm")), "{name}");
        }
    }
}
