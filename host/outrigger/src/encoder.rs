//! A model that encodes, as the service serves it: an engine of another kind, and no plugins.

use std::sync::Arc;

use anyhow::bail;
use inference::{EncodingEngine, EncodingFacts};
use model::gguf::Header;
use model::{Encodes, Workload};

use crate::config::{ModelSettings, PluginTable};
use crate::running;

/// What a model of this header is loaded for.
pub(crate) fn workload(header: &Header, context_length: u32, max_concurrency: u32) -> Workload {
    match Encodes::of(header) {
        Some(encodes) => Workload::encoding(context_length, encodes),
        None => Workload::new(context_length, max_concurrency),
    }
}

/// Tokens that an input or a request may hold unless the operator says more.
pub(crate) fn context_length_default(header: &Header) -> u32 {
    match Encodes::of(header) {
        Some(_) => llama::CONTEXT_LENGTH_DEFAULT_ENCODING,
        None => llama::CONTEXT_LENGTH_DEFAULT,
    }
}

/// Starts the engine.
pub(crate) fn start(
    settings: &ModelSettings,
    model: llama::Model,
    facts: EncodingFacts,
) -> anyhow::Result<Arc<dyn EncodingEngine>> {
    if settings.has_own_warm_prompts && !settings.warm_prompts.is_empty() {
        bail!("`warm_prompts` are beginnings of conversations, and the model only encodes texts; leave them out");
    }
    let config = engine::EncodingConfig {
        requests: settings.max_concurrency,
        // Admission lets no more in; a request may still find the one before it on its way out.
        queue_length: settings.max_concurrency.saturating_add(1),
        ..engine::EncodingConfig::default()
    };
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    Ok(Arc::new(engine::start_encoding(card, facts, vocabulary, config, move |shape| model.encoder(shape))?))
}

/// The stages of the plugin contract are about conversations. A policy that silently saw nothing would be worse than none.
pub(crate) fn check_plugins(id: &str, tables: &[PluginTable]) -> anyhow::Result<()> {
    let is_meant = |table: &&PluginTable| running::applies(table.models.as_deref(), id);
    let names: Vec<&str> = tables.iter().filter(is_meant).map(|table| table.name.as_str()).collect();
    if !names.is_empty() {
        bail!(
            "plugins see conversations, and the model `{id}` only encodes texts: `{}` would see nothing; say with `models` \
             which models a plugin is there for, or serve this one without plugins",
            names.join("`, `")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plugin_is_there_for_a_model_that_encodes() {
        let table = |models: Option<&[&str]>| PluginTable {
            models: models.map(|models| models.iter().map(|&model| model.to_owned()).collect()),
            ..PluginTable::bare("redact".to_owned(), None)
        };
        assert!(check_plugins("embed", &[]).is_ok());
        assert!(check_plugins("embed", &[table(Some(&["chat"]))]).is_ok());
        for models in [None, Some(&["e*"][..])] {
            let error = check_plugins("embed", &[table(models)]).expect_err("it would see nothing").to_string();
            assert!(error.contains("`embed` only encodes texts: `redact` would see nothing"), "{error}");
        }
    }
}
