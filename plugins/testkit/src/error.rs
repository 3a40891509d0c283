//! What went wrong with a trial. `unwrap` shows it as people read it.

use std::fmt;
use std::io;

/// What went wrong with a trial.
#[non_exhaustive]
pub enum Error {
    /// There is no `outrigger` to ask.
    NoOutrigger {
        /// What was looked for.
        program: String,
        /// Why it could not be started.
        source: io::Error,
    },
    /// The component could not be built.
    Build(String),
    /// The component could not be opened.
    Open(String),
    /// The `outrigger` that was found and this crate do not understand each other.
    Protocol {
        /// What it was.
        program: String,
        /// What it said.
        said: String,
    },
    /// It ended before it had answered.
    Ended(String),
    /// The trial cannot be run: the plugin does not load with this configuration, or the request is not one.
    Refused(String),
    /// What has to hold for every answer does not.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOutrigger { program, source } => write!(
                f,
                "cannot start `{program}`, which runs components for tests: {source}\n\
                 Run the tests with `outrigger plugin test`, put outrigger's folder into PATH, or name it: \
                 OUTRIGGER=/path/to/outrigger cargo test"
            ),
            Self::Build(said) => write!(f, "the component could not be built:\n{said}"),
            Self::Open(said) => write!(f, "the component could not be opened:\n{said}"),
            Self::Protocol { program, said } => write!(
                f,
                "`{program}` speaks another protocol than this outrigger-plugin-test, which speaks {}: {said}\n\
                 Take both from the same release: `outrigger plugin new` writes the one that belongs to it",
                crate::process::PROTOCOL
            ),
            Self::Ended(said) => write!(f, "outrigger ended before it had answered:\n{said}"),
            Self::Refused(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoOutrigger { source, .. } => Some(source),
            _ => None,
        }
    }
}
