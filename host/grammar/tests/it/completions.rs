//! What is written under a grammar is what the grammar describes.

use grammar::Author;
use inference::{OutputFormat, Token};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::writer::{CONTROL, END, House, Random, Words, check, takes};

fn schema(schema: &Value) -> OutputFormat {
    OutputFormat::JsonSchema(schema.to_string())
}

#[test]
fn an_object_is_what_json_object_means() {
    check(
        &OutputFormat::JsonObject,
        &["{}", r#"{"a": [1, -2.5e3, "é\n"], "b": {"c": null}}"#, "{\n  \"a\": true\n}"],
        &["[]", "1", "", "{", "{}{}", "{'a':1}", " {}", "{\"a\":1,}"],
    );
    let house = House::new();
    let grammar = house.compile(&OutputFormat::JsonObject);
    for seed in 0..200 {
        if let Some(text) = house.write(&grammar, &mut Random(seed), 200) {
            match serde_json::from_str::<Value>(&text) {
                Ok(value) => assert!(value.is_object(), "{text}"),
                // JSON bounds no exponent; this reader does.
                Err(error) => assert!(error.to_string().starts_with("number out of range"), "{text}: {error}"),
            }
        }
    }
}

#[test]
fn white_space_has_an_end() {
    for format in [OutputFormat::JsonObject, schema(&json!({"type": "object", "additionalProperties": {}}))] {
        let grammar = House::new().compile(&format);
        for before in ["{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":[", "{\"a\":1,", "{\"a\":{}"] {
            let mut constraint = grammar.begin();
            for byte in before.bytes() {
                constraint.accept(Token(byte.into())).unwrap();
            }
            let mut spaces = 0;
            let white = [b'\n', b'\t', b' '].map(|byte| Token(byte.into()));
            loop {
                let mask = constraint.allowed().unwrap();
                let Some(&space) = white.iter().find(|&&token| mask.contains(token)) else { break };
                constraint.accept(space).unwrap();
                spaces += 1;
                assert!(spaces <= 33, "after {before} white space goes on");
            }
            assert!(spaces > 0, "after {before} there may be some");
        }
    }
}

#[test]
fn control_tokens_are_never_allowed_and_the_end_only_where_it_is_one() {
    let house = House::new();
    let mut constraint = house.compile(&OutputFormat::Regex("ab?".to_owned())).begin();
    assert!(!constraint.allowed().unwrap().contains(CONTROL));
    assert!(!constraint.allowed().unwrap().contains(END));
    constraint.accept(Token(u32::from(b'a'))).unwrap();
    assert!(constraint.allowed().unwrap().contains(END) && !constraint.is_complete());
    constraint.accept(Token(u32::from(b'b'))).unwrap();
    assert!(constraint.is_complete());
}

/// One token is judged as the mask of all of them judges it, at every place of what is written.
#[test]
fn one_token_is_allowed_where_the_mask_says_so() {
    let object = json!({"type": "object", "properties": {"a": {"enum": ["x", "yz"]}, "b": {"type": "integer"}},
        "required": ["a", "b"], "additionalProperties": false});
    let formats = [
        OutputFormat::JsonObject,
        schema(&object),
        OutputFormat::Regex("(ab?|é)+c*".to_owned()),
        OutputFormat::Lark("start: /[0-9]+/ (\",\" start)?".to_owned()),
    ];
    let houses = [(House::new(), true), (House::of(Words::endless()), false)];
    for ((house, has_end), format) in houses.iter().flat_map(|house| formats.iter().map(move |format| (house, format)))
    {
        let grammar = house.compile(format);
        for seed in 0..20 {
            let (mut random, mut constraint) = (Random(seed), grammar.begin());
            for _ in 0..40 {
                if !has_end && constraint.is_complete() {
                    break;
                }
                let mask = constraint.allowed().expect("it goes on").clone();
                let all = (0..house.vocabulary.size() + 40).map(Token);
                for token in all {
                    let allows = constraint.allows(token).expect("it goes on");
                    assert_eq!(allows, mask.contains(token), "{token:?} in {format:?}, seed {seed}");
                }
                if *has_end {
                    assert_eq!(constraint.may_end(), Ok(mask.contains(END)), "{format:?}, seed {seed}");
                }
                let allowed: Vec<Token> =
                    (0..house.vocabulary.size()).map(Token).filter(|&it| it != END && mask.contains(it)).collect();
                if constraint.is_complete() || allowed.is_empty() {
                    break;
                }
                constraint.accept(allowed[random.below(allowed.len())]).expect("it is allowed");
            }
        }
    }
}

#[test]
fn a_vocabulary_without_an_end_ends_where_nothing_can_follow() {
    let house = House::of(Words::endless());
    let mut constraint = house.compile(&OutputFormat::Regex("ab?".to_owned())).begin();
    for letter in [b'a', b'b'] {
        assert!(!constraint.is_complete());
        let mask = constraint.allowed().unwrap();
        assert!(mask.words().len() <= (house.vocabulary.size() as usize).div_ceil(32));
        let allowed: Vec<u32> =
            (0..house.vocabulary.size() + 64).filter(|&token| mask.contains(Token(token))).collect();
        assert!(!allowed.is_empty() && allowed.iter().all(|&token| token < house.vocabulary.size()), "{allowed:?}");
        constraint.accept(Token(letter.into())).unwrap();
    }
    assert!(constraint.is_complete());
}

#[test]
fn a_token_that_is_not_allowed_is_not_taken() {
    let house = House::new();
    let grammar = house.compile(&OutputFormat::Regex("ab".to_owned()));
    assert!(grammar.begin().accept(Token(u32::from(b'x'))).is_err());
    // And nobody else suffers from it.
    assert!(takes(&grammar, "ab"));
}

#[test]
fn regexes_match_whole_answers() {
    let check = |pattern: &str, taken: &[&str], refused: &[&str]| {
        check(&OutputFormat::Regex(pattern.to_owned()), taken, refused);
    };
    check(r"\d{3}-[a-z]+", &["123-abc"], &["123-", "12-a", "x123-a"]);
    check("^(yes|no)$", &["yes", "no"], &["yesno", "y"]);
    check("a/b\\/c\n", &["a/b/c\n"], &["a/b/c"]);
    check("(?i)ja", &["ja", "JA", "Ja"], &["j"]);
    check("[é-ü]世?", &["é", "ü世"], &["e"]);
}

#[test]
fn gbnf_means_what_it_means_to_llama_cpp() {
    let check = |text: &str, taken: &[&str], refused: &[&str]| {
        check(&OutputFormat::Gbnf(text.to_owned()), taken, refused);
    };
    check(r#"root ::= "yes" | "no""#, &["yes", "no"], &["y", "yesno"]);
    check("root ::= \"(\" root \")\" | \"\"", &["", "()", "((()))"], &["(", "())"]);
    // llama.cpp's `grammars/arithmetic.gbnf`: its white space would eat the line's end.
    let arithmetic = "root  ::= (expr \"=\" ws term \"\\n\")+\nexpr  ::= term ([-+*/] term)*\n\
                      term  ::= ident | num | \"(\" ws expr \")\" ws\nident ::= [a-z] [a-z0-9_]* ws\n\
                      num   ::= [0-9]+ ws\nws    ::= [ \\t\\n]*\n";
    check(arithmetic, &["a = 1\n", "(a +b1) *2 = 17\nx=y\n\n"], &["a = 1", "a + = 1\n", "(a = 1\n"]);
    // The longest match of the letters would eat the `x`.
    check(
        "root ::= \"(\" root \")\" | [a-z]* more\nmore ::= \"x\" (root | \"!\")",
        &["abx!", "xxx!", "(x!)", "axbx!"],
        &["ab!", "x"],
    );
    // llama.cpp's `grammars/json.gbnf`.
    let json = r#"root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;
    check(json, &["{}", "{\"a\": [1, 2.5e1, \"\\u00e9 \"]}\n", "{ \"a\":{\"b\":null}}"], &["[]", "{\"a\"}", "{a:1}"]);
}

#[test]
fn lark_is_followed() {
    let house = House::new();
    let lark = "start: sum\nsum: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/\n%ignore / /";
    let grammar = house.compile(&OutputFormat::Lark(lark.to_owned()));
    assert!(takes(&grammar, "1 + 22+3"));
    assert!(!takes(&grammar, "1 +"));
}

#[test]
fn what_random_gbnf_writes_ends() {
    let house = House::new();
    let text = "root ::= item (\", \" item)* \".\"\nitem ::= [a-c]+ | \"(\" root \")\"";
    let grammar = house.compile(&OutputFormat::Gbnf(text.to_owned()));
    let written = (0..100).filter_map(|seed| house.write(&grammar, &mut Random(seed), 100)).count();
    assert!(written > 10, "{written} of 100 came to an end");
}

#[test]
fn the_same_format_is_the_same_grammar() {
    let house = House::new();
    let format = schema(&json!({"type": "integer"}));
    assert!(house.compiler.cached(&format, Author::Client).is_none());
    let grammar = house.compile(&format);
    assert!(house.compiler.cached(&format, Author::Client) == Some(grammar.clone()));
    assert!(house.compile(&format) == grammar);
}

#[test]
fn properties_come_in_their_order() {
    let house = House::new();
    let format = schema(&json!({"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}},
        "required": ["z", "a"], "additionalProperties": false}));
    let grammar = house.compile(&format);
    assert!(takes(&grammar, r#"{"z": null, "a": null}"#));
    assert!(!takes(&grammar, r#"{"a": null, "z": null}"#));
}

#[test]
fn references_inside_the_document_are_followed() {
    let house = House::new();
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties":
        {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "required": ["name", "children"], "additionalProperties": false}}});
    let grammar = house.compile(&schema(&tree));
    assert!(takes(&grammar, r#"{"name": "a", "children": [{"name": "b", "children": []}]}"#));
    assert!(!takes(&grammar, r#"{"name": "a", "children": [1]}"#));
}

/// Rules `root`, `x` and `y` over the letters a to c.
fn any_gbnf() -> impl Strategy<Value = [Node; 3]> {
    let leaf = prop_oneof![
        4 => prop::sample::subsequence(vec!['a', 'b', 'c'], 1..3).prop_map(Node::Class),
        1 => Just(Node::Text("ab".to_owned())),
        1 => Just(Node::Text(String::new())),
        3 => (0_usize..3).prop_map(Node::Rule),
    ];
    let node = leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Node::Sequence),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Node::Choice),
            (inner, 0_u32..3, prop::option::of(0_u32..2)).prop_map(|(item, least, more)| Node::Repeat(
                Box::new(item),
                least,
                more.map(|more| least + more)
            )),
        ]
    });
    // Through `root` goes recursion, so that there are terminals beside rules.
    [node.clone(), node.clone(), node].prop_map(|[root, x, y]| {
        let around = Node::Sequence(vec![Node::Class(vec!['c']), Node::Rule(0), Node::Class(vec!['b', 'c'])]);
        [Node::Choice(vec![root, around]), x, y]
    })
}

#[derive(Debug, Clone)]
enum Node {
    Class(Vec<char>),
    Text(String),
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

const NAMES: [&str; 3] = ["root", "x", "y"];
/// How long the texts are that are compared.
const LENGTH_MAX: usize = 4;

type Texts = std::collections::BTreeSet<String>;

impl Node {
    fn gbnf(&self) -> String {
        match self {
            Self::Class(letters) => format!("[{}]", letters.iter().collect::<String>()),
            Self::Text(text) => format!("\"{text}\""),
            Self::Rule(number) => NAMES[*number].to_owned(),
            Self::Sequence(items) => format!("({})", items.iter().map(Self::gbnf).collect::<Vec<_>>().join(" ")),
            Self::Choice(options) => format!("({})", options.iter().map(Self::gbnf).collect::<Vec<_>>().join(" | ")),
            Self::Repeat(item, least, None) => format!("{}{{{least},}}", item.gbnf()),
            Self::Repeat(item, least, Some(most)) => format!("{}{{{least},{most}}}", item.gbnf()),
        }
    }

    /// All texts up to a length, if the rules have these.
    fn texts(&self, rules: &[Texts; 3]) -> Texts {
        let one = |text: &str| Texts::from([text.to_owned()]);
        match self {
            Self::Class(letters) => letters.iter().map(char::to_string).collect(),
            Self::Text(text) => one(text),
            Self::Rule(number) => rules[*number].clone(),
            Self::Sequence(items) => items.iter().fold(one(""), |before, item| joined(&before, &item.texts(rules))),
            Self::Choice(options) => options.iter().flat_map(|option| option.texts(rules)).collect(),
            Self::Repeat(item, least, most) => {
                let item = item.texts(rules);
                let mut exactly = one("");
                (0..*least).for_each(|_| exactly = joined(&exactly, &item));
                let mut all = exactly.clone();
                // More often than a text has letters adds only what is there already.
                for _ in *least..most.unwrap_or(*least + 2 * u32::try_from(LENGTH_MAX).unwrap()) {
                    exactly = joined(&exactly, &item);
                    all.extend(exactly.iter().cloned());
                }
                all
            }
        }
    }
}

fn joined(before: &Texts, after: &Texts) -> Texts {
    let pairs = before.iter().flat_map(|before| after.iter().map(move |after| format!("{before}{after}")));
    pairs.filter(|text| text.len() <= LENGTH_MAX).collect()
}

/// Every text of the letters up to the length.
fn all_texts() -> Texts {
    let letters: Texts = ["a", "b", "c", ""].map(str::to_owned).into();
    (1..LENGTH_MAX).fold(letters.clone(), |texts, _| joined(&texts, &letters))
}

/// Small schemas of everything that is enforced.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        (-50_i32..50, 0_i32..100)
            .prop_map(|(least, more)| json!({"type": "integer", "minimum": least, "maximum": least + more})),
        // Bounded: beyond 2^53 the judge computes with rounded numbers.
        (1_i32..20)
            .prop_map(|step| json!({"type": "integer", "multipleOf": step, "minimum": -9_999, "maximum": 9_999})),
        (-9_i32..9).prop_map(|least| json!({"type": "number", "exclusiveMinimum": f64::from(least) / 2.0})),
        (0_u32..4, 0_u32..6)
            .prop_map(|(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})),
        Just(json!({"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"})),
        Just(json!({"type": "string", "format": "date"})),
        Just(json!({"type": "string", "format": "uuid"})),
        Just(json!({"enum": ["red", 7, null, {"a": [1]}]})),
        Just(json!({"const": "x\"y\\z\n"})),
        Just(json!({"type": ["integer", "null"]})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0_u32..3, 0_u32..3).prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|items| {
                let count = items.len();
                json!({"type": "array", "prefixItems": items, "items": false, "minItems": count})
            }),
            (prop::collection::btree_map("[a-c]{1,2}", inner.clone(), 0..3), any::<bool>()).prop_map(|(properties, all)| {
                let names: Vec<&String> = properties.keys().collect();
                let required = if all { names.clone() } else { Vec::new() };
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|options| json!({"anyOf": options})),
            inner.prop_map(|value| json!({"type": "object", "additionalProperties": value, "maxProperties": 2})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn gbnf_has_the_texts_that_its_rules_have(rules in any_gbnf()) {
        let lines = NAMES.iter().zip(&rules).map(|(name, body)| format!("{name} ::= {}\n", body.gbnf()));
        let text = lines.collect::<Vec<_>>().concat();
        let mut texts = [Texts::new(), Texts::new(), Texts::new()];
        loop {
            let next: [Texts; 3] = std::array::from_fn(|number| rules[number].texts(&texts));
            if std::mem::replace(&mut texts, next) == texts {
                break;
            }
        }
        let house = House::new();
        let grammar = match house.compiler.compile(&OutputFormat::Gbnf(text.clone()), Author::Client) {
            Ok(grammar) => grammar,
            Err(error) => {
                let is_endless = error.to_string().contains("nothing matches it");
                prop_assert!(is_endless && texts[0].is_empty(), "{}: {}", text, error);
                return Ok(());
            }
        };
        for answer in all_texts() {
            prop_assert_eq!(takes(&grammar, &answer), texts[0].contains(&answer), "{:?} of {}", answer, text);
        }
    }

    #[test]
    fn what_is_written_is_valid(schema in any_schema(), seed in any::<u64>()) {
        let house = House::new();
        let grammar = house.compile(&OutputFormat::JsonSchema(schema.to_string()));
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mut random = Random(seed);
        for _ in 0..4 {
            if let Some(text) = house.write(&grammar, &mut random, 300) {
                let value = match serde_json::from_str::<Value>(&text) {
                    Ok(value) => value,
                    // JSON bounds no exponent; this reader does.
                    Err(error) if error.to_string().starts_with("number out of range") => continue,
                    Err(error) => return Err(TestCaseError::fail(format!("{text}: {error}"))),
                };
                prop_assert!(validator.is_valid(&value), "{} is not valid against {}", text, schema);
            }
        }
    }
}
