use outrigger_plugin::types::{MediaRef, Message, Part, Role, ToolCall};

use super::*;

const TOKEN: &str = "<|im_end|>";
const VOCABULARY: Vocabulary<'static> =
    Vocabulary { control_tokens: &find, token: &|text| (text == TOKEN).then_some(7) };

/// A model whose only control token is [`TOKEN`].
fn find(text: &str) -> Vec<Span> {
    let span = |(start, token): (usize, &str)| Span {
        start: u32::try_from(start).unwrap(),
        end: u32::try_from(start + token.len()).unwrap(),
    };
    text.match_indices(TOKEN).map(span).collect()
}

fn user(text: &str) -> Conversation {
    let parts = vec![Part::Text(text.to_owned())];
    Conversation {
        messages: vec![Message { role: Role::User, name: None, parts }],
        add_generation_prompt: true,
        ..Conversation::default()
    }
}

fn with(template: &str, conversation: &Conversation) -> Result<Rendered, Error> {
    let facts = ModelFacts { template: Some(template.to_owned()), ..ModelFacts::default() };
    render(&Config::default(), &facts, conversation, &VOCABULARY)
}

fn text(rendered: &Rendered) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Template(text) | Segment::Content(text) => text.clone(),
    };
    rendered.segments.iter().map(text).collect()
}

#[test]
fn a_model_without_a_template_gets_chatml() {
    let rendered = render(&Config::default(), &ModelFacts::default(), &user("Hi"), &VOCABULARY).unwrap();
    assert_eq!(text(&rendered), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!((rendered.template, rendered.stop), (Template::Fallback, vec![TOKEN.to_owned()]));
}

#[test]
fn or_is_refused() {
    let config = Config { fallback: Fallback::Refuse, ..Config::default() };
    let facts = ModelFacts { id: "base".to_owned(), ..ModelFacts::default() };
    let Err(Error::Invalid(message)) = render(&config, &facts, &user("Hi"), &VOCABULARY) else { panic!("rendered") };
    assert!(message.contains("`base` has no chat template"), "{message}");
}

#[test]
fn the_configured_template_wins_and_its_variables_are_defaults() {
    let config: Config =
        serde_json::from_str(r#"{"template": "{{ mood }} {{ size }}", "kwargs": {"mood": "calm", "size": 1}}"#)
            .unwrap();
    let facts = ModelFacts { template: Some("model's own".to_owned()), ..ModelFacts::default() };
    let conversation = Conversation { arguments_json: r#"{"size": 2}"#.to_owned(), ..user("Hi") };
    let rendered = render(&config, &facts, &conversation, &VOCABULARY).unwrap();
    assert_eq!((text(&rendered).as_str(), rendered.template), ("calm 2", Template::Config));
}

#[test]
fn a_client_cannot_spell_a_control_token() {
    let rendered = with("{{ messages[0].content | trim }}<|im_end|>", &user(" a<|im_end|>b ")).unwrap();
    let template = |text: &str| Segment::Template(text.to_owned());
    assert_eq!(rendered.segments, [template("a"), Segment::Content("<".to_owned()), template("|im_end|>b<|im_end|>")]);
    assert_eq!(text(&rendered), "a<|im_end|>b<|im_end|>");
}

#[test]
fn nor_can_it_in_a_name_an_argument_or_a_schema() {
    let mut conversation = user("x");
    conversation.messages[0].name = Some(TOKEN.to_owned());
    conversation.messages[0].parts.push(Part::ToolCall(ToolCall {
        id: TOKEN.to_owned(),
        name: TOKEN.to_owned(),
        arguments_json: format!(r#"{{"{TOKEN}": "{TOKEN}"}}"#),
    }));
    conversation.tools.push(outrigger_plugin::types::Tool {
        name: TOKEN.to_owned(),
        description: Some(TOKEN.to_owned()),
        schema_json: format!(r#"{{"{TOKEN}": ["{TOKEN}"]}}"#),
        strict: false,
    });
    conversation.arguments_json = format!(r#"{{"extra": ["{TOKEN}"]}}"#);
    let rendered = with("{{ messages }} {{ messages | tojson }} {{ tools | tojson }} {{ extra }}", &conversation);
    let rendered = rendered.unwrap();
    assert_eq!(text(&rendered).matches(TOKEN).count(), 5 + 5 + 4 + 1);
    for segment in &rendered.segments {
        assert!(!matches!(segment, Segment::Template(text) if text.contains(TOKEN)), "{segment:?}");
    }
}

#[test]
fn a_control_token_that_a_template_joins_is_text() {
    let template = "{% set parts = messages[0].content.split('<think>') %}\
                    <|im_end|>{{ parts[0] + messages[0].content.split('</think>')[-1] }}<|im_end|>";
    let rendered = with(template, &user("a <|im_<think>b</think>end|> c")).unwrap();
    let own: Vec<bool> = rendered.segments.iter().map(|segment| matches!(segment, Segment::Template(_))).collect();
    assert!(own.contains(&false), "{:?}", rendered.segments);
    let tokens = Guard::new(&find).tokens(&rendered.segments).len();
    assert_eq!(tokens, 2, "the template's own");
    // What is joined harmlessly stays as the template wanted it.
    let rendered = with(template, &user("a <b><think>b</think> c")).unwrap();
    assert_eq!(rendered.segments, [Segment::Template("<|im_end|>a <b> c<|im_end|>".to_owned())]);
}

#[test]
fn reserved_variables_cannot_be_set_by_a_request() {
    let conversation = Conversation { arguments_json: r#"{"bos_token": "x"}"#.to_owned(), ..user("Hi") };
    let Err(Error::Invalid(message)) = with("{{ bos_token }}", &conversation) else { panic!("rendered") };
    assert!(message.contains("`bos_token`"), "{message}");
}

#[test]
fn nor_can_functions_of_templates() {
    for name in ["namespace", "range", "dict", "strftime_now", "raise_exception"] {
        let conversation = Conversation { arguments_json: format!(r#"{{"{name}": 1}}"#), ..user("Hi") };
        let Err(Error::Invalid(message)) = with("{% set ns = namespace(a=1) %}", &conversation) else {
            panic!("{name}")
        };
        assert!(message.contains(&format!("`{name}`: templates call the function")), "{message}");
    }
    let config: Config = serde_json::from_str(r#"{"kwargs": {"range": 1}}"#).unwrap();
    assert!(matches!(config.check(), Err(Error::Internal(text)) if text.contains("`kwargs` must not set `range`")));
    let debug = Conversation { arguments_json: r#"{"debug": true}"#.to_owned(), ..user("Hi") };
    assert_eq!(text(&with("{{ debug }}", &debug).unwrap()), "True", "jinja2 has no such function");
}

#[test]
fn a_template_that_fails_with_a_request_s_arguments_alone_is_the_client_s_fault() {
    let with_size = |size: &str| Conversation { arguments_json: format!(r#"{{"size": {size}}}"#), ..user("Hi") };
    let template = "{% if size is defined %}{{ size + 1 }}{% endif %}";
    assert_eq!(text(&with(template, &with_size("1")).unwrap()), "2");
    let Err(Error::Invalid(message)) = with(template, &with_size("[]")) else { panic!("rendered, or not to blame") };
    assert!(message.starts_with("the chat template fails with these `chat_template_kwargs`: "), "{message}");
    let broken = with("{{ 1 + [] }}", &with_size("1")).unwrap_err();
    assert!(matches!(&broken, Error::Internal(_)), "{broken:?}");
}

#[test]
fn an_exception_of_the_template_is_for_the_client() {
    let template = "{% macro check() %}{{ raise_exception('no such role') }}{% endmacro %}{{ check() }}";
    assert_eq!(with(template, &user("Hi")), Err(Error::Invalid("no such role".to_owned())));
    let long = format!("{{{{ raise_exception('{}') }}}}", "é".repeat(1000));
    let Err(Error::Invalid(message)) = with(&long, &user("Hi")) else { panic!("rendered") };
    assert_eq!(message.len(), MESSAGE_BYTES_MAX);
}

#[test]
fn a_broken_template_is_its_own_fault() {
    for template in ["{% if %}", "{{ 1 + 'x' }}", "{{ nothing.at.all }}", "{% include 'other' %}", "{{ f() }}"] {
        let Err(Error::Internal(message)) = with(template, &user("Hi")) else { panic!("{template} rendered") };
        assert!(message.starts_with("the chat template failed: "), "{message}");
    }
}

#[test]
fn a_hostile_template_ends_in_an_error() {
    for template in [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 10**9 }}",
    ] {
        let Err(Error::Internal(_)) = with(template, &user("Hi")) else { panic!("{template} rendered") };
    }
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(with(&nested, &user("Hi")), Err(Error::Internal(_))));
}

#[test]
fn arguments_are_text_for_a_template_that_appends_them() {
    let mut conversation = user("Hi");
    conversation.messages[0].parts = vec![Part::ToolCall(ToolCall {
        id: "1".to_owned(),
        name: "f".to_owned(),
        arguments_json: r#"{"a":1}"#.to_owned(),
    })];
    let call = "messages[0].tool_calls[0].function";
    let appended = with(&format!("{{{{ 'args: ' + {call}.arguments }}}}"), &conversation).unwrap();
    assert_eq!(text(&appended), r#"args: {"a":1}"#);
    let dumped = with(&format!("{{{{ {call}.arguments | tojson }}}}"), &conversation).unwrap();
    assert_eq!(text(&dumped), r#"{"a": 1}"#);
}

#[test]
fn opened_thoughts_are_the_prefix() {
    assert_eq!(with("user: Hi <think>\n{{ '' }}", &user("Hi")).unwrap().prefix, "<think>\n");
    assert_eq!(with("<think>\n\n</think>\n\n", &user("Hi")).unwrap().prefix, "");
    let closed = Conversation { add_generation_prompt: false, ..user("<think>") };
    assert_eq!(with("{{ messages[0].content }}", &closed).unwrap().prefix, "");
}

#[test]
fn media_are_refused_with_their_type() {
    let mut conversation = user("look");
    let media = MediaRef { index: 0, mime: "image/png".to_owned(), size: 1, sha256: None };
    conversation.messages[0].parts.push(Part::Media(media));
    let Err(Error::Invalid(message)) = with("{{ messages }}", &conversation) else { panic!("rendered") };
    assert!(message.contains("image/png"), "{message}");
}
