//! The `outrigger` that is asked: a line of JSON for each question, and one for each answer.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Ran};

/// What this crate understands.
pub(crate) const PROTOCOL: u32 = 1;

/// An `outrigger plugin harness`. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    /// `None`: there are no more questions.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Greeting {
    protocol: u32,
    plugin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ran(Box<Ran>),
    Failed(String),
    Error(String),
}

/// The program that is asked: what `OUTRIGGER` names, as `outrigger plugin test` has it do, or the one in `PATH`.
pub(crate) fn outrigger() -> OsString {
    env::var_os("OUTRIGGER").filter(|program| !program.is_empty()).unwrap_or_else(|| "outrigger".into())
}

/// Builds the component; what the compiler says is told where it fails.
pub(crate) fn build(program: &OsStr, folder: &Path) -> Result<(), Error> {
    let output = command(program).args(["plugin", "build"]).arg(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|source| no_outrigger(program, source))?;
    let said = || String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if output.status.success() { Ok(()) } else { Err(Error::Build(said())) }
}

impl Process {
    /// Opens the component in `folder`, and says what it is called.
    pub(crate) fn start(program: &OsStr, folder: &Path) -> Result<(Self, String), Error> {
        let mut command = command(program);
        command.args(["plugin", "harness"]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| no_outrigger(program, source))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Open("its standard input and output are not there".to_owned()));
        };
        let mut this = Self { child, questions: Some(questions), answers: BufReader::new(answers) };
        let said = this.read().ok_or_else(|| Error::Open(this.last_words()))?;
        match serde_json::from_str(&said) {
            Ok(Greeting { protocol: PROTOCOL, plugin }) => Ok((this, plugin)),
            _ => Err(Error::Protocol { program: program.to_string_lossy().into_owned(), said: said.trim().to_owned() }),
        }
    }

    pub(crate) fn ask(&mut self, question: &Value) -> Result<Ran, Error> {
        let sent =
            self.questions.as_mut().map(|questions| writeln!(questions, "{question}").and_then(|()| questions.flush()));
        let answer = match sent {
            Some(Ok(())) => self.read(),
            _ => None,
        };
        let answer = answer.ok_or_else(|| Error::Ended(self.last_words()))?;
        match serde_json::from_str(&answer) {
            Ok(Answer::Ran(ran)) => Ok(*ran),
            Ok(Answer::Failed(reason)) => Err(Error::Failed(reason)),
            Ok(Answer::Error(reason)) => Err(Error::Refused(reason)),
            Err(error) => {
                Err(Error::Protocol { program: "outrigger".to_owned(), said: format!("{error} in {answer}") })
            }
        }
    }

    /// A line; `None`: there are no more.
    fn read(&mut self) -> Option<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
    }

    /// What it said when it ended.
    fn last_words(&mut self) -> String {
        self.questions = None;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What cannot be read is not told.
            let _ = stderr.read_to_string(&mut said);
        }
        said.trim_end().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.questions = None;
        // It may be in the middle of something that nobody waits for any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that nothing configures but the plugin's own folder.
fn command(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OUTRIGGER_")) {
        command.env_remove(name);
    }
    command
}

fn no_outrigger(program: &OsStr, source: std::io::Error) -> Error {
    Error::NoOutrigger { program: program.to_string_lossy().into_owned(), source }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// An `outrigger` that says these lines, takes two questions, and ends.
    fn saying(name: &str, lines: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("outrigger-plugin-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let program = folder.join("outrigger");
        let script = format!("#!/bin/sh\ncat <<'END'\n{lines}\nEND\nread one\nread two\necho 'its last words' >&2\n");
        fs::write(&program, script).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        program
    }

    fn started(program: &Path) -> Result<(Process, String), Error> {
        let started = Process::start(program.as_os_str(), Path::new("."));
        if let Some(folder) = program.parent().filter(|folder| folder.starts_with(env::temp_dir())) {
            fs::remove_dir_all(folder).expect("removed");
        }
        started
    }

    /// One test: a program that is written while another thread starts one is "busy".
    #[test]
    fn who_is_asked_answers_or_it_is_said_why_not() {
        let none = started(Path::new("/nowhere/outrigger")).err().expect("nothing is there").to_string();
        assert!(none.contains("`/nowhere/outrigger`") && none.contains("OUTRIGGER=/path/to/outrigger"), "{none}");

        let other = saying("protocol", r#"{"protocol": 99, "plugin": "a"}"#);
        let other = started(&other).err().expect("another protocol").to_string();
        assert!(other.contains("which speaks 1: {\"protocol\": 99"), "{other}");

        let greeting = r#"{"protocol": 1, "outrigger": "0.1.0", "plugin": "a"}"#;
        let lines = format!("{greeting}\n{{\"failed\": \"another answer\"}}\n{{\"error\": \"no plugin\"}}");
        let (mut process, name) = started(&saying("answers", &lines)).expect("it greets");
        assert_eq!(name, "a");
        let mut ask = || process.ask(&Value::Null).expect_err("none of them ran");
        assert!(matches!(ask(), Error::Failed(reason) if reason == "another answer"));
        assert!(matches!(ask(), Error::Refused(reason) if reason == "no plugin"));
        assert!(matches!(ask(), Error::Ended(said) if said == "its last words"));
    }
}
