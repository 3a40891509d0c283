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
    let grants = compare(spec);
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
    let text = toml_to_write("mask", &compare(&spec), &[GrantState::Missing]);
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
    let optional = toml_to_write("mask", &compare(&spec), &[GrantState::Missing, GrantState::Declined]);
    assert!(optional.contains("modify = [\"messages\", \"tools\", \"extra\"]"), "{optional}");
}

#[test]
fn an_author_grants_all_that_is_asked() {
    let mut spec = spec(MUCH);
    grant_what_is_asked(&mut spec);
    assert!(compare(&spec).iter().all(|grant| grant.state == GrantState::Granted), "{:?}", compare(&spec));
    assert_eq!(spec.limits, Limits { init_cpu_max: std::time::Duration::from_millis(500), ..Limits::default() });
}
