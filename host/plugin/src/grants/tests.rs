use std::sync::Arc;

use super::*;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::spec::Modify;

fn spec(asks: &str) -> PluginSpec {
    let text = format!("[plugin]\nname = \"mask\"\nversion = \"1.0.0\"\ndescription = \"Masks.\"\n{asks}");
    let manifest = Manifest::parse("test", &text, |_| Err("names a file".to_owned())).expect("a manifest");
    PluginSpec { manifest: Some(Arc::new(manifest)), ..PluginSpec::new("mask", "test", Vec::new()) }
}

fn check(spec: &PluginSpec, expected: &[(&str, GrantState)]) {
    check_exporting(&[Stage::Policy, Stage::Postprocess], spec, expected);
}

fn check_exporting(stages: &[Stage], spec: &PluginSpec, expected: &[(&str, GrantState)]) {
    let grants = compare(spec, stages);
    let shown: Vec<_> = grants.iter().map(|grant| (grant.describe(), grant.state)).collect();
    let shown: Vec<_> = shown.iter().map(|(text, state)| (text.as_str(), *state)).collect();
    assert_eq!(shown, expected);
}

const MUCH: &str = r#"
    [asks]
    modify = ["messages", { name = "tools", required = false, reason = "to offer a calculator" }]
    headers = ["X-Tenant"]
    wasi = "quiet"
    [asks.limits]
    init_ms = { least = 500, reason = "to read the word list" }
    push_ms = 1
"#;

#[test]
fn what_is_asked_is_not_granted_by_asking() {
    check(
        &spec(MUCH),
        &[
            ("to change a request's `messages`", GrantState::Missing),
            ("to change a request's `tools`", GrantState::Declined),
            ("to see the header `X-Tenant`", GrantState::Missing),
            ("WASI (`quiet`)", GrantState::Missing),
            ("`init_ms` of at least 500 (it is 200)", GrantState::Missing),
            ("`push_ms` of at least 1", GrantState::Granted),
        ],
    );
}

#[test]
fn what_the_operator_grants_is_granted() {
    let spec = PluginSpec {
        modify: vec![Modify::Messages, Modify::Tools, Modify::Extra],
        headers: vec!["x-tenant".to_owned()],
        wasi: Wasi::Quiet,
        limits: Limits { init_cpu_max: std::time::Duration::from_millis(500), ..Limits::default() },
        ..spec(MUCH)
    };
    check(
        &spec,
        &[
            ("to change a request's `messages`", GrantState::Granted),
            ("to change a request's `tools`", GrantState::Granted),
            ("to change a request's `extra`", GrantState::Unasked),
            ("to see the header `X-Tenant`", GrantState::Granted),
            ("WASI (`quiet`)", GrantState::Granted),
            ("`init_ms` of at least 500", GrantState::Granted),
            ("`push_ms` of at least 1", GrantState::Granted),
        ],
    );
}

#[test]
fn without_a_manifest_nothing_is_missing() {
    let spec = PluginSpec { modify: vec![Modify::Tools], manifest: None, ..spec("") };
    check(&spec, &[("to change a request's `tools`", GrantState::Unasked)]);
}

/// What is told to be written grants what was missing, and keeps what was there.
#[test]
fn what_to_write_is_toml_that_grants_it() {
    let asks = format!(
        "{MUCH}\n[[asks.metrics]]\nname = \"masked\"\nkind = \"counter\"\nlabels = [\"kind\"]\n[[asks.kv]]\nstore = \"seen\"\nbytes = 9\n"
    );
    let spec = PluginSpec { modify: vec![Modify::Extra], ..spec(&asks) };
    let text = toml_to_write("mask", &compare(&spec, &[]), &[GrantState::Missing]);
    assert_eq!(
        text,
        "[[plugin]]\n\
         name = \"mask\"\n\
         wasi = \"quiet\"\n\
         \n\
         [plugin.grants]\n\
         modify = [\"messages\", \"extra\"]\n\
         headers = [\"X-Tenant\"]\n\
         kv = [{ store = \"seen\", bytes = 9 }]\n\
         metrics = [{ name = \"masked\", kind = \"counter\", labels = [\"kind\"] }]\n\
         \n\
         [plugin.limits]\n\
         init_ms = 500\n"
    );
    toml::from_str::<Table>(&text).expect("TOML");
    let optional = toml_to_write("mask", &compare(&spec, &[]), &[GrantState::Missing, GrantState::Declined]);
    assert!(optional.contains("modify = [\"messages\", \"tools\", \"extra\"]"), "{optional}");
}

/// The lines replace what is there, so they say all that is there.
#[test]
fn what_to_write_keeps_what_was_granted() {
    let asks =
        "[[asks.kv]]\nstore = \"seen\"\nbytes = 2000000\n[[asks.metrics]]\nname = \"masked\"\nkind = \"counter\"\n";
    let instrument = |name: &str, kind| InstrumentSpec {
        name: name.to_owned(),
        kind,
        labels: vec!["kind".to_owned()],
        series_max: 7,
        buckets: vec![1.0, 2.5],
    };
    let spec = PluginSpec {
        kv: vec![
            KvGrant { keys_max: 5, bytes_max: 1000, ..KvGrant::new("rates") },
            KvGrant { keys_max: 9, ..KvGrant::new("seen") },
            KvGrant::new("usual"),
        ],
        instruments: vec![instrument("took", InstrumentKind::Histogram)],
        ..spec(asks)
    };
    let text = toml_to_write("mask", &compare(&spec, &[]), &[GrantState::Missing]);
    assert_eq!(
        text,
        "[[plugin]]\n\
         name = \"mask\"\n\
         \n\
         [plugin.grants]\n\
         kv = [{ store = \"seen\", keys = 9, bytes = 2000000 }, { store = \"rates\", keys = 5, bytes = 1000 }, \"usual\"]\n\
         metrics = [{ name = \"masked\", kind = \"counter\" }, \
         { name = \"took\", kind = \"histogram\", labels = [\"kind\"], series = 7, buckets = [1.0, 2.5] }]\n"
    );
    toml::from_str::<Table>(&text).expect("TOML");
}

#[test]
fn a_say_in_tokens_is_asked_for_by_using_it() {
    const SAY: &str = "a say in every token of an answer (`token-control`)";
    let both = [Stage::TokenControl, Stage::Audit];
    let silent = PluginSpec { manifest: None, ..spec("") };
    check_exporting(&both, &silent, &[]);
    check_exporting(&[Stage::TokenControl], &silent, &[(SAY, GrantState::Missing)]);
    let named = PluginSpec { stages: Some(vec![(Stage::TokenControl, 0)]), ..silent.clone() };
    check_exporting(&both, &named, &[(SAY, GrantState::Missing)]);
    check_exporting(&both, &PluginSpec { token_control: true, ..named.clone() }, &[(SAY, GrantState::Granted)]);
    check_exporting(&both, &PluginSpec { token_control: true, ..silent }, &[(SAY, GrantState::Unasked)]);
    check_exporting(&both, &spec("[stages]\ntoken-control = 0"), &[(SAY, GrantState::Missing)]);
    let optional = spec("[asks]\ntoken-control = { required = false, reason = \"to begin answers\" }");
    check_exporting(&both, &optional, &[(SAY, GrantState::Declined)]);
    let text = toml_to_write("mask", &compare(&named, &both), &[GrantState::Missing]);
    assert_eq!(text, "[[plugin]]\nname = \"mask\"\n\n[plugin.grants]\ntoken-control = true\n");
}

#[test]
fn an_author_grants_all_that_is_asked() {
    let mut spec = spec(MUCH);
    grant_what_is_asked(&mut spec);
    assert!(compare(&spec, &[]).iter().all(|grant| grant.state == GrantState::Granted), "{:?}", compare(&spec, &[]));
    assert_eq!(spec.limits, Limits { init_cpu_max: std::time::Duration::from_millis(500), ..Limits::default() });
}
