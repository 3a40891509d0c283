//! What the host offers to guests. `model`, `log`, `config` and `clock` are every guest's; `kv` and `metrics`, whose code is
//! in modules of their own, are linked like them; what of them was not granted answers so.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use inference::{SpecialTokens, Vocabulary};
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::outrigger::plugin::{clock, config, kv, log, metrics, model, types};
use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINE_OVERHEAD_BYTES};
use crate::state::GuestState;
use crate::text::escape_into;

/// Links everything.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    model::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    log::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    kv::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)?;
    clock::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
}

/// The interfaces that [`link`] provides, by name without package and version.
pub(crate) const OFFERED: [&str; 7] = ["types", "model", "log", "config", "kv", "metrics", "clock"];

impl types::Host for GuestState {}

impl model::Host for GuestState {
    fn describe(&mut self) -> wasmtime::Result<model::Info> {
        self.count_host_call()?;
        let card = self.owner.model.card();
        Ok(model::Info {
            id: card.id.clone(),
            revision: card.revision.clone(),
            architecture: card.architecture.clone(),
            context_length: card.context_length,
            vocab_size: self.owner.model.vocabulary().size(),
            bos_text: card.bos_text.clone(),
            eos_text: card.eos_text.clone(),
        })
    }

    fn chat_template(&mut self) -> wasmtime::Result<Option<String>> {
        self.count_host_call()?;
        Ok(self.owner.model.card().chat_template.clone())
    }

    fn tokenize(&mut self, text: String, special: bool) -> wasmtime::Result<Vec<u32>> {
        let special = if special { SpecialTokens::Recognised } else { SpecialTokens::Literal };
        let tokens = self.on_its_time(|state| state.owner.model.vocabulary().tokenize(&text, special))?;
        Ok(tokens.into_iter().map(|token| token.0).collect())
    }

    fn control_tokens(&mut self, text: String) -> wasmtime::Result<Vec<model::Span>> {
        self.on_its_time(|state| control_tokens(state.owner.model.vocabulary(), &text))
    }

    fn count_tokens(&mut self, text: String) -> wasmtime::Result<u32> {
        let count = |state: &Self| state.owner.model.vocabulary().tokenize(&text, SpecialTokens::Literal).len();
        Ok(u32::try_from(self.on_its_time(count)?).unwrap_or(u32::MAX))
    }

    fn vocabulary(&mut self) -> wasmtime::Result<model::TokenTable> {
        self.on_its_time(|state| {
            let table = state.owner.model.token_table();
            model::TokenTable { offsets: table.offsets.clone(), bytes: table.bytes.clone() }
        })
    }
}

fn control_tokens(vocabulary: &dyn Vocabulary, text: &str) -> Vec<model::Span> {
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some((found, _)) = vocabulary.find_control_token(&text[from..]) {
        // A control token without text would be found at the same place for ever.
        if found.is_empty() {
            break;
        }
        let offset = |place: usize| u32::try_from(from + place).unwrap_or(u32::MAX);
        spans.push(model::Span { start: offset(found.start), end: offset(found.end) });
        from += found.end;
    }
    spans
}

impl config::Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.count_host_call()?;
        let value = key.split('.').try_fold(&self.owner.config, |value, part| value.get(part));
        Ok(value.map(ToString::to_string))
    }

    fn all(&mut self) -> wasmtime::Result<String> {
        self.count_host_call()?;
        Ok(self.owner.config_json.clone())
    }
}

impl clock::Host for GuestState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.count_host_call()?;
        Ok(u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn unix_seconds(&mut self) -> wasmtime::Result<u64> {
        self.count_host_call()?;
        Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

impl log::Host for GuestState {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        self.count_host_call()?;
        Ok(is_logged(level))
    }

    fn log(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.count_host_call()?;
        if !is_logged(level) {
            return Ok(());
        }
        let given = LOG_LINE_OVERHEAD_BYTES
            + message.len()
            + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if !self.may_log(given) {
            return Ok(());
        }
        let mut line = String::new();
        escape_into(&mut line, &message[..message.floor_char_boundary(LOG_LINE_BYTES_MAX)]);
        for (name, value) in &fields {
            if line.len() > LOG_LINE_BYTES_MAX {
                break;
            }
            line.push(' ');
            escape_into(&mut line, name);
            line.push('=');
            escape_into(&mut line, &value[..value.floor_char_boundary(LOG_LINE_BYTES_MAX)]);
        }
        line.truncate(line.floor_char_boundary(LOG_LINE_BYTES_MAX));
        write_line(level, &self.owner.name, &line);
        Ok(())
    }
}

impl GuestState {
    /// Does for a guest what takes as long as what it gave is long. No tick of the guest's meets that, so its clock is read before,
    /// and behind it the guest may have no time left. One call's work has an end, since `call_bytes` bounds what is given.
    fn on_its_time<T>(&mut self, work: impl FnOnce(&Self) -> T) -> wasmtime::Result<T> {
        self.count_host_call()?;
        self.budget.check()?;
        let done = work(self);
        self.budget.check()?;
        Ok(done)
    }

    /// Counts `bytes` of log text. The first text that is too much is replaced by a line that says so.
    pub(crate) fn may_log(&mut self, bytes: usize) -> bool {
        let limit = self.owner.limits.log_bytes_max;
        if self.log_bytes > limit {
            self.log_dropped(bytes);
            return false;
        }
        self.log_bytes = self.log_bytes.saturating_add(bytes);
        let fits = self.log_bytes <= limit;
        if !fits {
            tracing::warn!(target: "plugin", plugin = self.owner.name, "the plugin logged more than {limit} bytes in one request; the rest is dropped");
            self.log_dropped(bytes);
        }
        fits
    }

    fn log_dropped(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.log_dropped(bytes);
        }
    }
}

fn is_logged(level: log::Level) -> bool {
    match level {
        log::Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
        log::Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        log::Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        log::Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        log::Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
    }
}

/// tracing wants levels at compile time.
pub(crate) fn write_line(level: log::Level, plugin: &str, line: &str) {
    match level {
        log::Level::Trace => tracing::trace!(target: "plugin", plugin, "{line}"),
        log::Level::Debug => tracing::debug!(target: "plugin", plugin, "{line}"),
        log::Level::Info => tracing::info!(target: "plugin", plugin, "{line}"),
        log::Level::Warn => tracing::warn!(target: "plugin", plugin, "{line}"),
        log::Level::Error => tracing::error!(target: "plugin", plugin, "{line}"),
    }
}
