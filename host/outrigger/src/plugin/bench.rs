//! `outrigger plugin bench`: what a plugin costs on this machine, beside the gates.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use kit::{Stand, case, costs, stand_in};
use serde_json::json;

use super::test::grouped;
use super::{ConfigArguments, components_dir};
use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
The plugin runs as `serve` runs it, without the queue before it; of a plugin that renders no prompts the share of the default one is
taken off. Nothing else should run on the machine. The gates are those of a small Rust plugin: a median above one is marked with !,
and is no failure.")]
pub(super) struct Bench {
    /// A plugin's folder, a component's file, or the name of a bundled plugin or of a [[plugin]] table
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: String,

    #[command(flatten)]
    config: ConfigArguments,

    /// What is asked
    #[arg(long, value_name = "TEXT", default_value = "Why is the sky blue?")]
    chat: String,

    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn bench(arguments: Bench) -> Result<(), Failure> {
    let Bench { plugin, config, chat, seconds, json } = arguments;
    let spec = config.spec(&plugin)?;
    let request = case::request_of(&chat).map_err(|reason| Failure::usage(anyhow!(reason)))?;
    let cache_dir = components_dir(config.read().map_err(Failure::usage)?.cache_dir);
    let memory_max = spec.limits.memory_bytes_max;
    let stand = Stand::new(stand_in::model(None), memory_max, false, cache_dir).map_err(anyhow::Error::from)?;
    let loaded = stand.load(spec).map_err(anyhow::Error::from)?;
    let costs = costs::measure(&stand, &loaded, &request, Duration::from_secs(seconds))
        .map_err(|reason| anyhow!("the plugin failed while it was measured: {reason}"))?;
    if json {
        return console::print(std::iter::once(json!(costs).to_string()));
    }
    let header = format!("{:<34}{:>14}{:>14}{:>12}", loaded.name(), "median", "p99", "gate");
    let rows = costs.figures.iter().map(|figure| {
        if figure.unit == "bytes" {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of bytes")]
            let bytes = figure.median as u64;
            return format!(
                "{:<34}{:>8} bytes   of {} allowed",
                figure.what,
                grouped(bytes),
                grouped(memory_max as u64)
            );
        }
        let over = if figure.gate.is_some_and(|gate| figure.median > gate) { " !" } else { "" };
        let gate = figure.gate.map(|gate| format!("{gate:>9.0} µs{over}")).unwrap_or_default();
        format!("{:<34}{:>11.2} µs{:>11.2} µs{gate}", figure.what, figure.median, figure.p99)
    });
    let note = costs.is_unoptimised.then(|| {
        "This outrigger was compiled without optimisation: its own share of these times is several times too high."
            .to_owned()
    });
    console::print(std::iter::once(header).chain(rows).chain(note))
}
