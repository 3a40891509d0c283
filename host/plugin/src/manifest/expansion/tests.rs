use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{Keyword, ValidationError};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, json};

use super::*;

fn check_said(schema: &Value, expected: Result<u64, &str>) {
    let said = check(schema, 1_000, 100);
    assert_eq!(said.as_ref().map_err(String::as_str), expected.as_ref().map_err(|&said| said));
}

fn check_refused(schema: &Value, expected: &str) {
    let refused = check(schema, 1_000, 100).expect_err(expected);
    assert!(refused.contains(expected), "{refused} does not say: {expected}");
}

#[test]
fn references_to_definitions_are_followed() {
    let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "object" }, "b": { "$ref": "#/$defs/a" } } });
    check_said(&schema, Ok(1 + 2 + 1 + 2 + 1 + 2));
}

#[test]
fn what_never_ends_is_refused() {
    let itself = "refers to itself through `#`; write out as many levels as are meant";
    check_said(&json!({ "$ref": "#" }), Err(itself));
    check_said(&json!({ "properties": { "next": { "$ref": "#" } } }), Err(itself));
    let two = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
    check_said(&two, Err("refers to itself through `#/$defs/a`; write out as many levels as are meant"));
}

/// Sixty levels, each of which refers twice to the next; `reference` spells how, `decoy` is what else has that name.
fn bomb(reference: impl Fn(u32) -> String, name: impl Fn(u32) -> String, decoy: impl Fn(u32) -> String) -> Value {
    let mut definitions = Map::from_iter([(name(0), json!({ "type": "string" }))]);
    for level in 1..60 {
        let below = json!({ "$ref": reference(level - 1) });
        definitions.insert(name(level), json!({ "allOf": [below, below] }));
        definitions.entry(decoy(level)).or_insert(json!(true));
    }
    definitions.entry(decoy(0)).or_insert(json!(true));
    json!({ "$ref": reference(59), "$defs": definitions })
}

#[test]
fn a_bomb_of_references_is_refused() {
    let name = |level| format!("d{level}");
    let plain = bomb(|level| format!("#/$defs/d{level}"), name, name);
    let refused = check(&plain, 1_000, 200).expect_err("2^59 places");
    assert!(refused.starts_with("is too large: "), "{refused}");
}

/// The judging decodes `%64` to `d` and leaves `~~1` alone, where others make `~/` of it: one text, and two places that it names.
#[test]
fn a_reference_that_can_be_read_in_two_ways_is_refused() {
    let decoded =
        bomb(|level| format!("#/$defs/%64{level}"), |level| format!("d{level}"), |level| format!("%64{level}"));
    check_refused(&decoded, "refers to `#/$defs/%64");
    let tilde =
        bomb(|level| format!("#/$defs/~~1{level}"), |level| format!("~~1{level}"), |level| format!("~/{level}"));
    check_refused(&tilde, "refers to `#/$defs/~~1");
    for target in ["#/$defs/a%62", "#/$defs/a~1b", "#/$defs/a b", "#/$defs/é", "#a", "", "a", "#/\u{1b}[2J"] {
        check_refused(&json!({ "$ref": target, "$defs": { "a": {} }, "a": {} }), "refers to `");
    }
    assert!(!check(&json!({ "$ref": "#/\u{1b}[2J" }), 10, 10).expect_err("no place").contains('\u{1b}'));
    let inside = json!({ "default": { "$id": "http://a.example/", "b": {} }, "$ref": "#/default/b" });
    check_refused(&inside, "uses `$id`");
}

#[test]
fn a_chain_of_references_needs_no_stack() {
    let link = |number: u32| (format!("d{number}"), json!({ "$ref": format!("#/$defs/d{}", number + 1) }));
    let mut definitions: Map<_, _> = (0..20_000).map(link).collect();
    definitions.insert("d20000".to_owned(), json!({ "type": "string" }));
    let chain = json!({ "$ref": "#/$defs/d0", "$defs": definitions });
    let refused = check(&chain, 1_000_000, 100).expect_err("20,000 levels");
    assert!(refused.starts_with("is too deep: "), "{refused}");
    let nested = (0..100).fold(json!({}), |below, _| json!({ "not": below }));
    assert!(check(&nested, 1_000, 100).is_err());
    assert!(check(&nested["not"], 1_000, 100).is_ok());
}

/// Each link is short and was counted before the next refers to it: only all of them together are deep.
#[test]
fn a_chain_that_is_counted_from_its_end_is_deep_all_the_same() {
    let link = |number: u32| {
        let below = json!({ "$ref": format!("#/$defs/d{}", number - 1) });
        (format!("d{number}"), (0..20).fold(below, |below, _| json!({ "not": below })))
    };
    let first = ("d0".to_owned(), json!({ "type": "string" }));
    let definitions: Map<_, _> = std::iter::once(first).chain((1..100).map(link)).collect();
    check_refused(&json!({ "$defs": definitions }), "is too deep: ");
}

#[test]
fn nothing_is_fetched() {
    for target in ["https://evil.example/schema.json", "file:///etc/passwd", "other.json#/a", "#/$defs/missing"] {
        check_refused(&json!({ "$ref": target }), target);
    }
    check_refused(&json!({ "$id": "https://a.example/" }), "uses `$id`; a schema here is one text");
    check_refused(&json!({ "properties": { "a": { "id": "x" } } }), "uses `id`");
}

#[test]
fn what_is_no_schema_is_not_read_as_one() {
    for key in ["const", "default", "examples", "enum"] {
        let data = json!([{ "id": "a", "$ref": "x", "$id": "y", "pattern": "(", "unevaluatedItems": 1 }]);
        let schema = json!({ "properties": { "a": { key: data } } });
        assert!(check(&schema, 1_000, 100).is_ok(), "{schema}");
        let validator = jsonschema::options().build(&schema).expect("a schema");
        assert!(validator.is_valid(&json!({})));
        // A property of that name has a schema.
        check_refused(&json!({ "properties": { key: { "$ref": "x" } } }), "refers to `x`");
    }
    assert!(check(&json!({ "properties": { "id": {}, "$ref": {}, "unevaluatedItems": {} } }), 1_000, 100).is_ok());
}

/// Each level judges what is below it twice: twelve of them, some fifty places, come to thousands of visits.
#[test]
fn what_judges_everything_twice_is_refused() {
    for (key, config) in [("unevaluatedProperties", json!({ "a": 1 })), ("unevaluatedItems", json!([1]))] {
        let leaf = json!({ "visits": 1, "properties": { "a": true }, "prefixItems": [true] });
        let bomb = (0..12).fold(leaf, |below, _| json!({ "visits": 1, "anyOf": [below], key: false }));
        check_refused(&bomb, &format!("uses `{key}`"));
        let visits = visits(&bomb, &config).expect("a schema");
        assert!(visits > 4_000, "{key}: {visits} visits, and no reason to refuse it");
    }
}

#[test]
fn patterns_are_counted_together() {
    let patterns = |count: usize, of: &str| {
        let properties: Map<_, _> =
            (0..count).map(|number| (format!("p{number}"), json!({ "pattern": format!("{of}{number}") }))).collect();
        json!({ "properties": properties })
    };
    assert!(check(&patterns(CONFIG_PATTERNS_MAX, ""), 1_000, 100).is_ok());
    check_refused(&patterns(CONFIG_PATTERNS_MAX + 1, ""), "65 patterns of");
    check_refused(&patterns(2, &"a".repeat(CONFIG_PATTERNS_BYTES_MAX)), "2 patterns of");
    let named: Map<_, _> = (0..=CONFIG_PATTERNS_MAX).map(|number| (format!("^{number}"), json!(true))).collect();
    check_refused(&json!({ "items": { "patternProperties": named } }), "65 patterns of");
    // One that stands at many places is compiled once.
    let same: Vec<_> = (0..=CONFIG_PATTERNS_MAX).map(|_| json!({ "pattern": "^a" })).collect();
    assert!(check(&json!({ "allOf": same }), 1_000, 100).is_ok());
}

/// A keyword that counts how often `jsonschema` comes by.
struct Visits(Arc<AtomicU64>);

impl<'i> Keyword<'i> for Visits {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// How often `jsonschema` visits a schema of `schema` to judge `config`; `None`: it is no schema.
fn visits(schema: &Value, config: &Value) -> Option<u64> {
    let count = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&count);
    let options = jsonschema::options().with_keyword("visits", move |_, _, _| Ok(Box::new(Visits(Arc::clone(&heard)))));
    let validator = options.build(schema).ok()?;
    let _ = validator.is_valid(config);
    Some(count.load(Ordering::Relaxed))
}

fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum::<u64>(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

/// Schemas of all keywords that hold others, and references spelled in all ways.
fn schemas() -> impl Strategy<Value = Value> {
    const TARGETS: [&str; 10] = [
        "#/$defs/a",
        "#/$defs/%61",
        "#/$defs/b",
        "#/$defs/%62",
        "#/$defs/~~1",
        "#/$defs/~01",
        "#/default/a",
        "#/x/0",
        "#/x/00",
        "#/$defs",
    ];
    let reference = select(TARGETS.to_vec()).prop_map(|target| json!({ "visits": 1, "$ref": target }));
    let leaf =
        prop_oneof![reference.clone(), Just(json!({ "visits": 1, "type": "string" })), Just(json!({ "visits": 1 }))];
    let schema = leaf.prop_recursive(4, 24, 4, |below| {
        let several = proptest::collection::vec(below.clone(), 1..4);
        let key = select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]);
        let one = select(vec!["items", "not", "contains", "additionalProperties", "propertyNames", "if"]);
        prop_oneof![
            (key, several).prop_map(|(key, several)| json!({ "visits": 1, key: several })),
            (one, below.clone()).prop_map(|(key, below)| json!({ "visits": 1, key: below })),
            (below.clone(), below)
                .prop_map(|(a, b)| json!({ "visits": 1, "properties": { "a": a }, "patternProperties": { "^a": b } })),
        ]
    });
    (proptest::collection::vec(schema, 6), reference).prop_map(|(schemas, reference)| {
        let [a, b, root, x, decoy, tilde] = <[Value; 6]>::try_from(schemas).unwrap_or_default();
        let definitions = json!({ "a": a, "b": b, "%61": decoy, "%62": true, "~/": true, "~~1": tilde, "~1": true });
        json!({ "visits": 1, "allOf": [root, reference], "$defs": definitions, "x": [x], "default": { "a": {} } })
    })
}

fn configs() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(json!("a")), Just(json!(1))];
    leaf.prop_recursive(3, 12, 3, |below| {
        prop_oneof![
            proptest::collection::vec(below.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(select(vec!["a", "b", "ab"]), below, 0..3)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The promise: what passes here is judged within its places for each value, whatever way `jsonschema` goes.
    #[test]
    fn judging_visits_no_more_than_was_counted(schema in schemas(), config in configs()) {
        if let Ok(places) = check(&schema, 2_000, 60)
            && let Some(visits) = visits(&schema, &config)
        {
            prop_assert!(visits <= places * values(&config), "{visits} visits, {places} places");
        }
    }
}
