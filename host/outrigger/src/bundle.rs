//! The plugins that travel in the binary.

use anyhow::{Context as _, bail};
use plugin::Package;

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

/// The bundled plugin of this name, with its manifest.
pub(crate) fn package(name: &str) -> anyhow::Result<Package> {
    let Some(component) = component(name) else {
        bail!(
            "no bundled plugin is called `{name}` ({} are); name a component with `from = \"PATH\"`",
            NAMES.join(", ")
        )
    };
    Package::bundled(component, bundled::manifest(name))
        .with_context(|| format!("cannot use the bundled plugin `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_component() {
        for name in NAMES {
            assert!(component(name).is_some_and(|bytes| bytes.starts_with(b"\0asm")), "{name}");
            let manifest = package(name).expect("a component and a manifest").manifest.expect("a manifest");
            assert_eq!(manifest.about.name, name);
        }
    }
}
