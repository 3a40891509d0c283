//! Whether judging by a schema can end, and soon. `$ref` makes a small schema large: ten levels that each refer twice to the next
//! are a thousand, and one that refers to itself is endless. The text came with a plugin, and no plugin holds up the host.

use std::collections::BTreeMap;

use serde_json::Value;

/// Refuses references that leave the schema or come back to where they are, and more than `places_max` places, or places
/// deeper than `depth_max`, when all references are followed.
pub(super) fn check(schema: &Value, places_max: u64, depth_max: u32) -> Result<(), String> {
    let mut walk = Walk { root: schema, places_max, depth_left: depth_max, depth_max, sizes: BTreeMap::new() };
    walk.size(schema).map(drop)
}

struct Walk<'a> {
    root: &'a Value,
    places_max: u64,
    /// Levels that may still be entered: this walk and the judging by the schema need stack for each.
    depth_left: u32,
    depth_max: u32,
    /// What each reference comes to; `None` while it is being counted.
    sizes: BTreeMap<&'a str, Option<u64>>,
}

impl<'a> Walk<'a> {
    fn size(&mut self, value: &'a Value) -> Result<u64, String> {
        let max = self.depth_max;
        self.depth_left = self
            .depth_left
            .checked_sub(1)
            .ok_or_else(|| format!("is too deep: with its references followed, it has more than {max} levels"))?;
        let mut size = 1_u64;
        match value {
            Value::Array(items) => {
                for item in items {
                    size = self.sum(size, |walk| walk.size(item))?;
                }
            }
            Value::Object(members) => {
                for (key, member) in members {
                    size = match (key.as_str(), member) {
                        ("$ref", Value::String(target)) => self.sum(size, |walk| walk.reference(target))?,
                        ("$dynamicRef" | "$recursiveRef" | "$id" | "id", Value::String(_)) => {
                            return Err(format!(
                                "uses `{key}`; a schema here is one text, with `$ref` to its own `$defs`"
                            ));
                        }
                        _ => self.sum(size, |walk| walk.size(member))?,
                    };
                }
            }
            _ => {}
        }
        self.depth_left += 1;
        Ok(size)
    }

    /// `size` and what `more` comes to. Ends the walk as soon as there are too many.
    fn sum(&mut self, size: u64, more: impl FnOnce(&mut Self) -> Result<u64, String>) -> Result<u64, String> {
        let (sum, max) = (size.saturating_add(more(self)?), self.places_max);
        if sum > max {
            return Err(format!("is too large: with its references followed, it has more than {max} places"));
        }
        Ok(sum)
    }

    fn reference(&mut self, target: &'a str) -> Result<u64, String> {
        match self.sizes.get(target) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                return Err(format!("refers to itself through `{target}`; write out as many levels as are meant"));
            }
            None => {}
        }
        let place = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let place = place.ok_or_else(|| {
            format!("refers to `{target}`, which is not in it; only places such as `#/$defs/NAME` can be referred to")
        })?;
        self.sizes.insert(target, None);
        let size = self.size(place)?;
        self.sizes.insert(target, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_said(schema: &Value, expected: Result<(), &str>) {
        assert_eq!(check(schema, 1_000, 100).as_ref().map_err(String::as_str), expected.as_ref().map_err(|&said| said));
    }

    #[test]
    fn references_to_definitions_are_followed() {
        let schema =
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object" }, "b": { "$ref": "#/$defs/a" } } });
        check_said(&schema, Ok(()));
    }

    #[test]
    fn what_never_ends_is_refused() {
        let itself = "refers to itself through `#`; write out as many levels as are meant";
        check_said(&json!({ "$ref": "#" }), Err(itself));
        check_said(&json!({ "properties": { "next": { "$ref": "#" } } }), Err(itself));
        let two =
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        check_said(&two, Err("refers to itself through `#/$defs/a`; write out as many levels as are meant"));
    }

    #[test]
    fn a_bomb_of_references_is_refused() {
        let mut definitions = serde_json::Map::from_iter([("d0".to_owned(), json!({ "type": "string" }))]);
        for level in 1..60 {
            let below = json!({ "$ref": format!("#/$defs/d{}", level - 1) });
            definitions.insert(format!("d{level}"), json!({ "allOf": [below, below] }));
        }
        let bomb = json!({ "$ref": "#/$defs/d59", "$defs": definitions });
        let refused = check(&bomb, 1_000, 200).expect_err("2^59 places");
        assert!(refused.starts_with("is too large: "), "{refused}");
    }

    #[test]
    fn a_chain_of_references_needs_no_stack() {
        let link = |number: u32| (format!("d{number}"), json!({ "$ref": format!("#/$defs/d{}", number + 1) }));
        let mut definitions: serde_json::Map<_, _> = (0..20_000).map(link).collect();
        definitions.insert("d20000".to_owned(), json!({ "type": "string" }));
        let chain = json!({ "$ref": "#/$defs/d0", "$defs": definitions });
        let refused = check(&chain, 1_000_000, 100).expect_err("20,000 levels");
        assert!(refused.starts_with("is too deep: "), "{refused}");
        let nested = (0..100).fold(json!({}), |below, _| json!({ "not": below }));
        assert!(check(&nested, 1_000, 100).is_err());
        assert!(check(&nested["not"], 1_000, 100).is_ok());
    }

    #[test]
    fn nothing_is_fetched() {
        for target in ["https://evil.example/schema.json", "file:///etc/passwd", "other.json#/a", "#/$defs/missing"] {
            let refused = check(&json!({ "$ref": target }), 1_000, 100).expect_err("not in it");
            assert!(refused.contains(target), "{refused}");
        }
        check_said(
            &json!({ "$id": "https://a.example/" }),
            Err("uses `$id`; a schema here is one text, with `$ref` to its own `$defs`"),
        );
    }
}
