use super::*;
use crate::spec::Wasi;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse("plugin.toml", text, |name| Err(format!("names `{name}`, which this test does not have")))
}

const ABOUT: &str = "[plugin]\nname = \"mask\"\nversion = \"1.0.0\"\ndescription = \"Masks.\"\n";

fn check_refused(rest: &str, expected: &str) {
    let error = parse(&format!("{ABOUT}{rest}")).expect_err("no manifest");
    assert_eq!(error.to_string(), expected, "{rest}");
}

#[test]
fn a_manifest_says_what_a_plugin_is_and_asks_for() {
    let manifest = parse(
        r#"
        [plugin]
        name = "mask"
        version = "1.4.0"
        description = "Masks e-mail addresses."
        authors = ["A <a@example.org>"]
        license = "Apache-2.0"

        [stages]
        policy = { order = 20 }
        postprocess = 80

        [asks]
        headers = ["x-tenant"]
        modify = [{ name = "messages", required = false, reason = "to mask what users write" }]
        kv = [{ store = "seen", bytes = 65536 }]
        metrics = [{ name = "masked", kind = "counter", labels = ["kind"] }]
        token-control = { required = false }
        model = true
        wasi = "quiet"

        [asks.limits]
        init_ms = 500
        memory_bytes = { least = 67108864, reason = "to hold the word list" }

        [config.schema]
        type = "object"
        "#,
    )
    .expect("a manifest");
    assert_eq!((manifest.about.name.as_str(), manifest.about.version.as_str()), ("mask", "1.4.0"));
    assert_eq!(manifest.stages, Some(vec![(Stage::Policy, 20), (Stage::Postprocess, 80)]));
    let need = |required, reason: Option<&str>| Need { required, reason: reason.map(str::to_owned) };
    let named = |name: &str, need| NamedAsk { name: name.to_owned(), need };
    let expected = Asks {
        modify: vec![named("messages", need(false, Some("to mask what users write")))],
        headers: vec![named("x-tenant", need(true, None))],
        kv: vec![KvAsk { store: "seen".to_owned(), bytes: Some(65_536), need: need(true, None) }],
        metrics: vec![MetricAsk {
            name: "masked".to_owned(),
            kind: MetricKind::Counter,
            labels: vec!["kind".to_owned()],
            help: None,
            need: need(true, None),
        }],
        token_control: Some(need(false, None)),
        model: Some(need(true, None)),
        wasi: Some(WasiAsk { profile: Wasi::Quiet, need: need(true, None) }),
        limits: [
            ("init_ms".to_owned(), LimitAsk { least: 500, need: need(true, None) }),
            ("memory_bytes".to_owned(), LimitAsk { least: 64 << 20, need: need(true, Some("to hold the word list")) }),
        ]
        .into(),
    };
    assert_eq!(manifest.asks, expected);
    assert!(manifest.config_schema.is_some());
}

#[test]
fn the_least_manifest_asks_for_nothing() {
    let manifest = parse(ABOUT).expect("a manifest");
    assert_eq!((manifest.asks, manifest.stages), (Asks::default(), None));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    check_refused(
        "[asks]\nheader = []\n",
        "line 6, `asks.header`: unknown field `header`, expected one of `modify`, `headers`, `kv`, `metrics`, `token-control`, `model`, `wasi`, `limits`",
    );
    check_refused(
        "[asks]\nmodify = [{ name = \"tools\", reqired = true }]\n",
        "line 6, `asks.modify[0]`: unknown field `reqired`, expected one of `name`, `required`, `reason`",
    );
    check_refused("[asks]\nwasi = \"all\"\n", "line 6, `asks.wasi`: unknown variant `all`, expected `quiet`");
    check_refused(
        "[asks]\nmodify = [\"body\"]\n",
        "`asks.modify` names `body`, and a request has messages, tools, sampling, grammar, extra",
    );
    check_refused("[asks]\nheaders = [\"X-A\", \"x-a\"]\n", "`asks.headers` names `x-a` twice");
    check_refused(
        "[stages]\nfilter = 1\n",
        "`stages.filter` is no stage; there are policy, prompt, token-control, parse, postprocess, audit",
    );
    check_refused("[stages]\n", "`stages` names no stage; leave it out, or name at least one");
    check_refused(
        "[asks]\nlimits.memory = 1\n",
        "`asks.limits.memory` is no limit; there are component_bytes, memory_bytes, call_bytes, host_calls, log_bytes, \
         holdback_bytes, output_bytes, init_ms, policy_ms, prompt_ms, push_ms, step_ms, finish_ms, request_ms",
    );
    check_refused("[config]\nschema = \"s.json\"\n", "`config.schema` names `s.json`, which this test does not have");
    check_refused(
        "[config.schema]\ntype = \"objekt\"\n",
        "`config.schema` is no JSON Schema: \"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword",
    );
}

/// What an author writes is shown to operators: on terminals, in logs.
#[test]
fn texts_cannot_forge_what_people_read() {
    for text in ["a\\u001b[2Jb", "a\\nERROR: b", "a\\u202eb"] {
        check_refused(
            &format!("[asks]\nmodel = {{ reason = \"{text}\" }}\n"),
            "`asks: reason` holds control characters or line breaks; write plain text in one line",
        );
    }
    check_refused("homepage = \" \"\n", "`plugin.homepage` is empty");
    let long = "x".repeat(501);
    check_refused(
        &format!("license = \"{long}\"\n"),
        "`plugin.license` has 501 bytes, and 500 is the most that is read",
    );
}

/// The example of `plugins/MANIFEST.md`.
fn documented() -> &'static str {
    let text = include_str!("../../../../plugins/MANIFEST.md");
    let (_, rest) = text.split_once("```toml\n").expect("an example");
    rest.split_once("```").expect("its end").0
}

#[test]
fn what_is_documented_is_a_manifest() {
    let manifest = Manifest::parse("MANIFEST.md", documented(), |name| {
        assert_eq!(name, "config.schema.json");
        Ok("{}".to_owned())
    });
    let Asks { modify, headers, kv, metrics, token_control, model, wasi, limits } = manifest.expect("a manifest").asks;
    assert_eq!([modify.len(), headers.len(), kv.len(), metrics.len(), limits.len()], [1, 1, 1, 1, 2]);
    assert!(model.is_some() && wasi.is_some() && token_control.is_some());
    let text = include_str!("../../../../plugins/MANIFEST.md");
    for key in LimitKey::ALL {
        assert!(text.contains(&format!("`{}`", key.as_str())), "MANIFEST.md does not know {}", key.as_str());
    }
}

proptest::proptest! {
    /// Whatever a damaged file says, it is a manifest or an error.
    #[test]
    fn damage_never_panics(place in 0..2_000_usize, length in 0..40_usize, other in ".{0,20}") {
        let mut text = documented().to_owned();
        let start = text.floor_char_boundary(place.min(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len()));
        text.replace_range(start..end, &other);
        let _ = Manifest::parse("damaged", &text, |_| Ok(other.clone()));
    }
}
