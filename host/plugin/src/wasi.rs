//! `wasi = "quiet"`: as much WASI 0.2 as language runtimes need to start, and nothing that reaches out of the sandbox.
//!
//! Open: standard output and error, which go to the log line by line; clocks of 1 ms; random numbers.
//! Empty: standard input, arguments, environment, preopened folders. `exit` is a trap.
//! Closed: sockets are traps ([`crate::closed`]), and waiting for a time is refused, because a guest that waits holds a thread
//! that other requests need.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use telemetry::PluginMeter;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock, WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, async_trait};
use wasmtime_wasi_io::bytes::Bytes;

use crate::bindings::outrigger::plugin::log::Level;
use crate::imports::write_line;
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINE_OVERHEAD_BYTES, WASI_RANDOM_BYTES_MAX, WASI_RESOURCES_MAX};
use crate::state::GuestState;
use crate::text::escape_into;

/// The packages of which [`link`] provides something.
pub(crate) const OFFERED_PACKAGES: [&str; 5] = ["wasi:cli", "wasi:io", "wasi:clocks", "wasi:random", "wasi:filesystem"];

/// Whether an import such as `wasi:cli/stdout@0.2.6` is of a package that [`link`] provides.
pub(crate) fn is_offered(import: &str) -> bool {
    OFFERED_PACKAGES.iter().any(|package| import.strip_prefix(package).is_some_and(|rest| rest.starts_with('/')))
}

/// What a `quiet` guest sees of WASI.
pub(crate) struct QuietWasi {
    ctx: WasiCtx,
    table: ResourceTable,
    /// Standard output and error, as the guest has them.
    outputs: [LogLines; 2],
}

impl QuietWasi {
    fn new(plugin: &str, log_bytes_max: usize, meter: Option<&Arc<PluginMeter>>) -> Self {
        let quota = Arc::new(Mutex::new(Quota { left: log_bytes_max, is_told: false }));
        let outputs = [Level::Info, Level::Warn].map(|level| LogLines {
            plugin: Arc::from(plugin),
            level,
            meter: meter.cloned(),
            quota: Arc::clone(&quota),
            line: Arc::default(),
        });
        let [stdout, stderr] = outputs.clone();
        let ctx = WasiCtx::builder()
            .stdout(stdout)
            .stderr(stderr)
            .max_random_size(WASI_RANDOM_BYTES_MAX)
            .wall_clock(CoarseClock)
            .monotonic_clock(CoarseClock)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(WASI_RESOURCES_MAX);
        Self { ctx, table, outputs }
    }

    /// Begins another request in the same instance: what the last one printed is its own, and this one may print as much.
    pub(crate) fn renew(&mut self, log_bytes_max: usize) {
        for output in &self.outputs {
            output.end_line();
            *output.quota() = Quota { left: log_bytes_max, is_told: false };
        }
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (owner, meter) = (&self.owner, &self.meter);
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(QuietWasi::new(&owner.name, owner.limits.log_bytes_max, meter.as_ref())));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// Links the quiet part of WASI.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    let l = linker;
    wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<State, Table>(l, |state| state.ctx().table)?;
    sync::io::poll::add_to_linker::<State, Table>(l, |state| state.ctx().table)?;
    sync::io::streams::add_to_linker::<State, Table>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    monotonic_clock::add_to_linker::<State, NoWaiting<'static>>(l, |state| NoWaiting { state })?;
    random::random::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    // No folder is preopened, so there is nothing that these could open.
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    sync::filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// The monotonic clock without its alarms.
struct NoWaiting<'a> {
    state: &'a mut GuestState,
}

impl HasData for NoWaiting<'static> {
    type Data<'a> = NoWaiting<'a>;
}

impl NoWaiting<'_> {
    fn refuse() -> wasmtime::Error {
        wasmtime::Error::msg("the guest asked to wait; plugins return at once, and `wasi = \"quiet\"` offers no timers")
    }
}

impl monotonic_clock::Host for NoWaiting<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.state.count_host_call()?;
        Ok(HostMonotonicClock::now(&CoarseClock))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        self.state.count_host_call()?;
        Ok(HostMonotonicClock::resolution(&CoarseClock))
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(Self::refuse())
    }

    fn subscribe_duration(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(Self::refuse())
    }
}

/// Both clocks, cut to whole milliseconds: a fine clock is what timing attacks are made of.
struct CoarseClock;

const GRAIN: Duration = Duration::from_millis(1);

impl HostWallClock for CoarseClock {
    fn resolution(&self) -> Duration {
        GRAIN
    }

    fn now(&self) -> Duration {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Duration::new(now.as_secs(), now.subsec_millis() * 1_000_000)
    }
}

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(1_000_000)
    }
}

/// Standard output or error: whole lines become log lines of the plugin.
#[derive(Clone)]
struct LogLines {
    plugin: Arc<str>,
    level: Level,
    meter: Option<Arc<PluginMeter>>,
    /// Of both streams together.
    quota: Arc<Mutex<Quota>>,
    line: Arc<Mutex<Vec<u8>>>,
}

/// What a guest may still print in one request.
struct Quota {
    /// Bytes, lines' overhead included.
    left: usize,
    /// That there is nothing left has been said.
    is_told: bool,
}

impl LogLines {
    fn print(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, &byte) in bytes.iter().enumerate() {
            if !self.pays(if byte == b'\n' { LOG_LINE_OVERHEAD_BYTES } else { 1 }) {
                self.dropped(bytes.len() - place);
                return;
            }
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() >= LOG_LINE_BYTES_MAX {
                self.put(&line);
                line.clear();
            }
        }
    }

    /// Takes `cost` bytes of the quota, if they are there.
    fn pays(&self, cost: usize) -> bool {
        let mut quota = self.quota();
        let rest = quota.left.checked_sub(cost);
        quota.left = rest.unwrap_or(0);
        rest.is_some()
    }

    fn dropped(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.log_dropped(bytes);
        }
        if !std::mem::replace(&mut self.quota().is_told, true) {
            tracing::warn!(target: "plugin", plugin = &*self.plugin, "the plugin printed more than it may in one request; the rest is dropped");
        }
    }

    /// Writes what has not ended with a newline.
    fn end_line(&self) {
        let line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        self.put(&line);
    }

    fn quota(&self) -> MutexGuard<'_, Quota> {
        // Nothing that can panic half way runs under this lock.
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        if !line.is_empty() {
            let mut escaped = String::new();
            escape_into(&mut escaped, &String::from_utf8_lossy(line));
            write_line(self.level, &self.plugin, &escaped);
        }
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        // The last owner writes what did not end with a newline, such as a runtime's last words.
        if let Some(line) = Arc::get_mut(&mut self.line) {
            let line = std::mem::take(line.get_mut().unwrap_or_else(PoisonError::into_inner));
            self.put(&line);
        }
    }
}

impl IsTerminal for LogLines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogLines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, and we do not link it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogLines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogLines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(LOG_LINE_BYTES_MAX)
    }
}
