//! The log: one subscriber per process, on standard error.
//!
//! Text for people on a terminal, JSON lines for machines elsewhere. Both escape control characters, so that what a
//! client or a plugin wrote cannot forge a line.

use std::fmt;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::{MakeWriter, format};
use tracing_subscriber::util::TryInitError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text where standard error is a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("log filter `{filter}` is invalid; write a level (`info`) or rooms with levels (`info,engine=debug`)")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: ParseError,
    },
    /// Another subscriber is there already.
    #[error("logging was set up twice in this process")]
    AlreadySet(#[source] TryInitError),
}

/// Sends the process's events to standard error. `filter` is a list of `target=level`, where targets are rooms:
/// `info,engine=debug,plugin=trace`. `writer` makes what writes to standard error: `std::io::stderr`, or what knows its way
/// around a progress bar there.
pub fn init<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_terminal = std::io::stderr().is_terminal();
    let is_text = match format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let subscriber = subscriber(is_text, is_terminal, parse(filter)?, writer);
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).map_err(LoggingError::AlreadySet)
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })
}

fn subscriber<W>(
    is_text: bool,
    with_colour: bool,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(with_colour);
    if is_text {
        // What the library escapes of a text leaves its newlines.
        let fields = format::debug_fn(|writer, field, value| match field.name() {
            "message" => write_in_one_line(writer, format_args!("{value:?}")),
            name => {
                write!(writer, "{name}=")?;
                write_in_one_line(writer, format_args!("{value:?}"))
            }
        });
        Box::new(builder.fmt_fields(fields.delimited(" ")).finish())
    } else {
        Box::new(builder.json().flatten_event(true).finish())
    }
}

/// Writes a text with its control characters as Rust spells them.
fn write_in_one_line(writer: &mut format::Writer<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    let text = text.to_string();
    let mut plain = text.as_str();
    while let Some(place) = plain.find(|letter: char| letter.is_control()) {
        let (before, rest) = plain.split_at(place);
        let mut letters = rest.chars();
        write!(writer, "{before}{}", letters.by_ref().take(1).flat_map(char::escape_default).collect::<String>())?;
        plain = letters.as_str();
    }
    writer.write_str(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(is_text: bool, filter: &str, events: fn()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(is_text, false, parse(filter).expect("a good filter"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let bytes = sink.0.lock().expect("no writer panicked").clone();
        String::from_utf8(bytes).expect("logs are text")
    }

    #[test]
    fn json_lines_carry_fields_at_the_top() {
        let line = logged(false, "info", || tracing::info!(tokens = 3, "request ended"));
        let value: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!(value["message"], "request ended");
        assert_eq!(value["tokens"], 3);
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn the_filter_goes_by_room() {
        let text = logged(true, "warn,engine=debug", || {
            tracing::info!(target: "server", "quiet");
            tracing::debug!(target: "engine", "loud");
        });
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    // CVE-2025-58160: what others wrote must not move the cursor or start a line.
    #[test]
    fn control_characters_do_not_reach_the_log() {
        for is_text in [true, false] {
            let text = logged(is_text, "info", || {
                let (moves, forges) = ("c\u{1b}]0;d\u{9b}", "e\r\n1970-01-01T00:00:00Z ERROR server: f");
                tracing::info!(%forges, quoted = forges, "a\u{1b}[2Jb {moves} {forges}");
            });
            // JSON is for programs, to which the controls beyond ASCII are text.
            let acts = |letter: char| letter.is_control() && (is_text || letter.is_ascii());
            assert!(!text.trim_end().contains(acts), "{text:?}");
            assert_eq!(text.lines().count(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = parse("server=loud").expect_err("`loud` is no level");
        assert!(error.to_string().contains("`server=loud`"), "{error}");
    }
}
