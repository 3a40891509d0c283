//! `outrigger plugin check`: the loader's own report.

use anyhow::anyhow;
use clap::Args;
use plugin::{LoadReport, Sandbox, SandboxConfig};
use serde_json::json;

use super::{ConfigArguments, components_dir, table_for};
use crate::{Failure, console, wiring};

#[derive(Debug, Args)]
#[command(after_help = "\
The plugin is loaded as `serve` loads it, with what its [[plugin]] table grants; without a table nothing is granted. It is
tried with a stand-in for the model, so what depends on a model's own chat template shows only when it is served.

Exit codes: 0 it loads, 1 it does not, 2 wrong usage or configuration.")]
pub(super) struct Check {
    /// A component's file, a plugin's folder, or the name of a bundled plugin or of a [[plugin]] table
    #[arg(value_name = "PLUGIN")]
    plugin: String,

    #[command(flatten)]
    config: ConfigArguments,

    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Check) -> Result<(), Failure> {
    let said = arguments.config.read().map_err(Failure::usage)?;
    let table = table_for(&arguments.plugin, said.plugin_tables).map_err(Failure::usage)?;
    let cache_dir = components_dir(said.cache_dir.clone());
    let examined = wiring::spec(&table, &mut Vec::new()).and_then(|spec| {
        let sandbox = Sandbox::new(SandboxConfig {
            cache_dir,
            memory_bytes_max: Some(spec.limits.memory_bytes_max),
            workers: Some(1),
            max_instances: Some(1),
            ..SandboxConfig::default()
        })?;
        let (report, result) = sandbox.examine(spec, &kit::stand_in::model(None));
        let result = result.map(|_| ()).map_err(|error| wiring::with_lines(error, &table));
        Ok((report, result))
    });
    let (report, result) = match examined {
        Ok((report, result)) => (Some(report), result),
        Err(error) => (None, Err(error)),
    };
    if arguments.json {
        let error = result.as_ref().err().map(|error| format!("{error:#}"));
        let line = json!({ "loads": result.is_ok(), "error": error, "report": report }).to_string();
        console::print(std::iter::once(line))?;
        return result.map_err(|_| Failure::from(anyhow!("the plugin does not load")));
    }
    if let Some(report) = &report {
        console::print(lines(report, result.is_ok()))?;
    }
    Ok(result?)
}

fn lines(report: &LoadReport, is_loaded: bool) -> impl Iterator<Item = String> {
    let mut text = report.to_string();
    if is_loaded && report.declined().next().is_some() {
        text.push_str("\nIt loads without what it is not granted. If it may have that, its table has these lines:\n\n");
        text.push_str(&report.toml_for_declined());
    }
    if is_loaded {
        text.push_str("\nIt loads.\n");
    }
    let lines: Vec<String> = text.lines().map(console::printable).collect();
    lines.into_iter()
}
