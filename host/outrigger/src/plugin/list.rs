//! `outrigger plugin list`: what a configuration would load, without loading it.

use clap::Args;
use plugin::LoadReport;
use serde_json::json;

use super::ConfigArguments;
use crate::bundle;
use crate::config::{PluginTable, choose_plugins};
use crate::{Failure, console, wiring};

#[derive(Debug, Args)]
#[command(after_help = "Nothing is compiled or run; `outrigger plugin check NAME` does that.")]
pub(super) struct List {
    /// As of `serve`: plugins to use in place of the configuration's
    #[arg(long = "plugin", env = "OUTRIGGER_PLUGIN", value_name = "NAME|PATH", value_delimiter = ',')]
    plugins: Option<Vec<String>>,

    #[command(flatten)]
    config: ConfigArguments,

    /// One JSON object per plugin and line, for programs
    #[arg(long)]
    json: bool,
}

/// A plugin, and what is known of it.
struct Row {
    name: String,
    is_configured: bool,
    report: Option<LoadReport>,
    error: Option<String>,
}

pub(super) fn list(arguments: &List) -> Result<(), Failure> {
    let said = arguments.config.read().map_err(Failure::usage)?;
    let tables = choose_plugins(arguments.plugins.clone(), said.plugin_tables).map_err(Failure::usage)?;
    let bundled = bundle::NAMES.iter().filter(|name| tables.iter().all(|table| table.name != **name));
    let bundled: Vec<_> = bundled.map(|name| PluginTable::bare((*name).to_owned(), None)).collect();
    let rows: Vec<Row> =
        tables.iter().map(|table| row(table, true)).chain(bundled.iter().map(|table| row(table, false))).collect();
    if arguments.json {
        return console::print(rows.iter().map(|row| {
            let Row { name, is_configured, report, error } = row;
            json!({ "name": name, "is_configured": is_configured, "error": error, "report": report }).to_string()
        }));
    }
    console::print(rows.iter().flat_map(lines))
}

fn row(table: &PluginTable, is_configured: bool) -> Row {
    let (report, error) = match wiring::spec(table, &mut Vec::new()) {
        Ok(spec) => {
            let (report, refused) = LoadReport::inspect(&spec);
            (Some(report), refused.map(|error| format!("{:#}", wiring::with_lines(error, table))))
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Row { name: table.name.clone(), is_configured, report, error }
}

fn lines(row: &Row) -> Vec<String> {
    let use_ = if row.is_configured { "" } else { "  (not configured)" };
    let mut lines = Vec::new();
    match &row.report {
        None => lines.push(format!("{}{use_}", row.name)),
        Some(report) => {
            let stages: Vec<_> = report.stages.iter().map(|used| format!("{} at {}", used.stage, used.order)).collect();
            let version = report.version().unwrap_or("without manifest");
            lines.push(format!("{} {version}  {}{use_}", row.name, report.source));
            if let Some(sha256) = &report.sha256 {
                lines.push(format!("  sha256 {sha256}"));
            }
            if !stages.is_empty() {
                lines.push(format!("  stages {}", stages.join(", ")));
            }
        }
    }
    if let Some(error) = &row.error {
        lines.extend(format!("would be refused: {error}").lines().map(|line| format!("  {line}")));
    }
    lines.iter().map(|line| console::printable(line)).collect()
}
