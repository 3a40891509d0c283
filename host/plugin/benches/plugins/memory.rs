//! What a live instance holds in memory.

use inference::Stage;
use plugin::probe::Probe;
use plugin::{PluginSpec, Plugins, Sandbox, SandboxConfig};

use crate::fixture::{chat, load, piece, plain, probe, together};
use crate::table::Table;

/// Instances that live at once.
const LIVE: usize = 64;

pub(crate) fn per_instance(table: &Table) {
    let redact = PluginSpec::new("redact", "bundled", bundled::REDACT);
    let small = held(vec![plain("small", &[Stage::Prompt, Stage::Postprocess])]);
    table.size(&format!("memory of an instance of a small plugin, {LIVE} alive"), small, Some(64.0 * 1024.0));
    let prompt = || plain("small", &[Stage::Prompt]);
    let beside = held(vec![prompt(), redact]) - held(vec![prompt()]);
    table.size("the same of `redact`", beside, None);
}

/// Resident bytes that each of [`LIVE`] requests takes in the middle of its answer.
fn held(plugins: Vec<PluginSpec>) -> f64 {
    // A pool of its own: places that were used stay mapped in part.
    let sandbox = Sandbox::new(SandboxConfig::default()).expect("a sandbox");
    let plugins = plugins.into_iter().map(|spec| load(&sandbox, spec)).collect();
    let plugins = together(&sandbox, plugins);
    // What is made once is made.
    drop(answering(&plugins));
    let before = resident_bytes();
    let live: Vec<Probe> = (0..LIVE).map(|_| answering(&plugins)).collect();
    let bytes = resident_bytes() - before;
    drop(live);
    bytes / LIVE as f64
}

fn answering(plugins: &Plugins) -> Probe {
    let mut run = probe(plugins);
    run.prepare(chat(1, 16)).expect("it renders");
    for number in 0..8 {
        run.push(piece(number), false).expect("it behaves");
    }
    run
}

fn resident_bytes() -> f64 {
    use procfs::process::Process;
    let status = Process::myself().and_then(|process| process.status()).expect("procfs");
    status.vmrss.expect("a process has memory") as f64 * 1024.0
}
