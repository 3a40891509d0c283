//! Where in the file the keys of plugins' configurations stand: what a plugin objects to is found by its line.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The lines of a table's keys, by the way to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConfigLines(BTreeMap<Vec<String>, usize>);

impl ConfigLines {
    /// The line of the key, or of what it should stand in.
    pub(crate) fn of(&self, path: &[String]) -> Option<usize> {
        (0..=path.len()).rev().find_map(|length| self.0.get(&path[..length])).copied()
    }
}

/// The lines of every `[[plugin]]` table's configuration, in their order; none for what is no TOML.
pub(super) fn config_lines(text: &str) -> Vec<ConfigLines> {
    lines_of(text, "plugin", |table| match table.get_ref() {
        DeValue::Table(table) => table.get("config"),
        _ => None,
    })
}

/// The lines of every `[[model]]` table, likewise.
pub(super) fn model_lines(text: &str) -> Vec<ConfigLines> {
    lines_of(text, "model", |table| Some(table))
}

/// The lines of the part that `choose` takes of every table of the array `key`.
fn lines_of(
    text: &str,
    key: &str,
    choose: impl for<'a, 'b> Fn(&'a Spanned<DeValue<'b>>) -> Option<&'a Spanned<DeValue<'b>>>,
) -> Vec<ConfigLines> {
    let Ok(file) = DeTable::parse(text) else { return Vec::new() };
    let Some(DeValue::Array(tables)) = file.get_ref().get(key).map(Spanned::get_ref) else { return Vec::new() };
    let lines = |table: &Spanned<DeValue<'_>>| {
        let mut lines = ConfigLines::default();
        if let Some(chosen) = choose(table) {
            note(text, chosen, &mut Vec::new(), &mut lines);
        }
        lines
    };
    tables.iter().map(lines).collect()
}

fn note(text: &str, value: &Spanned<DeValue<'_>>, path: &mut Vec<String>, lines: &mut ConfigLines) {
    let before = text.get(..value.span().start).unwrap_or("");
    lines.0.insert(path.clone(), before.matches('\n').count() + 1);
    let mut below = |key: String, value: &Spanned<DeValue<'_>>| {
        path.push(key);
        note(text, value, path, lines);
        path.pop();
    };
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(key, value)| below(key.get_ref().to_string(), value)),
        DeValue::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(index.to_string(), item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_way() {
        let text = "a = 1\n[[plugin]]\nname = \"x\"\n[[plugin]]\nname = \"y\"\n[plugin.config]\nkinds = [\n  \"a\",\n  \"b\",\n]\ndeep.er = 1\n";
        let lines = config_lines(text);
        assert_eq!(lines.len(), 2);
        let line = |path: &[&str]| lines[1].of(&path.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["kinds", "1"]), Some(9));
        assert_eq!(line(&["deep", "er"]), Some(11));
        assert_eq!(line(&["missing"]), line(&[]), "the table that it should stand in");
        assert_eq!(lines[0].of(&[]), None);
        assert_eq!(config_lines("plugin = ["), []);
    }
}
