//! What people read when a plugin is not loaded, and what becomes of compiled code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inference::{Pipeline, Stage};
use plugin::{
    CodeOrigin, InstrumentKind, KvGrant, Limits, LoadReport, LoadedPlugin, PluginSpec, Plugins, Sandbox, SandboxConfig,
    SetError, Wasi,
};
use telemetry::Metrics;

use crate::house::{call, chat, guest, guest_for, instrument, load, model, renderer};

/// The error for a spec, with what differs between builds of the guest taken out.
fn refusal(spec: PluginSpec) -> String {
    let digest = report_of_the_guest().sha256.expect("it was read");
    let error = load(spec).err().expect("it must not load");
    let text = error.to_string().replace(&digest, "DIGEST");
    // Backtraces name places in the guest's code.
    text.lines().next().unwrap_or_default().to_owned()
}

fn report_of_the_guest() -> LoadReport {
    load(guest("guest", "{}")).expect("it loads").report().clone()
}

fn bytes(component: impl Into<Vec<u8>>) -> PluginSpec {
    PluginSpec::new("broken", "/plugins/broken.wasm", component.into())
}

fn wat(text: &str) -> PluginSpec {
    bytes(wat::parse_str(text).expect("the test's own component parses"))
}

#[test]
fn a_plugin_says_what_it_is() {
    let facts = report_of_the_guest();
    assert_eq!((facts.name.as_str(), facts.source.as_str()), ("guest", "bundled"));
    let identity = facts.identity.expect("it was tried");
    assert_eq!((identity.name.as_str(), identity.version.as_str()), ("misbehaving", "0.1.0"));
    let all = [Stage::Policy, Stage::Prompt, Stage::Parse, Stage::Postprocess, Stage::Audit];
    let stages: Vec<Stage> = facts.stages.iter().map(|used| used.stage).collect();
    assert_eq!((stages.as_slice(), facts.size_bytes), (all.as_slice(), bundled::MISBEHAVING.len()));
    assert!(facts.elapsed > Duration::ZERO);
}

/// One snapshot of several refusals, each under what is wrong.
fn check(snapshot: &str, refusals: &[(&str, String)]) {
    let text: Vec<String> = refusals.iter().map(|(what, said)| format!("{what}:\n    {said}")).collect();
    insta::assert_snapshot!(snapshot, text.join("\n"));
}

#[test]
fn what_is_no_component() {
    let half = &bundled::MISBEHAVING[..bundled::MISBEHAVING.len() / 2];
    check(
        "no_component",
        &[
            ("a core module", refusal(wat("(module)"))),
            ("an empty file", refusal(bytes(""))),
            ("a script", refusal(bytes("#!/bin/sh\n"))),
            ("a program", refusal(bytes([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0]))),
            ("half a component", before_the_offset(&refusal(bytes(half)))),
            ("native code", refusal(bytes(cwasm()))),
        ],
    );
}

/// Where a file breaks off depends on the build of the guest.
fn before_the_offset(text: &str) -> String {
    text.split_once(" (at offset").expect("the parser says where").0.to_owned()
}

/// Native code, as wasmtime itself would make it.
fn cwasm() -> Vec<u8> {
    let component = wat::parse_str("(component)").expect("an empty component parses");
    wasmtime::Engine::default().precompile_component(&component).expect("it compiles")
}

/// A component that exports empty instances under these names.
fn exporting(names: &[&str]) -> PluginSpec {
    let exports: Vec<_> = names.iter().map(|name| format!(r#"(export "{name}" (instance $i))"#)).collect();
    wat(&format!("(component (instance $i) {})", exports.concat()))
}

#[test]
fn what_is_no_plugin() {
    let (lifecycle, policy) = ("outrigger:plugin/lifecycle@0.1.0", "outrigger:plugin/policy@0.1.0");
    check(
        "no_plugin",
        &[
            ("exports nothing", refusal(exporting(&[]))),
            ("exports something else", refusal(exporting(&["wasi:cli/run@0.2.0"]))),
            ("exports no stage", refusal(exporting(&[lifecycle]))),
            ("exports no lifecycle", refusal(exporting(&[policy]))),
            ("another version", refusal(exporting(&[lifecycle, "outrigger:plugin/policy@0.2.0"]))),
            ("names without functions", refusal(exporting(&[lifecycle, policy]))),
        ],
    );
}

/// A component with one import and the exports of a plugin.
fn importing(name: &str) -> PluginSpec {
    wat(&format!(
        r#"(component
            (import "{name}" (instance))
            (instance $i)
            (export "outrigger:plugin/lifecycle@0.1.0" (instance $i))
            (export "outrigger:plugin/policy@0.1.0" (instance $i)))"#
    ))
}

#[test]
fn imports_that_nobody_offers() {
    let quiet = PluginSpec { wasi: Wasi::Quiet, ..importing("wasi:http/outgoing-handler@0.2.6") };
    check(
        "unknown_imports",
        &[
            ("a later part of the contract", refusal(importing("outrigger:plugin/queue@0.1.0"))),
            ("another version of the contract", refusal(importing("outrigger:plugin/log@0.2.0"))),
            ("somebody else's", refusal(importing("acme:billing/charge@1.0.0"))),
            ("WASI", refusal(importing("wasi:cli/stdout@0.2.6"))),
            ("HTTP, with quiet WASI", refusal(quiet)),
        ],
    );
}

#[test]
fn what_the_operator_said_does_not_fit() {
    let pinned = |digest: String| PluginSpec { sha256: Some(digest), ..guest("guest", "{}") };
    let limited = |limits: Limits, spec: PluginSpec| PluginSpec { limits, ..spec };
    let headers = vec!["X-Tenant".to_owned(), "Authorization".to_owned()];
    let stages = Some(vec![(Stage::Prompt, 0), (Stage::Policy, 0)]);
    let chat_template = PluginSpec::new("chat-template", "bundled", bundled::CHAT_TEMPLATE);
    let small = Limits { component_bytes_max: 1_000, ..Limits::default() };
    let roomy = Limits { memory_bytes_max: 1 << 40, ..Limits::default() };
    check(
        "operator",
        &[
            (
                "a store twice",
                refusal(PluginSpec { kv: vec![KvGrant::new("a"), KvGrant::new("a")], ..guest("guest", "{}") }),
            ),
            (
                "an instrument that ends as a counter does",
                refusal(PluginSpec {
                    instruments: vec![instrument("masked_total", InstrumentKind::Counter)],
                    ..guest("guest", "{}")
                }),
            ),
            ("a name with spaces", refusal(guest("Big Name", "{}"))),
            ("a configuration that is a list", refusal(guest("guest", "[]"))),
            ("a configuration that is no JSON", refusal(guest("guest", "{"))),
            ("a pin that is no digest", refusal(pinned("abc".to_owned()))),
            ("another file's pin", refusal(pinned("0".repeat(64)))),
            ("a large file", refusal(limited(small, bytes(vec![0; 1_001])))),
            ("more memory than there is room for", refusal(limited(roomy, guest("guest", "{}")))),
            ("a header with a secret", refusal(PluginSpec { headers, ..guest("guest", "{}") })),
            ("a stage that it lacks", refusal(PluginSpec { stages, ..chat_template })),
        ],
    );
    load(pinned(report_of_the_guest().sha256.expect("it was read").to_uppercase())).expect("that is its digest");
}

#[test]
fn a_trial_that_fails() {
    let told = |behaviour: &str| refusal(guest("guest", &format!(r#"{{"behaviour": "{behaviour}-in-init"}}"#)));
    let tight = Limits { memory_bytes_max: 64 << 10, ..Limits::default() };
    check(
        "trial",
        &[
            ("says that its configuration is invalid", told("invalid")),
            ("says that it is unavailable", told("unavailable")),
            ("never ends", told("loop")),
            ("takes all memory", told("memory-at-once")),
            ("panics", told("panic")),
            ("needs more memory to begin with", refusal(PluginSpec { limits: tight, ..guest("guest", "{}") })),
        ],
    );
}

#[test]
fn plugins_that_do_not_fit_together() {
    let together = |specs: Vec<PluginSpec>| {
        let sandbox = Sandbox::new(SandboxConfig { max_instances: Some(2), ..SandboxConfig::default() });
        let sandbox = sandbox.expect("a sandbox");
        let loaded: Vec<LoadedPlugin> =
            specs.into_iter().map(|spec| sandbox.load(spec, &model()).expect("it loads")).collect();
        Plugins::new(&sandbox, loaded, Metrics::new(&[]).plugins).map(|_| ())
    };
    let policy = |name: &str| guest_for(&[Stage::Policy], name, "{}");
    let text = |result: Result<(), SetError>| result.expect_err("they do not fit").to_string();
    check(
        "together",
        &[
            ("nobody renders", text(together(vec![policy("a")]))),
            ("two render", text(together(vec![guest("a", "{}"), guest("b", "{}")]))),
            ("two of a name", text(together(vec![renderer(), policy("renderer")]))),
            ("more plugins than instances", text(together(vec![renderer(), policy("a"), policy("b")]))),
        ],
    );
    assert_eq!(together(vec![renderer(), policy("a")]), Ok(()));
}

#[tokio::test]
async fn no_room_for_instances_is_overload() {
    let sandbox = Sandbox::new(SandboxConfig { max_instances: Some(1), ..SandboxConfig::default() });
    let sandbox = sandbox.expect("a sandbox");
    let loaded = sandbox.load(renderer(), &model()).expect("it loads");
    let plugins = Plugins::new(&sandbox, vec![loaded], Metrics::new(&[]).plugins).expect("one is enough");
    let mut first = plugins.begin(call());
    first.prepare(chat("Hello")).await.expect("there is room for one");
    let refused = plugins.begin(call()).prepare(chat("Hello")).await;
    assert_eq!(refused, Err(inference::PipelineError::Overloaded));
    drop(first);
    plugins.begin(call()).prepare(chat("Hello")).await.expect("there is room again");
}

/// Loads the guest in a new sandbox with this cache.
fn origin(cache: &Path) -> CodeOrigin {
    let config = SandboxConfig { cache_dir: Some(cache.to_owned()), workers: Some(1), ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).expect("a sandbox");
    sandbox
        .load(guest("guest", "{}"), &model())
        .expect("no cache ever fails a load")
        .report()
        .code
        .expect("it was compiled")
}

fn only_file(cache: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(cache).expect("the cache").map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().expect("one file")
}

#[test]
fn compiled_code_is_kept_and_believed_only_when_it_is_ours() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cache = dir.path().join("deep/cwasm");
    assert_eq!(origin(&cache), CodeOrigin::Compiled);
    assert_eq!(origin(&cache), CodeOrigin::Cached);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let file = only_file(&cache);
    assert_eq!((mode(&cache), mode(&file)), (0o700, 0o600));

    let good = fs::read(&file).expect("it can be read");
    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes
    };
    let damages: [(&str, Vec<u8>); 6] = [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("truncated in its head", good[..20].to_vec()),
        ("empty", Vec::new()),
        ("flipped in its code", flipped(good.len() - 100)),
        ("flipped in its digest", flipped(10)),
        ("raw native code of somebody", cwasm()),
    ];
    for (damage, bytes) in damages {
        fs::write(&file, bytes).expect("it can be written");
        assert_eq!(origin(&cache), CodeOrigin::Compiled, "{damage}");
        assert_eq!(origin(&cache), CodeOrigin::Cached, "{damage}: the new file is good");
    }

    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("it is ours");
    assert_eq!(origin(&cache), CodeOrigin::Compiled, "anybody could have written it");
    fs::remove_file(&file).expect("it is ours");
    std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
    assert_eq!(origin(&cache), CodeOrigin::Compiled, "a link is not followed");
}

#[test]
fn a_cache_that_cannot_be_trusted_or_written_is_gone_without() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let open = dir.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("it is ours");
    assert_eq!((origin(&open), origin(&open)), (CodeOrigin::Compiled, CodeOrigin::Compiled));
    assert_eq!(fs::read_dir(&open).expect("the folder").count(), 0, "nothing is written where others can change it");

    let file = dir.path().join("file");
    fs::write(&file, "not a folder").expect("a file");
    assert_eq!(origin(&file), CodeOrigin::Compiled);
}
