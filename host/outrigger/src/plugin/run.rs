//! `outrigger plugin run`: one request, and what every stage makes of it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use inference::{Call, ChatRequest, RequestId};
use kit::{Stand, Teller, Watched, case, stand_in};
use plugin::PluginSpec;
use server::{AnswerEvent, Service};

use super::{ConfigArguments, components_dir, config_of};
use crate::config::{Said, Settings};
use crate::console::{self, Stderr};
use crate::source::Source;
use crate::{Failure, wiring};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outrigger plugin run . --chat \"hi\"                                what stages make of a canned answer, word by word
  outrigger plugin run redact --chat hi --answer \"Ask joe@example.org\"
  outrigger plugin run . --chat \"Name a colour.\" --model file:model.gguf

Without a [[plugin]] table that means it, the plugin is granted what its plugin.toml asks for. What it logs stands on standard error.")]
pub(super) struct Run {
    /// A plugin's folder, a component's file, or the name of a bundled plugin or of a [[plugin]] table
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: String,

    /// What is asked
    #[arg(long, value_name = "TEXT")]
    chat: String,

    /// What the model answers
    #[arg(long, value_name = "TEXT", default_value = "Hello! How can I help you today?", conflicts_with = "model")]
    answer: String,

    /// Have this model answer instead
    #[arg(long, value_name = "REF")]
    model: Option<String>,

    /// Most tokens of the model's answer
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,

    /// A header of the request, as NAME:VALUE; may be given several times
    #[arg(long = "header", value_name = "NAME:VALUE")]
    headers: Vec<String>,

    /// The plugin's configuration, as a JSON object
    #[arg(long, value_name = "JSON")]
    plugin_config: Option<String>,

    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(arguments: Run) -> Result<(), Failure> {
    let Run { plugin, chat, answer, model, max_tokens, headers, plugin_config, config } = arguments;
    telemetry::logging::init(telemetry::logging::LogFormat::Text, "warn,plugin=debug", Stderr::default)
        .map_err(|error| Failure::usage(error.into()))?;
    let mut spec = config.spec(&plugin)?;
    if plugin_config.is_some() {
        let table = config_of(plugin_config.as_deref())?;
        spec.config_json = serde_json::to_string(&table).context("the configuration is no JSON")?;
    }
    let headers = headers.iter().map(|header| parse_header(header)).collect::<Result<Vec<_>, _>>()?;
    let request = case::request_of(&chat).map_err(|reason| Failure::usage(anyhow!(reason)))?;
    let tell: Teller = Arc::new(|line: String| {
        // A reader that has seen enough is no error, and there is nobody to tell of another.
        let lines: String = line.split('\n').map(|line| console::printable(line) + "\n").collect();
        drop(console::write(&lines));
    });
    match model {
        None => {
            let said = config.read().map_err(Failure::usage)?;
            answered(spec, request, headers, &answer, components_dir(said.cache_dir), tell)?;
        }
        Some(model) => {
            let request = ChatRequest { max_tokens: Some(max_tokens), ..request };
            let said = Said { model: Some(model), ..Said::default() }.or_file(config.config.as_deref());
            let said = said.map_err(Failure::usage)?;
            let settings = Settings::from_said(Said { plugin_tables: Vec::new(), plugin_names: None, ..said });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("cannot start the runtime")?;
            runtime.block_on(generated(spec, request, headers, &settings.map_err(Failure::usage)?, tell))?;
        }
    }
    Ok(())
}

/// With a text for the answer, word by word.
fn answered(
    spec: PluginSpec,
    request: ChatRequest,
    headers: Vec<(String, String)>,
    answer: &str,
    cache_dir: Option<PathBuf>,
    tell: Teller,
) -> anyhow::Result<()> {
    let stand = Stand::new(stand_in::model(None), spec.limits.memory_bytes_max, false, cache_dir)?;
    let watched = Watched::new(stand.load(spec)?, tell);
    watched.play(call(&request, headers), request, answer).context("the request ended early")
}

/// With what a model makes of the prompt.
async fn generated(
    spec: PluginSpec,
    request: ChatRequest,
    headers: Vec<(String, String)>,
    settings: &Settings,
    tell: Teller,
) -> anyhow::Result<()> {
    let (metrics, model) = (wiring::metrics(), settings.only_model()?);
    let service = Service::new(wiring::service_config(settings, model), metrics.clone());
    let located = Source::new(&model.reference, &settings.store)?.locate_shown().await?;
    let (mut serving, device) = wiring::load_chat(settings, model, &located, &metrics)?;
    let cache_dir = settings.cache_dir.as_ref().map(|dir| dir.join("components"));
    let stand = Stand::new(wiring::context(&*serving.engine), spec.limits.memory_bytes_max, false, cache_dir)?;
    serving.pipeline = Arc::new(Watched::new(stand.load(spec)?, tell));
    service.computes_with(device);
    service.ready(serving);
    let request = ChatRequest { model: model.id.clone(), ..request };
    let call = call(&request, headers);
    let mut answer = service.chat(request, call, telemetry::Endpoint::Run, NonZeroU32::MIN).await?;
    while let Some(event) = answer.next().await {
        if let AnswerEvent::Finished(_) = event.context("the answer broke off")? {
            return Ok(());
        }
    }
    bail!("the answer has no end")
}

fn call(request: &ChatRequest, headers: Vec<(String, String)>) -> Call {
    Call { request_id: RequestId::new("run"), traceparent: None, model: request.model.clone(), headers, choice: 0 }
}

fn parse_header(header: &str) -> Result<(String, String), Failure> {
    let split = header.split_once(':').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) =
        split.with_context(|| format!("`{header}` is no header; write NAME:VALUE")).map_err(Failure::usage)?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
