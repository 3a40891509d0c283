//! A model that encodes, as the service serves it: an engine of another kind, and no plugins.

use std::sync::Arc;

use anyhow::bail;
use inference::{EncodingEngine, EncodingFacts};
use model::gguf::Header;
use model::{Encodes, Workload};

use crate::config::Settings;

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
    settings: &Settings,
    model: llama::Model,
    facts: EncodingFacts,
) -> anyhow::Result<Arc<dyn EncodingEngine>> {
    check_plugins(settings)?;
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
fn check_plugins(settings: &Settings) -> anyhow::Result<()> {
    let names: Vec<&str> = settings.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    if !names.is_empty() {
        bail!(
            "plugins see conversations, and the model only encodes texts: `{}` would see nothing; serve the model without \
             plugins",
            names.join("`, `")
        );
    }
    if !settings.warm_prompts.is_empty() {
        bail!("`warm_prompts` are beginnings of conversations, and the model only encodes texts; leave them out");
    }
    Ok(())
}
