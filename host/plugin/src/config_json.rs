//! A configuration on its way from TOML to the JSON that a plugin reads: exactly what was written, or an error.

use toml::Value;

/// A value that TOML has and JSON has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is {what}", self.key())]
pub struct NotJson {
    /// The way to it, from the table on.
    pub path: Vec<String>,
    what: &'static str,
}

impl NotJson {
    fn key(&self) -> String {
        std::iter::once("config").chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join(".")
    }
}

/// The table as a JSON object. A serializer would make `null` of numbers that are none, and an object of its own invention of a
/// date.
#[expect(clippy::missing_panics_doc, reason = "it cannot fail: keys are texts, and what JSON has not was looked for")]
pub fn config_json(config: &toml::Table) -> Result<String, NotJson> {
    let mut path = Vec::new();
    if let Some(what) = config.iter().find_map(|(key, value)| wrong(key, value, &mut path)) {
        path.reverse();
        return Err(NotJson { path, what });
    }
    Ok(serde_json::to_string(config).expect("a table of texts, numbers, truths and more of them is JSON"))
}

/// What is wrong with a value, and the way to it, from its end.
fn wrong(key: &str, value: &Value, path: &mut Vec<String>) -> Option<&'static str> {
    let what = match value {
        Value::Datetime(_) => Some("a date or a time, which JSON does not have; write it as a text, in quotes"),
        Value::Float(number) if !number.is_finite() => {
            Some("no finite number, and JSON has no other; leave it out, or write a text")
        }
        Value::Array(items) => items.iter().enumerate().find_map(|(place, item)| wrong(&place.to_string(), item, path)),
        Value::Table(table) => table.iter().find_map(|(key, value)| wrong(key, value, path)),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => None,
    };
    if what.is_some() {
        path.push(key.to_owned());
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(toml: &str) -> Result<String, String> {
        config_json(&toml.parse().expect("TOML")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_json_has_is_the_same_there() {
        let toml = "a = 0.1\nb = -9223372036854775808\nc = [true, 'x', { d = 1e300 }]\n[e]\nf = -0.0";
        assert_eq!(
            json(toml).as_deref(),
            Ok(r#"{"a":0.1,"b":-9223372036854775808,"c":[true,"x",{"d":1e+300}],"e":{"f":-0.0}}"#)
        );
    }

    #[test]
    fn what_json_has_not_is_told_with_its_place() {
        for (toml, words) in [
            ("since = 2026-01-01", "`config.since` is a date or a time"),
            ("a = [1, { at = 07:30:00 }]", "`config.a.1.at` is a date or a time"),
            ("a.b = nan", "`config.a.b` is no finite number"),
            ("a = -inf", "`config.a` is no finite number"),
        ] {
            let error = json(toml).expect_err(toml);
            assert!(error.contains(words), "{error}");
        }
    }
}
