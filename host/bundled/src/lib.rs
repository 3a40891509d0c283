//! The bundled plugins, compiled and embedded by the build, so that the `outrigger` binary works alone.
//!
//! Each is a WebAssembly component. What it does and what may be set in its configuration is in
//! `plugins/<name>/README.md`; how it is compiled, in `plugins/build.sh`.

/// `chat-template`: renders prompts with the model's own template and reads reasoning out of answers
/// (stages `prompt` and `parse`).
pub const CHAT_TEMPLATE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/chat_template.wasm"));

/// `json-guard`: keeps answers inside a JSON schema (stages `policy` and `postprocess`).
pub const JSON_GUARD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/json_guard.wasm"));

/// `prompt-policy`: says what may be asked (stages `policy` and `audit`).
pub const PROMPT_POLICY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prompt_policy.wasm"));

/// `redact`: masks what identifies or unlocks (stages `postprocess` and `policy`).
pub const REDACT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/redact.wasm"));

/// `stop-words`: ends answers at phrases (stage `postprocess`).
pub const STOP_WORDS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stop_words.wasm"));

/// `misbehaving`: breaks the rule that its configuration names, for tests.
#[cfg(feature = "misbehaving")]
pub const MISBEHAVING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehaving.wasm"));

/// The text of a bundled plugin's `plugin.toml`, by the plugin's name.
#[must_use]
pub fn manifest(name: &str) -> Option<&'static str> {
    MANIFESTS.iter().find(|(named, _)| *named == name).map(|&(_, text)| text)
}

const MANIFESTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/manifests.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    /// The preamble of a component: magic, version 13, layer 1. A core module has version 1, layer 0.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn the_plugins_are_components() {
        for component in [CHAT_TEMPLATE, JSON_GUARD, PROMPT_POLICY, REDACT, STOP_WORDS] {
            assert!(component.starts_with(COMPONENT));
        }
    }
}
