#![doc = include_str!("../README.md")]

mod error;
mod process;
mod ran;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use error::Error;
pub use ran::{Failed, Limits, Ran, ToolCall, Used};
/// JSON as it is written, for configurations and requests.
pub use serde_json::json;
pub use trial::Trial;

use process::Process;

/// A plugin's component, in a sandbox that waits for questions. Tests may share one, on several threads too.
pub struct Component {
    name: String,
    process: Mutex<Process>,
}

impl Component {
    /// Builds the plugin in `folder` (mostly `env!("CARGO_MANIFEST_DIR")`), and opens what was built.
    pub fn build(folder: impl AsRef<Path>) -> Result<Self, Error> {
        static BUILT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let folder = folder.as_ref();
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if !built.iter().any(|path| path == folder) {
            process::build(&process::outrigger(), folder)?;
            built.push(folder.to_owned());
        }
        drop(built);
        Self::open(folder)
    }

    /// Opens the component that is in `folder` already.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let (process, name) = Process::start(&process::outrigger(), folder.as_ref())?;
        Ok(Self { name, process: Mutex::new(process) })
    }

    /// What its manifest calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A trial in which this is asked: the user's text, or a body as `POST /v1/chat/completions` takes it. The model is not
    /// asked, unless [`Trial::answer`] says what it answers.
    pub fn request(&self, request: impl Into<serde_json::Value>) -> Trial<'_> {
        Trial::new(self).with("request", request.into())
    }

    /// A trial in which the model answers this.
    pub fn answer(&self, answer: impl Into<String>) -> Trial<'_> {
        Trial::new(self).answer(answer)
    }

    fn ask(&self, question: &serde_json::Value) -> Result<Ran, Error> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).ask(question)
    }
}
