//! Files with cases: what is sent, what the model answers, and what is expected to come of it. For plugins in any language.
//!
//! The format is described for authors in `plugins/TESTING.md`.

mod expect;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use inference::ChatRequest;
use serde::Deserialize;
use serde_json::{Value, json};

pub use expect::{AtMost, Expect, ExpectedCall, Rejected};

use crate::limits::{ANSWER_BYTES_MAX, CASE_FILE_BYTES_MAX, TIMES_MAX};
use crate::stand_in;

/// A file of cases.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// The stand-in's chat template; `None`: one in the form that most models have.
    pub chat_template: Option<String>,
    /// Its cases; at least one.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about, in a line.
    pub name: String,
    /// The plugin's configuration: a JSON object.
    pub config_json: String,
    /// What is sent.
    pub request: ChatRequest,
    /// With these headers, of which the plugin sees those that its manifest asks for.
    pub headers: Vec<(String, String)>,
    /// How often it is sent; what is expected is of the last time.
    pub times: u32,
    /// What the model answers; `None`: it is not asked.
    pub answer: Option<String>,
    /// What is expected.
    pub expect: Expect,
}

/// Why a file of cases cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the cases in {}: {reason}", path.display())]
pub struct CaseError {
    /// The file.
    pub path: PathBuf,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    config: toml::Table,
    chat_template: Option<String>,
    #[serde(default)]
    case: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    config: Option<toml::Table>,
    request: Option<WrittenRequest>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default = "once")]
    times: u32,
    answer: Option<String>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the user's text, or a table as the body of POST /v1/chat/completions")]
enum WrittenRequest {
    Text(String),
    Body(toml::Table),
}

fn once() -> u32 {
    1
}

impl CaseFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, CaseError> {
        let refuse = |reason: String| CaseError { path: path.to_owned(), reason };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
        file.take(CASE_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
        if text.len() as u64 == CASE_FILE_BYTES_MAX {
            return Err(refuse(format!("it has {CASE_FILE_BYTES_MAX} bytes or more; make several of it")));
        }
        Self::parse(path, &text).map_err(refuse)
    }

    /// Reads all `*.toml` of a folder, by name. No folder, no files; one that cannot be read is not none.
    pub fn read_folder(folder: &Path) -> Result<Vec<Self>, CaseError> {
        let refuse = |error: io::Error| CaseError { path: folder.to_owned(), reason: error.to_string() };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(refuse)?,
        };
        let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(refuse)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && path.is_file());
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let line = |error: &toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            before.matches('\n').count() + 1
        };
        let toml = toml::Deserializer::parse(text)
            .map_err(|error| format!("line {}: {}", line(&error), error.message().trim_end()))?;
        let File { config, chat_template, case } = serde_path_to_error::deserialize(toml).map_err(|error| {
            let (place, inner) = (error.path().to_string(), error.inner());
            format!("line {}, `{place}`: {}", line(inner), inner.message().trim_end())
        })?;
        if case.is_empty() {
            return Err("it has no case; a case begins with [[case]]".to_owned());
        }
        let mut cases: Vec<Case> = Vec::with_capacity(case.len());
        for written in case {
            let name = written.name.clone();
            if cases.iter().any(|case| case.name == name) {
                return Err(format!("two cases are called `{name}`"));
            }
            cases.push(checked(written, &config).map_err(|reason| format!("case `{name}`: {reason}"))?);
        }
        Ok(Self { path: path.to_owned(), chat_template, cases })
    }
}

impl Case {
    /// A case as a file has it, from whoever has it as JSON.
    pub(crate) fn of_json(value: Value) -> Result<Self, String> {
        let written = serde_path_to_error::deserialize(value).map_err(|error| format!("the case: {error}"))?;
        checked(written, &toml::Table::new())
    }
}

fn checked(written: Written, config: &toml::Table) -> Result<Case, String> {
    let Written { name, config: own, request, headers, times, answer, expect } = written;
    if name.trim().is_empty() || name.contains('\n') {
        return Err("its `name` is no line of text".to_owned());
    }
    if times == 0 || times > TIMES_MAX {
        return Err(format!("`times` is {times}; 1 to {TIMES_MAX} is possible"));
    }
    if answer.as_ref().is_some_and(|answer| answer.len() > ANSWER_BYTES_MAX) {
        return Err(format!("`answer` has more than {ANSWER_BYTES_MAX} bytes, the most that is cut in every way"));
    }
    expect.check(answer.is_some())?;
    let config_json = plugin::config_json(own.as_ref().unwrap_or(config)).map_err(|error| error.to_string())?;
    let request = match request {
        None => body_of("Hello!"),
        Some(WrittenRequest::Text(text)) => body_of(&text),
        Some(WrittenRequest::Body(table)) => {
            let mut body = serde_json::to_value(table).map_err(|error| error.to_string())?;
            if let Some(body) = body.as_object_mut() {
                body.entry("model").or_insert_with(|| stand_in::ID.into());
            }
            body
        }
    };
    let request =
        server::chat_request(request.to_string().as_bytes()).map_err(|reason| format!("`request`: {reason}"))?;
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    Ok(Case { name, config_json, request, headers, times, answer, expect })
}

fn body_of(text: &str) -> Value {
    json!({"model": stand_in::ID, "messages": [{"role": "user", "content": text}]})
}

/// A request of one text, as a case has it.
pub fn request_of(text: &str) -> Result<ChatRequest, String> {
    server::chat_request(body_of(text).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CaseFile, String> {
        CaseFile::parse(Path::new("tests/a.toml"), text)
    }

    #[test]
    fn a_case_has_the_file_s_configuration_or_its_own() {
        let file = parse(
            "config = { words = ['a'] }\n[[case]]\nname = 'one'\n[[case]]\nname = 'two'\nconfig = {}\nrequest = 'Hi'\nheaders = { X-A = 'b' }",
        );
        let file = file.expect("cases");
        assert_eq!(
            (file.cases[0].config_json.as_str(), file.cases[1].config_json.as_str()),
            (r#"{"words":["a"]}"#, "{}")
        );
        assert_eq!(file.cases[1].headers, [("x-a".to_owned(), "b".to_owned())]);
        assert_eq!(file.cases[1].request.messages[0].parts, [inference::Part::Text("Hi".to_owned())]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(CaseFile::read_folder(&folder.path().join("tests")).expect("no cases").len(), 0);
        fs::write(folder.path().join("tests"), "").expect("written");
        let error = CaseFile::read_folder(&folder.path().join("tests")).expect_err("no folder").to_string();
        assert!(error.starts_with("cannot use the cases in ") && error.contains("directory"), "{error}");
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, expected) in [
            ("", "it has no case"),
            ("[[case]]\nname = 'a'\nansver = 'b'", "line 3, `case[0].ansver`: unknown field `ansver`"),
            (
                "[[case]]\nname = 'a'\nexpect = { output = 'b' }",
                "case `a`: `expect.output` is of an answer, and there is no",
            ),
            (
                "[[case]]\nname = 'a'\nanswer = ''\nexpect = { finish = 'end' }",
                "`expect.finish` is `end`; stop, length",
            ),
            ("[[case]]\nname = 'a'\nrequest = { messages = 'b' }", "case `a`: `request`: "),
            ("[[case]]\nname = 'a'\n[[case]]\nname = 'a'", "two cases are called `a`"),
            ("[[case]]\nname = 'a'\ntimes = 0", "`times` is 0; 1 to"),
            ("[[case]]\nname = 'a'\nexpect = { fault = 'crash' }", "`expect.fault` is `crash`; trap, timeout,"),
            (
                "[[case]]\nname = 'a'\nexpect = { fault = 'trap', invalid = '' }",
                "`expect.invalid` and `expect.fault` cannot both be",
            ),
            (
                "[[case]]\nname = 'a'\nexpect = { rejected = {}, prompt = '' }",
                "`expect.prompt` is not there to be judged beside",
            ),
            (
                "[[case]]\nname = 'a'\nexpect = { fault = 'trap', at_most = { held_bytes = 1 } }",
                "`expect.at_most` is not there",
            ),
            (
                "[[case]]\nname = 'a'\nanswer = ''\nexpect = { steps = [{ only = '' }] }",
                "`expect.steps[0]` names no token",
            ),
            ("[[case]]\nname = 'a'\nanswer = ''\nexpect = { steps = ['fre'] }", "unknown variant `fre`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
