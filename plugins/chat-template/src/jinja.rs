//! The template engine, set up as Hugging Face sets up jinja2.

use std::borrow::Cow;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::json::tojson;
use crate::limits::{RENDER_DEPTH_MAX, RENDER_INSTRUCTIONS_MAX};
use crate::strftime::strftime;

/// The name that errors give the template.
const NAME: &str = "chat_template";

/// What a template said with `raise_exception`.
#[derive(Debug)]
pub(crate) struct Raised(pub(crate) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Raised {
    /// The message behind `error`, where a template raised it, however deep inside macros.
    pub(crate) fn in_error(error: &Error) -> Option<&Self> {
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(raised) = cause.downcast_ref() {
                return Some(raised);
            }
            source = cause.source();
        }
        None
    }
}

/// Renders a template.
pub(crate) fn render(source: &str, unix_seconds: u64, variables: Value) -> Result<String, Error> {
    let mut environment = environment(unix_seconds);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    let source = without_generation_tags(source);
    environment.add_template(NAME, &source)?;
    environment.get_template(NAME)?.render(variables)
}

/// The functions that templates find. A variable of the same name would hide one.
pub(crate) fn functions() -> Vec<String> {
    environment(0).globals().map(|(name, _)| name.to_owned()).collect()
}

fn environment<'source>(unix_seconds: u64) -> Environment<'source> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_recursion_limit(RENDER_DEPTH_MAX);
    environment.set_fuel(Some(RENDER_INSTRUCTIONS_MAX));
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception").with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |format: String| strftime(unix_seconds, &format));
    // jinja2 has none, so it is a name like any other.
    environment.remove_global("debug");
    environment
}

/// `{% generation %}` marks what the model wrote, for training. It renders nothing, so it becomes an `if` that holds:
/// a block tag like it, with the same effect on the whitespace around it.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (open, close) = (start + 2, start + length);
        let tag = rest[open..close].trim_matches(['-', '+']);
        text.push_str(&rest[..open]);
        match tag.trim() {
            "generation" => text.push_str(&rest[open..close].replace("generation", "if true")),
            "endgeneration" => text.push_str(&rest[open..close].replace("endgeneration", "endif")),
            _ => text.push_str(&rest[open..close]),
        }
        text.push_str("%}");
        rest = &rest[close + 2..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}
