//! Whether judging by a schema can end, and soon. `$ref` makes a small schema large: ten levels that each refer twice to the next
//! are a thousand, and one that refers to itself is endless. The text came with a plugin, and no plugin holds up the host.
//!
//! What is counted here has to be what `jsonschema` follows. Where the two could read a text differently, the text is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::limits::{CONFIG_PATTERNS_BYTES_MAX, CONFIG_PATTERNS_MAX};
use crate::text::{cut, escape_into};

/// The places of a schema when all references are followed. Refuses references that leave the schema or come back to where
/// they are, more than `places_max` places, places deeper than `depth_max`, and more patterns than are compiled.
pub(super) fn check(schema: &Value, places_max: u64, depth_max: u32) -> Result<u64, String> {
    let (known, patterns) = (BTreeMap::new(), BTreeSet::new());
    let mut walk = Walk { root: schema, places_max, depth: 0, depth_max, known, patterns };
    let places = walk.extent(schema, Is::Schema)?.places;
    let (count, bytes) = (walk.patterns.len(), walk.patterns.iter().map(|pattern| pattern.len()).sum::<usize>());
    if count > CONFIG_PATTERNS_MAX || bytes > CONFIG_PATTERNS_BYTES_MAX {
        return Err(format!(
            "has {count} patterns of {bytes} bytes together; {CONFIG_PATTERNS_MAX} of {CONFIG_PATTERNS_BYTES_MAX} bytes are the most"
        ));
    }
    Ok(places)
}

struct Walk<'a> {
    root: &'a Value,
    places_max: u64,
    /// Levels that are entered: this walk and the judging by the schema need stack for each.
    depth: u32,
    depth_max: u32,
    /// What each reference comes to; `None` while it is being counted.
    known: BTreeMap<&'a str, Option<Extent>>,
    patterns: BTreeSet<&'a str>,
}

/// What a value comes to, references followed.
#[derive(Clone, Copy)]
struct Extent {
    places: u64,
    levels: u32,
}

/// What the keys of an object are.
#[derive(Clone, Copy)]
enum Is {
    /// Keywords.
    Schema,
    /// Names of the author's, each with a schema.
    Names,
    /// Anything: no schema, whatever it looks like.
    Data,
}

impl<'a> Walk<'a> {
    fn extent(&mut self, value: &'a Value, is: Is) -> Result<Extent, String> {
        self.depth += 1;
        self.check_depth(self.depth)?;
        let mut extent = Extent { places: 1, levels: 1 };
        match value {
            Value::Array(items) => {
                for item in items {
                    let more = self.extent(item, is)?;
                    self.add(&mut extent, more)?;
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    let more = match is {
                        Is::Schema => self.keyword(key, member)?,
                        Is::Names => self.extent(member, Is::Schema)?,
                        Is::Data => self.extent(member, Is::Data)?,
                    };
                    self.add(&mut extent, more)?;
                }
            }
            _ => {}
        }
        self.depth -= 1;
        Ok(extent)
    }

    fn keyword(&mut self, key: &'a str, member: &'a Value) -> Result<Extent, String> {
        let is = match (key, member) {
            ("$ref", Value::String(target)) => return self.reference(target),
            ("$dynamicRef" | "$recursiveRef" | "$id" | "id", Value::String(_)) => return Err(has_id(key)),
            // Each judges anew what stands beside it: two of them inside each other four times, and so on.
            ("unevaluatedProperties" | "unevaluatedItems", _) => {
                return Err(format!(
                    "uses `{key}`, which takes too long where it is nested; use `additionalProperties`"
                ));
            }
            ("const" | "default" | "enum" | "examples", _) => Is::Data,
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies",
                Value::Object(members),
            ) => {
                if key == "patternProperties" {
                    self.patterns.extend(members.keys().map(String::as_str));
                }
                Is::Names
            }
            ("pattern", Value::String(pattern)) => {
                self.patterns.insert(pattern);
                Is::Data
            }
            _ => Is::Schema,
        };
        self.extent(member, is)
    }

    /// Ends the walk as soon as there are too many places.
    fn add(&self, extent: &mut Extent, more: Extent) -> Result<(), String> {
        let max = self.places_max;
        extent.places = extent.places.saturating_add(more.places);
        extent.levels = extent.levels.max(more.levels.saturating_add(1));
        if extent.places > max {
            return Err(format!("is too large: with its references followed, it has more than {max} places"));
        }
        Ok(())
    }

    fn check_depth(&self, depth: u32) -> Result<(), String> {
        let max = self.depth_max;
        if depth > max {
            return Err(format!("is too deep: with its references followed, it has more than {max} levels"));
        }
        Ok(())
    }

    fn reference(&mut self, target: &'a str) -> Result<Extent, String> {
        match self.known.get(target) {
            Some(Some(extent)) => {
                // Counted from somewhere else, perhaps less deep than here.
                self.check_depth(self.depth.saturating_add(extent.levels))?;
                return Ok(*extent);
            }
            Some(None) => {
                return Err(format!("refers to itself through `{target}`; write out as many levels as are meant"));
            }
            None => {}
        }
        let place = self.place(target)?;
        self.known.insert(target, None);
        let extent = self.extent(place, Is::Schema)?;
        self.known.insert(target, Some(extent));
        Ok(extent)
    }

    /// What a reference names. `%` and `~` are refused: `jsonschema` decodes the one, and reads some uses of the other in its own way,
    /// so that this walk would see one place and the judging another.
    fn place(&self, target: &str) -> Result<&'a Value, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$' | b'/');
        let pointer = target.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.filter(|pointer| pointer.bytes().all(is_plain)).ok_or_else(|| {
            format!(
                "refers to `{}`; only places in it can be referred to, such as `#/$defs/NAME`, with letters, digits, `_`, `-`, \
                 `.` and `$` in their names",
                shown(target)
            )
        })?;
        let mut place = self.root;
        for name in pointer.split('/').skip(1) {
            // From inside, `#` would be another schema.
            if let Some(key) = ["$id", "id"].into_iter().find(|key| place.get(key).is_some_and(Value::is_string)) {
                return Err(has_id(key));
            }
            place = place
                .pointer(&format!("/{name}"))
                .ok_or_else(|| format!("refers to `{target}`, which is not in it; it would stand under `$defs`"))?;
        }
        Ok(place)
    }
}

fn has_id(key: &str) -> String {
    format!("uses `{key}`; a schema here is one text, with `$ref` to its own `$defs`")
}

/// Bytes that are shown of a reference.
const SHOWN_BYTES_MAX: usize = 200;

fn shown(target: &str) -> String {
    let mut shown = String::new();
    escape_into(&mut shown, target);
    cut(shown, SHOWN_BYTES_MAX)
}

#[cfg(test)]
mod tests;
