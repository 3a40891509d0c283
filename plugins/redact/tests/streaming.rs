//! The promises of the filter: what is masked depends on the text alone, no planted secret survives, and no more is
//! held back than was declared.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use redact::{Config, HOLDBACK_BYTES_MAX, Redactor, ShapeConfig, Stream};

fn redactor() -> Redactor {
    let shapes = vec![ShapeConfig { kind: "staff".to_owned(), shape: "EMP-####".to_owned() }];
    Redactor::new(Config { shapes, ..Config::default() }).unwrap()
}

/// What comes out when `text` is cut at `cuts`, as the host would drive the filter.
fn stream(redactor: &Redactor, text: &str, cuts: &[usize]) -> String {
    let mut stream = Stream::default();
    let mut out = String::new();
    let mut window = String::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([text.len()]) {
        window.push_str(&text[start..end]);
        start = end;
        let last = end == text.len();
        let pushed = stream.push(redactor, &window, last);
        out.push_str(pushed.instead.as_deref().unwrap_or(&window[..pushed.consumed]));
        window.drain(..pushed.consumed);
        assert!(window.len() <= HOLDBACK_BYTES_MAX as usize, "{} bytes are held", window.len());
        if last {
            assert_eq!(window, "", "the end of the stream holds nothing");
            break;
        }
    }
    out
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let redactor = redactor();
    assert_eq!(stream(&redactor, text, &[]), expected);
    let each: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
    assert_eq!(stream(&redactor, text, &each), expected, "one character at a time");
}

#[test]
fn every_kind_is_masked() {
    check("Write to joe@example.org.", "Write to [email].");
    check("Call (415) 555-2671 or +49 30 1234567!", "Call [phone] or [phone]!");
    check("(+49 30 1234567) or (415-555-2671)", "([phone]) or ([phone])");
    check("Card 4111 1111 1111 1111, valid 12/27", "Card [card], valid 12/27");
    check("IBAN: DE89 3704 0044 0532 0130 00.", "IBAN: [iban].");
    check("export KEY=sk-proj-Ab3dEfGhIjKlMnOpQrStUvWxYz; ls", "export KEY=[key]; ls");
    check("Ask emp-1234 about it", "Ask [staff] about it");
    check(
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P. Then",
        "Bearer [key]. Then",
    );
    check(
        "Here:\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nab==\n-----END RSA PRIVATE KEY-----\nKeep it.",
        "Here:\n[key]\nKeep it.",
    );
}

/// Scripts that put no space between words, and so none before or behind what is masked.
#[test]
fn what_stands_beside_letters_without_spaces_is_masked() {
    for (before, after) in [("密码是", "请保密"), ("鍵は", "です。"), ("키는", "입니다"), ("คือ", "ครับ"), ("គឺ", "។")]
    {
        for (secret, mask) in [
            ("joe@example.org", "[email]"),
            ("+49 30 1234567", "[phone]"),
            ("415-555-2671", "[phone]"),
            ("030/1234567", "[phone]"),
            ("4111 1111 1111 1111", "[card]"),
            ("DE89370400440532013000", "[iban]"),
            ("GB82 WEST 1234 5698 7654 32", "[iban]"),
            ("sk-proj-Ab3dEfGhIjKlMnOpQrStUvWxYz", "[key]"),
            ("AKIAIOSFODNN7EXAMPLE", "[key]"),
            ("EMP-4711", "[staff]"),
        ] {
            check(&format!("{before}{secret}{after}"), &format!("{before}{mask}{after}"));
        }
    }
    // Letters of scripts with spaces still make one word of it.
    for text in ["éAKIAIOSFODNN7EXAMPLE", "ёEMP-4711", "DE89370400440532013000é"] {
        check(text, text);
    }
}

#[test]
fn ordinary_text_passes_unchanged() {
    for text in [
        "On 2024-01-15 at 10:30 the price was 1,234.56 (up 3.5 %).",
        "pip install scikit-learn==1.5.0  # see sk-learn",
        "The matrix is [[0.1234567, 12], [3, 4]]; 192.168.1.10:8080; v1.2.3-rc.4",
        "Übung macht den Meister — 完了しました。",
        "@joe wrote: \"a@b\" is no address",
        "",
    ] {
        check(text, text);
    }
}

#[test]
fn an_address_is_held_until_it_cannot_go_on() {
    let redactor = redactor();
    let mut stream = Stream::default();
    let pushed = stream.push(&redactor, "to joe@example.or", false);
    assert_eq!((pushed.consumed, pushed.instead), (3, None));
    let pushed = stream.push(&redactor, "joe@example.org", false);
    assert_eq!(pushed.consumed, 0);
    let pushed = stream.push(&redactor, "joe@example.org ", false);
    assert_eq!((pushed.consumed, pushed.instead.as_deref()), (16, Some("[email] ")));
}

#[test]
fn a_word_that_can_become_nothing_is_not_held() {
    let mut stream = Stream::default();
    assert_eq!(stream.push(&redactor(), "Well, then: ", false).consumed, 12);
}

#[test]
fn a_private_key_without_an_end_is_dropped_up_to_the_limit() {
    let text = format!("-----BEGIN PRIVATE KEY-----{}", "A".repeat(10_000));
    check(&text, &format!("[key]{}", "A".repeat(10_000 - 8192)));
}

#[test]
fn requests_are_left_alone_unless_configured() {
    use outrigger_plugin::testing::{message, request};
    use outrigger_plugin::types::{Part, Role};
    let request = || request(vec![message(Role::User, "I am joe@example.org")]);
    assert_eq!(redactor().request(request()), None);
    let redactor = Redactor::new(Config { request: true, ..Config::default() }).unwrap();
    let (masked, count) = redactor.request(request()).unwrap();
    assert_eq!(count, 1);
    assert!(matches!(&masked.messages[0].parts[0], Part::Text(text) if text == "I am [email]"));
}

#[test]
fn arguments_of_earlier_calls_are_masked_and_stay_json() {
    use outrigger_plugin::testing::request;
    use outrigger_plugin::types::{Message, Part, Role, ToolCall};
    let redactor = Redactor::new(Config { request: true, ..Config::default() }).unwrap();
    let masked = |arguments: &str| {
        let call = ToolCall { id: "1".to_owned(), name: "send".to_owned(), arguments_json: arguments.to_owned() };
        let message = Message { role: Role::Assistant, name: None, parts: vec![Part::ToolCall(call)] };
        let (request, count) = redactor.request(request(vec![message]))?;
        let Part::ToolCall(call) = &request.messages[0].parts[0] else { panic!("{request:?}") };
        Some((call.arguments_json.clone(), count))
    };
    let text = r#"{"to":["joe@example.org",{"card":4111111111111111}],"\u0063c":"a\u0040b.io","n":7}"#;
    let expected = r#"{"to":["[email]",{"card":"[card]"}],"cc":"[email]","n":7}"#;
    assert_eq!(masked(text), Some((expected.to_owned(), 3)));
    assert_eq!(masked(r#"{"to": "joe@example"#), None);
    assert_eq!(masked("write to joe@example.org"), Some(("write to [email]".to_owned(), 1)));
    assert_eq!(masked(r#"{ "n": 7 }"#), None, "what holds nothing is left as it stands");
}

#[test]
fn names_are_masked_and_no_member_is_lost() {
    use outrigger_plugin::testing::{message, request};
    use outrigger_plugin::types::{Message, Part, Role, ToolCall};
    let arguments = r#"{"a@b.io":1,"[email]":2,"c@d.io":{"+49 30 1234567":"x"},"n":3}"#.to_owned();
    let call = ToolCall { id: "1".to_owned(), name: "send".to_owned(), arguments_json: arguments };
    let named = Message { name: Some("joe@example.org".to_owned()), ..message(Role::User, "Hello") };
    let called = Message { role: Role::Assistant, name: None, parts: vec![Part::ToolCall(call)] };
    let redactor = Redactor::new(Config { request: true, ..Config::default() }).unwrap();
    let (masked, count) = redactor.request(request(vec![named, called])).unwrap();
    let Part::ToolCall(call) = &masked.messages[1].parts[0] else { panic!("{masked:?}") };
    assert_eq!((masked.messages[0].name.as_deref(), count), (Some("[email]"), 4));
    assert_eq!(call.arguments_json, r#"{"[email]":1,"[email] 2":2,"[email] 3":{"[phone]":"x"},"n":3}"#);
}

#[test]
fn the_replacement_is_configurable() {
    let config = Config { replacement: "<{kind} removed>".to_owned(), ..Config::default() };
    let (masked, count) = Redactor::new(config).unwrap().mask("joe@example.org");
    assert_eq!((masked.as_deref(), count), (Some("<email removed>"), 1));
}

const SECRETS: [&str; 14] = [
    "joe.bloggs+tag@mail.example.co.uk",
    "a@b.io",
    "+49 (0) 30 1234567",
    "415-555-2671",
    "4111 1111 1111 1111",
    "378282246310005",
    "DE89370400440532013000",
    "GB82 WEST 1234 5698 7654 32",
    "sk-proj-0123456789abcdefghijABCDEFGHIJ_-0123456789",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "EMP-4711",
];

/// Text that comes close: the beginnings and characters that finders look at.
fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ,.]{0,12}",
        "[0-9 ()./+-]{0,20}",
        "[a-z@.-]{0,10}",
        "[A-Za-z0-9é日_-]{0,150}",
        select(vec![
            "sk-",
            "ghp_",
            "eyJ",
            "eyJhbGci.",
            "-----BEGIN ",
            "-----",
            "DE89 3704",
            "EMP-",
            "@",
            "hf_",
            "-----END",
            "xox",
        ])
        .prop_map(str::to_owned),
    ]
}

fn cuts(text: &str, cuts: &[Index]) -> Vec<usize> {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.get(&boundaries)).filter(|&cut| cut < text.len()).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_chunking_gives_the_same(
        parts in proptest::collection::vec(prop_oneof![noise(), select(SECRETS.to_vec()).prop_map(str::to_owned)], 0..8),
        at in proptest::collection::vec(any::<Index>(), 0..12),
    ) {
        let text = parts.concat();
        let redactor = redactor();
        let whole = stream(&redactor, &text, &[]);
        prop_assert_eq!(stream(&redactor, &text, &cuts(&text, &at)), &*whole);
        let each: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        prop_assert_eq!(stream(&redactor, &text, &each), whole);
    }

    #[test]
    fn no_planted_secret_survives(
        before in "[a-z ,]{0,20}[ \n(\"'=:日は한คខ]",
        secret in select(SECRETS.to_vec()),
        after in "[ ,;)\"'\n日は한คខ][a-z ]{0,20}",
        at in proptest::collection::vec(any::<Index>(), 0..12),
    ) {
        let text = format!("{before}{secret}{after}");
        let out = stream(&redactor(), &text, &cuts(&text, &at));
        prop_assert!(!out.contains(secret), "{out}");
        // Nothing but the secret was touched.
        prop_assert!(out.starts_with(&before) && out.ends_with(&after), "{out}");
    }
}
