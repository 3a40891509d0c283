//! `tojson` as Hugging Face defines it: `json.dumps(value, ensure_ascii=False)`, with no HTML escaping.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::limits::JSON_DEPTH_MAX;

/// The filter. Takes the keyword arguments of `json.dumps` that Hugging Face passes on.
#[expect(clippy::needless_pass_by_value, reason = "the engine gives filters their options by value")]
pub(crate) fn tojson(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = match options.get::<Option<bool>>("ensure_ascii")? {
        Some(said) => said,
        None => ensure_ascii.unwrap_or(false),
    };
    let indent = indent(options.get::<Option<Value>>("indent")?)?;
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let (between, colon) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([between, colon]) => (between.clone(), colon.clone()),
        Some(_) => return Err(invalid("`separators` of `tojson` must be a pair")),
    };
    let mut dump = Dump { text: String::new(), ensure_ascii, indent, between, colon, sort_keys };
    dump.value(value, 0)?;
    Ok(dump.text)
}

/// As in Python, a number means so many spaces and a string means itself.
fn indent(said: Option<Value>) -> Result<Option<String>, Error> {
    let Some(said) = said.filter(|said| !said.is_none() && !said.is_undefined()) else { return Ok(None) };
    if let Some(text) = said.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let width = i64::try_from(said).map_err(|_| invalid("`indent` of `tojson` must be a number or a string"))?;
    usize::try_from(width.max(0))
        .ok()
        .filter(|&width| width <= INDENT_MAX)
        .map(|width| Some(" ".repeat(width)))
        .ok_or_else(|| invalid("`indent` of `tojson` is too large"))
}

/// Spaces per level: beyond this a template wants to fill memory, not to be read.
const INDENT_MAX: usize = 64;

struct Dump {
    text: String,
    ensure_ascii: bool,
    indent: Option<String>,
    between: String,
    colon: String,
    sort_keys: bool,
}

impl Dump {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > JSON_DEPTH_MAX {
            return Err(invalid("a value given to `tojson` is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items('[', ']', &items, depth, Self::value)?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.items('{', '}', &keys, depth, |dump, key, depth| {
                    dump.key(key);
                    let colon = dump.colon.clone();
                    dump.text.push_str(&colon);
                    dump.value(&value.get_item(key)?, depth)
                })?;
            }
            kind => return Err(invalid(&format!("a value of type {kind} cannot be written as JSON"))),
        }
        Ok(())
    }

    fn items(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                let between = self.between.clone();
                self.text.push_str(&between);
            }
            self.line(depth + 1);
            write(self, item, depth + 1)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            for _ in 0..depth {
                self.text.push_str(indent);
            }
        }
    }

    /// Python turns keys that are no strings into what they look like as JSON.
    fn key(&mut self, key: &Value) {
        match key.kind() {
            ValueKind::None => self.string("null"),
            ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
            _ => self.string(&key.to_string()),
        }
    }

    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            self.text.push_str(&value.to_string());
        } else {
            let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
            self.text.push_str(&float(number));
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(character),
                '\u{7f}'.. if self.ensure_ascii && character != '\u{7f}' => self.escape(character),
                character => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, character: char) {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _ = write!(self.text, "\\u{unit:04x}");
        }
    }
}

/// Python's `repr` of a float: the shortest digits, with an exponent outside of 1e-4..1e16.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = number.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (123_456_789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(float(number), expected);
        }
    }
}
