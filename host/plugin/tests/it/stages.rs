//! What the stages do when everybody behaves.

use std::time::Duration;

use inference::{
    Dry, FaultKind, Finish, Message, OutputFormat, Part, Pipeline, PipelineError, Prepared, Prompt, Role, Segment,
    Stage, Token,
};
use plugin::{Limits, Modify, PluginSpec, Plugins};
use telemetry::Metrics;

use crate::house::{Answer, House, call, chat, guest, guest_for, model_with, renderer, sandbox};

#[tokio::test]
async fn a_form_may_come_from_the_prompt() {
    let prepared = House::told(r#"{"behaviour": "grammar"}"#).prepare().await.expect("the guest behaves");
    assert_eq!((prepared.request.format, prepared.prompt.format), (None, Some(OutputFormat::JsonObject)));
}

#[tokio::test]
async fn a_request_goes_all_the_way() {
    let house = House::told(r#"{"behaviour": "note"}"#);
    let prepared = house.prepare().await.expect("the guest behaves");
    let expected = Prompt {
        segments: vec![Segment::Template("<|Role::User|>".to_owned()), Segment::Content("Hello".to_owned())],
        stop: vec!["<|end|>".to_owned()],
        prefix: String::new(),
        format: None,
        marks: Vec::new(),
    };
    assert_eq!((prepared.request, prepared.prompt), (chat("Hello"), expected));

    let answer = house.answer(&["Hel", "lo", ""]).await.expect("the guest behaves");
    let notes = [("seen", "yes"), ("end", "Finish::Stop")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((answer.content.as_str(), answer.notes.as_slice()), ("Hello", notes.as_slice()));
    // One audit of the request that was dropped after `prepare`, one of the whole one.
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\"", "outcome=\"ok\""], 2).await;
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
}

#[tokio::test]
async fn without_a_parser_or_filter_text_is_content() {
    let house = House::of(vec![renderer()]);
    let answer = house.answer(&["<think>", "no", "</think>"]).await.expect("nobody is in the way");
    assert_eq!(answer.content, "<think>no</think>");
}

#[tokio::test]
async fn a_parser_tells_thoughts_and_calls_from_text() {
    let house = House::told(r#"{"lines": true}"#);
    let text = "!reasoning hm\n!call add\n!arguments {\"a\":\n!arguments 1}\n!end \n!call now\nyes";
    let answer = house.answer(&[&text[..20], &text[20..]]).await.expect("the guest behaves");
    let calls = [("add", "{\"a\":1}"), ("now", "")].map(|(name, said)| (name.to_owned(), said.to_owned()));
    assert_eq!((&*answer.content, &*answer.reasoning, &*answer.calls), ("yes", "hm", calls.as_slice()));
}

/// Prepares with one policy, granted `modify`.
async fn judge(behaviour: &str, modify: &[Modify]) -> Result<Prepared, PipelineError> {
    let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
    let policy = PluginSpec { modify: modify.to_vec(), ..guest_for(&[Stage::Policy], "policy", &config) };
    House::of(vec![policy, renderer()]).prepare().await
}

#[tokio::test]
async fn a_policy_changes_what_it_was_granted() {
    let changed = judge("replace-messages", &[Modify::Messages]).await.expect("it was granted").request;
    let system = Message { role: Role::System, name: None, parts: vec![Part::Text("Be brief.".to_owned())] };
    assert_eq!(changed.messages[..], [system, chat("Hello").messages.remove(0)]);

    let changed = judge("replace-sampling", &[Modify::Sampling]).await.expect("it was granted").request;
    assert_eq!(changed.max_tokens, Some(1));

    let changed = judge("replace-tools", &[Modify::Tools]).await.expect("it was granted").request;
    assert_eq!(changed.tools[0].name, "rm");

    let changed = judge("replace-grammar", &[Modify::Grammar]).await.expect("it was granted").request;
    assert_eq!(changed.format, Some(OutputFormat::Regex("[0-9]+".to_owned())));

    let changed = judge("replace-extra", &[Modify::Extra]).await.expect("it was granted").request;
    assert!((changed.sampling.presence_penalty - 1.5).abs() < f32::EPSILON);
}

#[tokio::test]
async fn a_request_survives_the_way_there_and_back() {
    let policy = guest_for(&[Stage::Policy], "policy", r#"{"behaviour": "replace-with-the-same"}"#);
    let house = House::of(vec![policy, renderer()]);
    let mut request = chat("Hello");
    request.sampling.frequency_penalty = 0.1;
    request.sampling.repeat_penalty = 1.3;
    request.sampling.seed = Some(7);
    request.template_arguments = r#"{"enable_thinking": false}"#.to_owned();
    request.format = Some(OutputFormat::Gbnf("root ::= \"a\"".to_owned()));
    request.stop = vec!["\n\n".to_owned()];
    request.sampling.typical_p = 0.9;
    request.sampling.dry = Some(Dry { multiplier: 0.8, ..Dry::default() });
    request.sampling.logit_bias = vec![(Token(3), -100.0), (Token(7), 0.1)];
    request.stop_tokens = vec![Token(9)];
    request.ignore_end = true;
    request.logprobs = Some(5);
    let prepared = house.begin().prepare(request.clone()).await.expect("nothing changed, so nothing needs a grant");
    assert_eq!(prepared.request, request);
}

#[tokio::test]
async fn who_stands_between_the_model_and_the_client_is_named() {
    let changes = |plugins: Vec<PluginSpec>| {
        let house = House::of(plugins);
        house.plugins.changes_text().map(|(plugin, stage)| (plugin.to_owned(), stage))
    };
    let named = |plugin: &str, stage| Some((plugin.to_owned(), stage));
    let others = guest_for(&[Stage::Policy, Stage::Audit], "others", "{}");
    assert_eq!(changes(vec![renderer(), others]), None, "policies and audits see no text of the answer");
    let filter =
        |name: &str, order| PluginSpec { stages: Some(vec![(Stage::Postprocess, order)]), ..guest(name, "{}") };
    assert_eq!(changes(vec![renderer(), filter("late", 2), filter("early", 1)]), named("early", Stage::Postprocess));
    let parser = guest_for(&[Stage::Parse], "parser", "{}");
    assert_eq!(changes(vec![parser.clone(), renderer()]), None, "a parser sorts the text and keeps nothing back");
    assert_eq!(changes(vec![parser, filter("early", 1), renderer()]), named("early", Stage::Postprocess));
}

#[tokio::test]
async fn a_policy_rejects() {
    let rejected = |status| PipelineError::Rejected {
        plugin: "policy".to_owned(),
        status,
        code: "told-to".to_owned(),
        message: "told to reject".to_owned(),
        retry_after: Some(Duration::from_millis(1_500)),
    };
    assert_eq!(judge("reject", &[]).await, Err(rejected(429)));
    assert_eq!(judge("reject-with-odd-status", &[]).await, Err(rejected(403)), "only 4xx is a policy's to choose");
}

#[tokio::test]
async fn the_first_rejection_ends_the_chain_and_is_audited() {
    let house = House::of(vec![
        PluginSpec { stages: Some(vec![(Stage::Policy, 20)]), ..guest("late", r#"{"behaviour": "panic-in-policy"}"#) },
        PluginSpec { stages: Some(vec![(Stage::Policy, 10)]), ..guest("early", r#"{"behaviour": "reject"}"#) },
        guest_for(&[Stage::Prompt, Stage::Audit], "renderer", "{}"),
    ]);
    let error = house.prepare().await.expect_err("the early one rejects");
    assert!(matches!(error, PipelineError::Rejected { plugin, .. } if plugin == "early"));
    house.wait_for("outrigger_plugin_calls_total", &["plugin=\"renderer\"", "stage=\"audit\""], 1).await;
    assert_eq!(house.count("outrigger_plugin_calls_total", &["plugin=\"late\""]), 0);
}

#[tokio::test]
async fn notes_are_bounded_and_secrets_are_not_seen() {
    let policy = |behaviour: &str, headers: &[&str]| {
        let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
        let headers = headers.iter().map(|&header| header.to_owned()).collect();
        House::of(vec![PluginSpec { headers, ..guest_for(&[Stage::Policy], "policy", &config) }, renderer()])
    };
    let notes = policy("note-too-much", &[]).answer(&["x"]).await.expect("notes are cut, not refused").notes;
    assert_eq!((notes.len(), notes[15].0.as_str(), notes[15].1.len()), (16, "note-15", 256));

    let notes = policy("note-headers", &["x-tenant"]).answer(&["x"]).await.expect("the guest behaves").notes;
    assert_eq!(notes, [("x-tenant".to_owned(), "acme".to_owned())]);

    let notes = policy("note-headers", &[]).answer(&["x"]).await.expect("the guest behaves").notes;
    assert_eq!(notes, [], "no header is seen that was not granted");
}

#[tokio::test]
async fn a_stop_ends_the_answer_for_everybody() {
    let filter = |name: &str, config: &str| guest_for(&[Stage::Postprocess], name, config);
    let house = House::of(vec![
        renderer(),
        filter("stopper", r#"{"stop": "STOP"}"#),
        filter("masker", r#"{"mask": "secret", "behaviour": "note"}"#),
    ]);
    let answer = house.answer(&["a secr", "et and secrST", "OP and more", "and more"]).await.expect("they behave");
    assert_eq!(
        (&*answer.content, answer.stop),
        ("a [masked] and secr", Some(Finish::Filtered)),
        "what the masker held is released at the stop"
    );
    assert_eq!(answer.notes, [("end".to_owned(), "Finish::Filtered".to_owned())]);
    assert_eq!(house.count("outrigger_plugin_calls_total", &["stopper", "outcome=\"stop\""]), 1);
}

/// What a filter held of the thoughts was in front of the place where it ended the text.
#[tokio::test]
async fn a_stop_drops_nothing_that_came_before_it() {
    let parser = guest_for(&[Stage::Prompt, Stage::Parse], "parser", r#"{"lines": true}"#);
    let filter = guest_for(&[Stage::Postprocess], "filter", r#"{"stop": "STOP", "mask": "secret"}"#);
    let house = House::of(vec![parser, filter]);
    for pieces in
        [&["!reasoning a secret secr\nb STOP c\n"][..], &["!reasoning a secret se", "cr\nb S", "TOP c\n", "d"]]
    {
        let answer = house.answer(pieces).await.expect("they behave");
        assert_eq!((&*answer.reasoning, &*answer.content), ("a [masked] secr", "b "), "{pieces:?}");
        assert_eq!(answer.stop, Some(Finish::Filtered));
    }
}

#[tokio::test]
async fn a_filter_is_not_asked_before_there_is_enough() {
    // Eight bytes come two at a time, 3 ms apart. Without a delay the filter sees them together, then the end; with
    // one of 1 ms it sees four, the other four, then the end.
    for (max_delay_ms, pushes) in [(0, 2), (1, 3)] {
        let config = format!(r#"{{"min-bytes": 8, "max-delay-ms": {max_delay_ms}}}"#);
        let house = House::of(vec![renderer(), guest_for(&[Stage::Postprocess], "filter", &config)]);
        let (mut run, mut answer) = (house.begin(), Answer::default());
        run.prepare(chat("Hello")).await.expect("the guest behaves");
        for piece in ["12", "34", "56", "78"] {
            tokio::time::sleep(Duration::from_millis(3)).await;
            answer.take(run.push(piece.to_owned(), Vec::new(), piece == "78").await.expect("the guest behaves"));
        }
        assert_eq!(answer.content, "12345678");
        let calls = house.count("outrigger_plugin_calls_total", &["filter", "outcome=\"pass\""]);
        assert_eq!(calls, pushes, "with a delay of {max_delay_ms} ms");
    }
}

/// How `chat-template` takes a template: the prompt's text, or what it said.
async fn render(template: &str) -> Result<String, PipelineError> {
    // What is looked at is the stack; a machine that is busy with other tests takes its time.
    let (prompt_cpu_max, request_cpu_max) = (Duration::from_secs(5), Duration::from_secs(5));
    let limits = Limits { prompt_cpu_max, request_cpu_max, ..Limits::default() };
    let spec = PluginSpec { limits, ..PluginSpec::new("chat-template", "bundled", bundled::CHAT_TEMPLATE) };
    let plugin = sandbox().load(spec, &model_with(Some(template.to_owned()))).expect("it loads");
    let plugins = Plugins::new(sandbox(), vec![plugin], Metrics::new(&[]).plugins).expect("one plugin");
    plugins.begin(call()).prepare(chat("Hello")).await.map(|prepared| prepared.prompt.text())
}

#[tokio::test]
async fn deep_templates_fit_the_stack_or_are_refused_in_words() {
    for depth in [10, 100, 140, 1_000, 20_000] {
        let ifs = format!("{}x{}", "{% if true %}".repeat(depth), "{% endif %}".repeat(depth));
        let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth));
        let lists = format!("{{{{ {}1{} }}}}", "[".repeat(depth), "]".repeat(depth));
        let sums = format!("{{{{ 1{} }}}}", "+1".repeat(depth));
        let calls = format!(
            "{{% macro down(n) %}}{{% if n > 0 %}}{{{{ down(n - 1) }}}}{{% endif %}}.{{% endmacro %}}{{{{ down({depth}) }}}}"
        );
        for (what, template) in
            [("ifs", ifs), ("parentheses", parentheses), ("lists", lists), ("sums", sums), ("calls", calls)]
        {
            match render(&template).await {
                Ok(_) => {}
                Err(PipelineError::Invalid { .. } | PipelineError::Fault { kind: FaultKind::Error, .. }) => {
                    assert!(depth >= 100 || what == "calls", "{depth} {what} are not too many");
                }
                // Nobody writes that, and the sandbox holds.
                Err(PipelineError::Fault { kind: FaultKind::Stack, .. }) if depth > 1_000 => {}
                Err(error) => panic!("{depth} {what}: {error:?}"),
            }
        }
    }
}
