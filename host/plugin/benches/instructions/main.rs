//! How many instructions the sandbox takes, host and guest together, counted by valgrind: next to the same in every run,
//! whatever else the machine does, so what creeps is seen.
//!
//! `cargo bench -p plugin --bench instructions` compares with the counts beside this file and fails where one differs by more
//! than [`SLACK`]; `-- --save` writes them anew. Wants Debian's `valgrind`. The first run compiles the plugins under valgrind, which
//! takes a minute or two; they are kept in `target/tmp`.

#[path = "../plugins/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use inference::{Stage, Token};
use plugin::{Limits, LoadedPlugin, PluginSpec, Sandbox, SandboxConfig};

use crate::fixture::{PUSHES, chat, piece, plain, probe, together, whole};

/// By how much a count may differ from the one that was kept, as a part of it. Hash tables are seeded by chance, and ticks of the
/// budget's clock come by time: 0.3 % between runs. Another compiler or libc makes some more.
const SLACK: f64 = 0.02;
/// How often each is done.
const RUNS: usize = 200;
/// What valgrind looks for. With a `*` in it, valgrind would not write a file at its end.
const MARK: &str = "instructions::instructions_of_this";
/// Said to the run under valgrind.
const COUNTED: &str = "--counted";

/// What is counted, in the order of [`count_all`].
const WHAT: [&str; 7] = [
    "instantiate, init and drop a small plugin",
    "instantiate, init and drop `redact`",
    "push through one filter that does nothing",
    "push through `redact`",
    "step of a controller that answers with a mask of the vocabulary",
    "a whole request through policy, prompt and filter, 64 pushes",
    "a whole request through `chat-template` and `redact`, 64 pushes",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if arguments.iter().any(|argument| argument == COUNTED) {
        count_all();
        return ExitCode::SUCCESS;
    }
    let counts = match under_valgrind() {
        Ok(counts) => counts,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/instructions/{}.txt", env::consts::ARCH));
    if arguments.iter().any(|argument| argument == "--save") {
        let lines: String = WHAT.iter().zip(&counts).map(|(what, count)| format!("{count:>9} {what}\n")).collect();
        fs::write(&kept, lines).expect("the counts are written");
    }
    if judge(&counts, &fs::read_to_string(&kept).unwrap_or_default()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the counts beside those that were kept. Whether they are the same but for some slack.
fn judge(counts: &[u64], kept: &str) -> bool {
    let mut is_same = true;
    println!("{:<66} {:>12} {:>12} {:>8}", "instructions", "kept", "now", "");
    for (what, &now) in WHAT.iter().zip(counts) {
        let of_this = |line: &str| line.trim_start().split_once(' ').filter(|(_, name)| name == what)?.0.parse().ok();
        let Some(before): Option<u64> = kept.lines().find_map(of_this) else {
            println!("{what:<66} {:>12} {now:>12}", "–");
            continue;
        };
        let difference = now as f64 / before as f64 - 1.0;
        let is_within = difference.abs() <= SLACK;
        is_same &= is_within;
        let verdict = if is_within { "" } else { "  BEYOND THE SLACK" };
        println!("{what:<66} {before:>12} {now:>12} {:>7.1}%{verdict}", difference * 100.0);
    }
    if !is_same {
        println!(
            "\nAt most {}% is nobody's doing. Where the new counts are as they should be: \
             cargo bench -p plugin --bench instructions -- --save",
            SLACK * 100.0
        );
    }
    is_same
}

/// Runs this program under callgrind, which writes a file whenever [`instructions_of_this`] returns.
fn under_valgrind() -> Result<Vec<u64>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let files = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args([format!("--toggle-collect={MARK}"), format!("--dump-after={MARK}")])
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(env::current_exe().map_err(|error| error.to_string())?)
        .arg(COUNTED)
        .output()
        .map_err(|error| format!("failed to run valgrind: {error}; Debian's package is called valgrind"))?;
    if !output.status.success() {
        return Err(format!("valgrind ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let count = |part: usize| {
        let file = PathBuf::from(format!("{}.{}", files.display(), part + 1));
        let written = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let total = written.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
        total.map(|total| total / RUNS as u64).ok_or_else(|| format!("{} has no total", file.display()))
    };
    (0..WHAT.len()).map(count).collect()
}

/// What is done in here is counted.
#[inline(never)]
fn instructions_of_this(work: &mut dyn FnMut()) {
    (0..RUNS).for_each(|_| work());
    // Nothing is a tail call, or valgrind would not see where it ends.
    std::hint::black_box(());
}

/// Everything takes fifty times as long under valgrind.
fn load(sandbox: &Sandbox, spec: PluginSpec) -> LoadedPlugin {
    let times = 100;
    let usual = Limits::default();
    let limits = Limits {
        init_cpu_max: usual.init_cpu_max * times,
        policy_cpu_max: usual.policy_cpu_max * times,
        prompt_cpu_max: usual.prompt_cpu_max * times,
        push_cpu_max: usual.push_cpu_max * times,
        step_cpu_max: usual.step_cpu_max * times,
        finish_cpu_max: usual.finish_cpu_max * times,
        request_cpu_max: usual.request_cpu_max * times,
        ..usual
    };
    fixture::load(sandbox, PluginSpec { limits, ..spec })
}

fn count_all() {
    // A machine under valgrind has another processor, so its compiled components are others: a folder of their own.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    // Few instances: valgrind has little address space to give.
    let config = SandboxConfig { cache_dir: Some(cache), max_instances: Some(2), ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let small = load(&sandbox, plain("small", &[Stage::Policy]));
    let redact = || load(&sandbox, PluginSpec::new("redact", "bundled", bundled::REDACT));
    for plugin in [small, redact()] {
        count(|| assert!(plugin::probe::instantiate(&plugin).is_some()));
    }
    let prompt = || load(&sandbox, plain("plain", &[Stage::Prompt]));
    let filter = load(&sandbox, plain("filter", &[Stage::Postprocess]));
    for filter in [filter, redact()] {
        let plugins = together(&sandbox, vec![prompt(), filter]);
        let mut run = probe(&plugins);
        run.prepare(chat(1, 16)).expect("it renders");
        let mut number = 0;
        count(|| {
            number += 1;
            drop(run.push(piece(number), false).expect("it behaves"));
        });
    }
    let config_json = r#"{"steps": "mask 1 2 3"}"#.to_owned();
    let steps = PluginSpec { config_json, ..plain("steps", &[Stage::Prompt, Stage::TokenControl]) };
    let plugins = together(&sandbox, vec![load(&sandbox, steps)]);
    let mut run = probe(&plugins);
    run.prepare(chat(1, 16)).expect("it renders");
    run.control(&[Token(1)]).expect("it opens");
    count(|| drop(run.step(&[Token(1)]).expect("it behaves")));
    drop(run);

    let stages = [Stage::Policy, Stage::Prompt, Stage::Postprocess];
    let plain = together(&sandbox, vec![load(&sandbox, plain("plain", &stages))]);
    let template = load(&sandbox, PluginSpec::new("chat-template", "bundled", bundled::CHAT_TEMPLATE));
    let both = together(&sandbox, vec![template, redact()]);
    for plugins in [plain, both] {
        let request = chat(2, 40);
        count(|| whole(&plugins, &request));
    }
}

/// Counts it, when it has been done before.
fn count(mut work: impl FnMut()) {
    (0..PUSHES).for_each(|_| work());
    instructions_of_this(&mut work);
}
