//! What a client of a chat server sees: time to the first text, tokens per second, gaps, memory. Two servers and a bare
//! llama.cpp loop, in turns in one run, so that whatever else the machine does hits all of them.
//!
//! `tests/load/run.sh` builds everything that is compared, and calls this.

mod chat;
mod hog;
mod limits;
mod plugins;
mod process;
mod prompt;
mod report;
mod scenario;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::scenario::{Bench, Scenario};
use crate::server::Contender;

/// Measures servers of the OpenAI chat API beside each other.
#[derive(Debug, Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// What to measure [default: everything]
    scenarios: Vec<Scenario>,

    /// Fewer rounds and shorter answers
    #[arg(long)]
    quick: bool,

    /// Bound libgomp's spin in the peer's environment, as ours does for itself: fair on a machine that is not quiet, where
    /// the peer as it comes mostly waits for itself
    #[arg(long)]
    bounded: bool,

    /// Our server
    #[arg(long, default_value = "target/release/outrigger")]
    outrigger: PathBuf,

    /// Our bare loop over llama.cpp, an example of the crate `llama`
    #[arg(long, default_value = "target/release/examples/bench_decode")]
    bench_decode: PathBuf,

    /// The peer
    #[arg(long, env = "LLAMA_SERVER", default_value = ".cache/llama-server/build/bin/llama-server")]
    llama_server: PathBuf,

    /// llama.cpp's own bare loop over several sequences
    #[arg(long, env = "LLAMA_BATCHED_BENCH", default_value = ".cache/llama-server/build/bin/llama-batched-bench")]
    batched_bench: PathBuf,

    /// The component that misbehaves when it is told to, for what is measured with plugins; plugins/build.sh makes it
    #[arg(long, default_value = "plugins/target/wasm32-unknown-unknown/release/misbehaving.wasm")]
    misbehaving: PathBuf,

    /// Requests of `soak`
    #[arg(long, default_value_t = 100_000)]
    requests: u32,

    /// What all of them serve
    #[arg(long, env = "DEMO_MODEL", default_value = ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf")]
    model: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep one processor busy until the process that started this one is gone
    #[command(hide = true)]
    Hog,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Hog) = arguments.command {
        hog::spin();
        return Ok(());
    }
    let bench = Bench {
        is_quick: arguments.quick,
        peer: if arguments.bounded { Contender::LlamaServerBounded } else { Contender::LlamaServer },
        outrigger: arguments.outrigger,
        bare_loop: arguments.bench_decode,
        llama_server: arguments.llama_server,
        bare_batches: arguments.batched_bench,
        misbehaving: arguments.misbehaving,
        requests: arguments.requests,
        model: arguments.model,
        threads: std::thread::available_parallelism()?,
    };
    let scenarios = if arguments.scenarios.is_empty() { Scenario::all() } else { arguments.scenarios };
    bench.check(&scenarios)?;
    // One thread: the client takes as little as it can of the processors that the servers need.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    report::print_head(&bench)?;
    let mut failed = Vec::new();
    for scenario in scenarios {
        match runtime.block_on(scenario.run(&bench)) {
            Ok(rows) => report::print_rows(&rows)?,
            // The others' figures are still worth having.
            Err(error) => {
                eprintln!("error: {scenario}: {error:#}");
                failed.push(scenario.to_string());
            }
        }
    }
    report::print_foot()?;
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}
