use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn tools() -> Vec<Tool> {
    let tool = |name: &str, schema_json: &str| Tool {
        name: name.to_owned(),
        description: None,
        schema_json: schema_json.to_owned(),
        strict: false,
    };
    vec![
        tool("get_weather", r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#),
        tool("now", r#"{"type":"object"}"#),
    ]
}

fn reading(format: Option<Format>, thoughts: &[(&str, &str)]) -> Reading {
    Reading { calls: format, thoughts: thoughts.iter().map(|(open, close)| Thoughts::new(open, close)).collect() }
}

fn events(parser: &mut Parser, pieces: &[&str]) -> Vec<Event> {
    let count = pieces.len();
    pieces.iter().enumerate().flat_map(|(number, piece)| parser.push(piece, number + 1 == count)).collect()
}

/// What a client makes of an answer: `(thought)`, content, and `name{arguments}` of calls, neighbours joined.
fn shown(events: &[Event]) -> String {
    let mut shown = String::new();
    let mut before = ' ';
    for event in events {
        let (kind, text) = match event {
            Event::Content(text) => ('c', text),
            Event::Reasoning(text) => ('r', text),
            Event::CallStart(name) => ('n', name),
            Event::Arguments(text) | Event::Written(text) => ('a', text),
            Event::CallEnd => {
                before = ' ';
                shown.push('⟩');
                continue;
            }
            Event::Syntax(_) => continue,
        };
        if kind != before && kind != 'a' {
            shown.push_str(match kind {
                'r' => "⟨thought:",
                'n' => "⟨call:",
                _ => "⟨text:",
            });
        }
        if kind != before && kind == 'a' {
            shown.push(' ');
        }
        shown.push_str(text);
        before = kind;
    }
    shown
}

/// What the model wrote, as it comes back from the events.
fn written(events: &[Event]) -> String {
    let text = |event: &Event| match event {
        Event::Content(text) | Event::Reasoning(text) | Event::Arguments(text) | Event::Syntax(text) => text.clone(),
        Event::CallStart(_) | Event::Written(_) | Event::CallEnd => String::new(),
    };
    events.iter().map(text).collect()
}

fn read(format: Format, prefix: &str, pieces: &[&str]) -> Vec<Event> {
    let reading = reading(Some(format), &[("<think>", "</think>"), ("[THINK]", "[/THINK]")]);
    events(&mut Parser::new(&reading, &tools(), prefix), pieces)
}

#[track_caller]
fn check(format: Format, answer: &str, expected: &str) {
    let read = read(format, "", &[answer]);
    assert_eq!(shown(&read), expected, "{answer}");
    assert_eq!(written(&read), answer);
}

const PARIS: &str = r#"⟨call:get_weather {"city": "Paris"}⟩"#;

/// One answer per file of `tests/answers`, as the model's documentation or its template writes it, and what it is.
#[test]
fn answers_as_models_write_them() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/answers");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let format = name.split('_').next().unwrap();
        let format: Format = serde_json::from_value(format.into()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (answer, expected) = text.trim_end().split_once("\n=====\n").unwrap_or_else(|| panic!("{name}: two parts"));
        let read = read(format, "", &[answer]);
        assert_eq!(shown(&read), expected, "{name}");
        assert_eq!(written(&read), answer, "{name}");
        count += 1;
    }
    assert!(count >= 12, "only {count} answers");
}

#[test]
fn what_is_no_call_is_content() {
    for (format, answer) in [
        (Format::Hermes, "<tool_call>\n{\"name\": \"delete_all\", \"arguments\": {}}\n</tool_call>"),
        (Format::Hermes, "<tool_call>soon"),
        (Format::Hermes, "<tool_call>\n{\"name\": \"now\", \"arguments\": [1]}\n</tool_call>"),
        (Format::Hermes, "<tool_call>\n{\"arguments\": {}}\n</tool_call>"),
        (Format::Hermes, "a <tool_cal"),
        (Format::Hermes, "<tool_call>{\"name\": \"now\""),
        (Format::Json, "{\"answer\": 42}"),
        (Format::Json, "[1, 2]"),
        (Format::Json, "Here: {\"name\": \"now\"}"),
        (Format::Json, "```json\n{\"a\": 1}\n```"),
        (Format::Llama, "<|python_tag|>print(1)"),
        (Format::Mistral, "[TOOL_CALLS]delete_all{}"),
        (Format::Mistral, "[TOOL_CALLS] none"),
        (Format::Deepseek, "<｜tool▁calls▁begin｜>nothing"),
        (Format::QwenXml, "<function=delete_all>\n</function>"),
        (Format::QwenXml, "use `<function=`"),
    ] {
        check(format, answer, &format!("⟨text:{answer}"));
    }
    let none = reading(Some(Format::Hermes), &[]);
    let mark = "<tool_call>{\"name\": \"now\"}</tool_call>";
    assert_eq!(Parser::new(&none, &[], "").push(mark, true), [Event::Content(mark.to_owned())], "no tools, no calls");
}

#[test]
fn arguments_that_break_off_are_arguments_and_the_rest_is_content() {
    check(
        Format::Hermes,
        "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": oops}}</tool_call>",
        "⟨call:now {\"a\": ⟩⟨text:oops}}</tool_call>",
    );
    check(Format::Hermes, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": [", "⟨call:now {\"a\": [⟩");
}

/// What there is of a tag or an argument is not shown to people, and arguments that lost one are no JSON, as in all other forms.
#[test]
fn a_call_between_tags_that_breaks_off_ends_where_it_was_whole() {
    const GIVEN: &str = "<function=now>\n<parameter=a>\n1\n</parameter>";
    for (answer, expected) in [
        ("<function=now>", "⟨call:now {}⟩"),
        ("<function=now>\n<", "⟨call:now {}⟩"),
        ("<function=now>\n<parameter=a>\n1", "⟨call:now {⟩"),
        (GIVEN, "⟨call:now {\"a\": 1}⟩"),
        (&format!("{GIVEN}\n</func"), "⟨call:now {\"a\": 1}⟩"),
        (&format!("{GIVEN}\n<param"), "⟨call:now {\"a\": 1⟩"),
        (&format!("{GIVEN}\n<parameter=b>\n2"), "⟨call:now {\"a\": 1⟩"),
        (&format!("{GIVEN}\n</tool_call>"), "⟨call:now {\"a\": 1}⟩"),
        (&format!("{GIVEN} done"), "⟨call:now {\"a\": 1}⟩⟨text: done"),
    ] {
        check(Format::QwenXml, answer, expected);
    }
}

#[test]
fn calls_have_their_arguments_in_several_places_and_forms() {
    let hermes = |call: &str| read(Format::Hermes, "", &[&format!("<tool_call>{call}</tool_call>")]);
    for call in [
        r#"{"arguments": {"city": "Paris"}, "name": "get_weather"}"#,
        r#"{"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}"#,
        r#"{"type": "function", "function": {"name": "get_weather", "parameters": {"city": "Paris"}}}"#,
        r#"{"id": "1", "function": "get_weather", "arguments": {"city": "Paris"}, "x": [1]}"#,
        r#"[{"name": "get_weather", "arguments": {"city": "Paris"}}]"#,
        r#"{"name": "get_weather", "arguments": {"city": "Paris"}"#,
    ] {
        assert_eq!(shown(&hermes(call)), PARIS, "{call}");
    }
    for call in [r#"{"name": "now"}"#, r#"{"name": "now", "arguments": null}"#, r#"{"name": "now", "arguments": ""}"#] {
        assert_eq!(shown(&hermes(call)), "⟨call:now {}⟩", "{call}");
    }
    let broken = hermes("{\"name\": \"now\", \"arguments\": {\"a\": \"b\n\tc\"}}");
    assert_eq!(shown(&broken), "⟨call:now {\"a\": \"b\\n\\tc\"}⟩", "JSON has no such characters in strings");
}

#[test]
fn arguments_go_out_as_they_come() {
    let mut parser = Parser::new(&reading(Some(Format::Hermes), &[]), &tools(), "");
    assert_eq!(
        parser.push("Wait.\n<tool_call>\n{\"name\": \"now\", \"argum", false),
        [Event::Content("Wait.".to_owned())]
    );
    let started = parser.push("ents\": {\"a", false);
    assert_eq!(started[1..], [Event::CallStart("now".to_owned()), Event::Arguments("{\"a".to_owned())]);
    assert_eq!(parser.push("\": 1", false), [Event::Arguments("\": 1".to_owned())]);
}

#[test]
fn what_never_ends_is_not_held() {
    for answer in [
        format!("<tool_call>{{\"arguments\": {{\"a\": \"{}", "x".repeat(100_000)),
        format!("<tool_call>{}", " ".repeat(100_000)),
        format!("<tool_call>{{\"name\": \"now\"}}</tool_call>{}", "\n".repeat(100_000)),
        format!("{}{{", " ".repeat(100_000)),
        format!("<tool_call>{{\"name\": \"now\", \"arguments\": {{}}, \"x\": \"{}", "x".repeat(100_000)),
    ] {
        for format in [Format::Hermes, Format::Json] {
            let mut parser = Parser::new(&reading(Some(format), &[]), &tools(), "");
            let said: usize =
                parser.push(&answer, false).iter().map(|event| written(std::slice::from_ref(event)).len()).sum();
            assert!(
                answer.len() - said <= 64 * 1024,
                "{} of {} bytes are held: {answer:.60}",
                answer.len() - said,
                answer.len()
            );
        }
    }
}

fn thoughts(prefix: &str, answer: &str, expected: &str) {
    let read = read(Format::Hermes, prefix, &[answer]);
    assert_eq!(shown(&read), expected);
    assert_eq!(written(&read), answer);
}

#[test]
fn thoughts_at_the_start_are_reasoning() {
    thoughts("", "<think>\nTwo and two.\n</think>\n\nFour.", "⟨thought:Two and two.⟨text:Four.");
    thoughts("", "\n[THINK]a\n\nb", "⟨thought:a\n\nb");
    thoughts("<think>\n", "Two.\n</think>\nFour.", "⟨thought:Two.⟨text:Four.");
    thoughts("", "Hello <think>no</think>", "⟨text:Hello <think>no</think>");
    thoughts("", " <thi", "⟨text: <thi");
    thoughts("", "<think></think>Four.\n", "⟨text:Four.\n");
    thoughts("", "<think>a</think>\n<tool_call>{\"name\": \"now\"}</tool_call>\n", "⟨thought:a⟨call:now {}⟩");
}

/// The first of these is every format's call of `get_weather`.
fn call(format: Format) -> String {
    let [before, between, behind] = format.frame();
    let (first, _, last) = format.list();
    match format {
        Format::QwenXml => {
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
                .to_owned()
        }
        _ => format!("{first}{before}get_weather{between}{{\"city\": \"Paris\"}}{behind}{last}"),
    }
}

const FORMATS: [Format; 10] = [
    Format::Hermes,
    Format::Granite,
    Format::Llama,
    Format::Mistral,
    Format::MistralArgs,
    Format::Deepseek,
    Format::DeepseekPlain,
    Format::QwenXml,
    Format::Harmony,
    Format::Json,
];

#[test]
fn what_a_format_writes_it_reads() {
    for format in FORMATS {
        assert_eq!(shown(&read(format, "", &[&call(format)])), PARIS, "{format:?}");
    }
}

fn answers() -> impl Strategy<Value = (Format, String)> {
    let part = prop_oneof![
        2 => Just("whole".to_owned()),
        3 => "[a <{}\\[\\]:,\"\n`\\\\é1]{0,6}",
        1 => prop_oneof![
            Just("<think>".to_owned()), Just("</think>".to_owned()), Just("\"name\": \"now\"".to_owned()),
            Just("\"arguments\": {".to_owned()), Just("{\"name\": \"now\", \"arguments\": {\"a\": ".to_owned()),
            Just("</tool_call>".to_owned()), Just("get_weather".to_owned()), Just("}}".to_owned()), Just("; ".to_owned()),
            Just("<parameter=a>".to_owned()), Just("</parameter>".to_owned()), Just("</function>".to_owned()),
        ],
        1 => any::<prop::sample::Index>().prop_map(|index| format!("mark {}", index.index(100))),
        1 => (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(from, to)| format!("part {} {}", from.index(1000), to.index(1000))),
    ];
    let format = any::<prop::sample::Index>().prop_map(|index| *index.get(&FORMATS));
    (format, proptest::collection::vec(part, 0..6)).prop_map(|(format, parts)| {
        let mut answer = String::new();
        let whole = call(format);
        let characters: Vec<char> = whole.chars().collect();
        for part in parts {
            let mut words = part.split(' ');
            match (words.next(), words.next().and_then(|n| n.parse::<usize>().ok()), words.next()) {
                (Some("whole"), None, None) => answer.push_str(&whole),
                (Some("mark"), Some(number), None) => {
                    let marks: Vec<&str> = format.marks().into_iter().chain(["```json", "{"]).collect();
                    answer.push_str(marks[number % marks.len()]);
                }
                (Some("part"), Some(from), Some(to)) => {
                    let to: usize = to.parse().unwrap_or(0);
                    let (from, to) = (from % characters.len(), to % characters.len());
                    answer.extend(&characters[from.min(to)..from.max(to)]);
                }
                _ => write!(answer, "{part}").unwrap(),
            }
        }
        (format, answer)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_chunking_reads_the_same_and_no_byte_is_lost(
        (format, answer) in answers(),
        prefix in prop_oneof![Just(""), Just("<think>\n")],
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        bytewise in any::<bool>(),
    ) {
        let boundaries: Vec<usize> = answer.char_indices().map(|(at, _)| at).chain([answer.len()]).collect();
        let mut cuts: Vec<usize> = if bytewise { boundaries.clone() } else { cuts.iter().map(|cut| *cut.get(&boundaries)).collect() };
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in cuts.into_iter().chain([answer.len()]) {
            pieces.push(&answer[start..end]);
            start = end;
        }
        let (whole, cut) = (read(format, prefix, &[&answer]), read(format, prefix, &pieces));
        prop_assert_eq!(shown(&whole), shown(&cut));
        prop_assert_eq!(written(&whole), answer.as_str());
        prop_assert_eq!(written(&cut), answer.as_str());
        // Calls do not begin inside one another, and every one ends.
        let mut is_open = false;
        for event in &cut {
            match event {
                Event::CallStart(name) => {
                    prop_assert!(!is_open && tools().iter().any(|tool| tool.name == *name));
                    is_open = true;
                }
                Event::CallEnd => {
                    prop_assert!(is_open);
                    is_open = false;
                }
                Event::Arguments(_) | Event::Written(_) => prop_assert!(is_open),
                Event::Content(_) | Event::Reasoning(_) => prop_assert!(!is_open),
                Event::Syntax(_) => {}
            }
        }
        prop_assert!(!is_open);
    }
}

#[test]
fn whole_calls_have_arguments_that_are_json() {
    for format in FORMATS {
        let events = read(format, "", &[&call(format)]);
        let arguments: String = events
            .iter()
            .filter_map(|event| match event {
                Event::Arguments(text) | Event::Written(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert!(
            serde_json::from_str::<Value>(&arguments).is_ok_and(|value| value.is_object()),
            "{format:?}: {arguments}"
        );
    }
}
