//! Sets of plugins that replace each other while requests run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use inference::{Finish, Pipeline, PipelineRun, Stage, Usage};
use plugin::{
    BreakerConfig, BreakerStatus, CodeOrigin, OnFailure, Package, PluginSpec, Plugins, Reuse, Room, Sandbox,
    SandboxConfig,
};
use sha2::{Digest as _, Sha256};
use telemetry::{Format, Metrics};

use crate::house::{Answer, House, call, chat, guest, guest_for, load, model, renderer, sandbox};

/// Room for 120 requests with two plugins each.
fn roomy() -> &'static Sandbox {
    static CACHE: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
        let cache_dir = Some(CACHE.path().join("cwasm"));
        Sandbox::new(SandboxConfig { cache_dir, max_instances: Some(240), ..SandboxConfig::default() })
            .expect("a sandbox")
    });
    &SANDBOX
}

/// A renderer and a filter that masks `word`.
fn masking(word: &str, metrics: &Metrics) -> Arc<Plugins> {
    let filter = guest_for(&[Stage::Postprocess], "mask", &format!(r#"{{"mask": "{word}"}}"#));
    let loaded = [renderer(), filter].map(|spec| roomy().load(spec, &model()).expect("it loads"));
    Arc::new(Plugins::new(roomy(), loaded.into(), metrics.plugins.clone()).expect("they work together"))
}

fn sample(metrics: &Metrics, name: &str) -> i64 {
    let text = metrics.encode(Format::Text);
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
}

/// Threads of this process, and bytes that it has resident.
fn process() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let number = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).expect("it is there");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    (number("Threads:"), number("VmRSS:") * 1024)
}

async fn push(run: &mut Box<dyn PipelineRun>, text: &str, last: bool) -> String {
    let mut answer = Answer::default();
    answer.take(run.push(text.to_owned(), Vec::new(), last).await.expect("it answers"));
    answer.content
}

/// A hundred streams begin with one set, which is replaced under them: each ends as it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_the_generation_that_they_began_with() {
    let metrics = Metrics::new(&[]);
    let first = masking("one", &metrics);
    let began_with = Arc::downgrade(&first);
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut run = first.begin(call());
        run.prepare(chat("Hello")).await.expect("it prepares");
        streams.push(run);
    }
    drop(first);
    assert!(began_with.upgrade().is_none(), "the streams keep the set, and nobody the value around it");
    assert_eq!(sample(&metrics, "outrigger_plugin_generations"), 1);

    let mut newest = masking("two", &metrics);
    for _ in 0..20 {
        newest = masking("two", &metrics);
    }
    assert_eq!(sample(&metrics, "outrigger_plugin_generations"), 2, "sets that nobody used are gone at once");

    for run in &mut streams {
        assert_eq!(push(run, "one two ", false).await, "[masked] two ");
    }
    // New requests meet the new set while the old one still answers.
    let mut new = newest.begin(call());
    new.prepare(chat("Hello")).await.expect("there is room");
    assert_eq!(push(&mut new, "one two", true).await, "one [masked]");
    for mut run in streams {
        assert_eq!(push(&mut run, "one", true).await, "[masked]");
        run.finish(Finish::Stop, Usage::default()).await.expect("it ends well");
    }
    new.finish(Finish::Stop, Usage::default()).await.expect("it ends well");
    for _ in 0..2_000 {
        if sample(&metrics, "outrigger_plugin_generations") == 1 && sample(&metrics, "outrigger_plugin_instances") == 0
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("something is still alive:\n{}", metrics.encode(Format::Text));
}

/// No thread and no byte stays behind, whether a set was used or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_replaced_set_stays() {
    let metrics = Metrics::new(&[]);
    let mut plugins = masking("a", &metrics);
    let mut before = (0, 0);
    for round in 0..120 {
        let mut run = plugins.begin(call());
        run.prepare(chat("Hello")).await.expect("it prepares");
        plugins = masking("a", &metrics);
        assert_eq!(push(&mut run, "abc", true).await, "[masked]bc");
        run.finish(Finish::Stop, Usage::default()).await.expect("it ends well");
        if round == 19 {
            before = process();
        }
    }
    drop(plugins);
    let after = process();
    assert!(after.0 <= before.0 + 2, "threads: {before:?} and now {after:?}; other tests have some too");
    let grown = after.1.saturating_sub(before.1);
    assert!(grown < 24 << 20, "{grown} bytes more after 100 reloads");
}

/// A larger set moves into a larger sandbox; whoever runs in the smaller one goes on.
#[tokio::test]
async fn a_sandbox_is_replaced_by_a_larger_one() {
    let metrics = Metrics::new(&[]);
    let small = Sandbox::new(SandboxConfig { max_instances: Some(1), workers: Some(1), ..SandboxConfig::default() });
    let small = small.expect("a sandbox");
    let together = |sandbox: &Sandbox, specs: Vec<PluginSpec>| {
        let loaded = specs.into_iter().map(|spec| sandbox.load(spec, &model()).expect("it loads")).collect();
        Plugins::new(sandbox, loaded, metrics.plugins.clone())
    };
    let old = together(&small, vec![renderer()]).expect("it fits");
    let mut running = old.begin(call());
    running.prepare(chat("Hello")).await.expect("there is room for one");
    let room = |instances, memory_bytes| Room { instances, idle_instances: 0, memory_bytes };
    assert!(!small.has_room(room(2, 1 << 20)));
    let large = small.resized(room(4, 32 << 20)).expect("a sandbox");
    assert!(large.has_room(room(4, 32 << 20)));
    let filter = guest_for(&[Stage::Postprocess], "mask", "{}");
    let new = together(&large, vec![renderer(), filter]).expect("both fit");
    drop((old, small));
    new.begin(call()).prepare(chat("Hello")).await.expect("there is room for two");
    assert_eq!(push(&mut running, "on", true).await, "on");
}

/// What plugins keep is there in both sandboxes, while both have somebody who uses it and when only the larger has.
#[tokio::test]
async fn a_store_goes_along_into_a_larger_sandbox() {
    let small = Sandbox::new(SandboxConfig { max_instances: Some(2), ..SandboxConfig::default() }).expect("a sandbox");
    let counting = |sandbox: &Sandbox| {
        let counts = guest_for(&[Stage::Policy], "counts", r#"{"script": "add store n 1; count counted 1 kind=a"}"#);
        House::within(sandbox, vec![counts, renderer()])
    };
    let count = async |house: &House| house.answer(&["x"]).await.expect("it behaves").notes[0].1.clone();
    let old = counting(&small);
    assert_eq!(count(&old).await, "Ok(1)");
    let large = small.resized(Room { instances: 8, idle_instances: 0, memory_bytes: 32 << 20 }).expect("a sandbox");
    let new = counting(&large);
    assert_eq!([count(&new).await, count(&old).await], ["Ok(2)", "Ok(3)"]);
    drop((old, small));
    assert_eq!(count(&new).await, "Ok(4)");
    let counted = new.sample("outrigger_plugin_custom_counted_total{plugin=\"counts\",kind=\"a\"}");
    assert_eq!(counted.as_deref(), Some("4.0"));
}

/// The gauge is of the set that new requests get, whatever the last requests of the one before meet.
#[tokio::test]
async fn a_replaced_set_shows_no_breaker() {
    let metrics = Metrics::new(&[]);
    let set = |behaviour: &str| {
        let breaker = BreakerConfig { faults_max: 1, ..BreakerConfig::default() };
        let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
        let fragile = PluginSpec { breaker, ..guest_for(&[Stage::Policy], "fragile", &config) };
        let loaded = [fragile, renderer()].map(|spec| load(spec).expect("it loads"));
        Plugins::new(sandbox(), loaded.into(), metrics.plugins.clone()).expect("they work together")
    };
    let gauge = || sample(&metrics, "outrigger_plugin_breaker_state");
    let old = set("panic-in-policy");
    let running = old.begin(call());
    let new = set("panic-in-policy");
    for (plugins, mut run, shown) in [(&old, running, 0), (&new, new.begin(call()), 2)] {
        assert_eq!(plugins.status()[0].breaker, BreakerStatus::Closed);
        run.prepare(chat("Hello")).await.expect_err("told to");
        assert!(matches!(plugins.status()[0].breaker, BreakerStatus::Open { .. }));
        assert_eq!(gauge(), shown);
    }
    let _newest = set("");
    assert_eq!(gauge(), 0, "nobody has failed in this one");
}

#[tokio::test]
async fn the_status_tells_calls_and_the_last_fault() {
    let metrics = Metrics::new(&[]);
    let told =
        guest_for(&[Stage::Prompt, Stage::Postprocess], "guest", r#"{"behaviour": "panic-in-push", "key": "hunter2"}"#);
    let told = PluginSpec { parse_failure: OnFailure::Open, reuse: Some(Reuse::default()), ..told };
    let loaded = vec![load(told).expect("it loads")];
    let plugins = Plugins::new(sandbox(), loaded, metrics.plugins.clone()).expect("it works alone");
    let mut run = plugins.begin(call());
    run.prepare(chat("Hello")).await.expect("it prepares");
    assert_eq!((plugins.status()[0].faults, plugins.status()[0].last_fault.clone()), (0, None));
    run.push("text".to_owned(), Vec::new(), false).await.expect_err("it panics");
    let status = plugins.status().remove(0);
    // `render`, `open` and `push`.
    assert_eq!((status.calls, status.faults), (3, 1));
    let fault = status.last_fault.as_ref().expect("it failed");
    assert_eq!((fault.stage, fault.kind, fault.request_id.as_str()), ("postprocess", "trap", "req-1"));
    assert!(fault.unix_seconds > 1_700_000_000 && fault.detail.len() <= 3 << 10, "{fault:?}");
    assert!(!fault.detail.contains('\n'), "{fault:?}");
    let json = serde_json::to_string(&status).expect("JSON");
    assert!(json.contains("\"config_keys\":[\"behaviour\",\"key\"]"), "{json}");
    for fact in [
        r#""policy_failure":"closed","parse_failure":"open","postprocess_failure":"closed""#,
        r#""reuse":{"idle_max":4,"requests_max":1000,"growth_bytes_max":8388608,"idle_seconds_max":60.0}"#,
        r#""breaker":{"state":"closed"}"#,
    ] {
        assert!(json.contains(fact), "{json} lacks {fact}");
    }
    assert!(!json.contains("hunter2"), "a value of the configuration is shown: {json}");
}

/// A component as it is while somebody copies it: every beginning is refused, and none crashes us or is taken for the whole.
#[test]
fn a_component_that_is_being_written_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("guest.wasm");
    let whole = bundled::MISBEHAVING;
    let load_now = || {
        let package = Package::read(&path, 16 << 20).expect("it can be read");
        load(PluginSpec { component: package.component, ..guest("guest", "{}") })
    };
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(&path, &whole[..length]).expect("a part of it");
        assert!(load_now().is_err(), "{length} of {} bytes", whole.len());
    }
    fs::write(&path, whole).expect("all of it");
    load_now().expect("now it is whole");
}

/// The cases of the code cache that `loading` does not have: what another engine made, and a folder without leave to write.
#[test]
fn a_cache_of_another_version_or_without_leave_to_write_costs_only_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cwasm");
    let origin = || {
        let config = SandboxConfig { cache_dir: Some(cache.clone()), workers: Some(1), ..SandboxConfig::default() };
        let sandbox = Sandbox::new(config).expect("a sandbox");
        sandbox.load(renderer(), &model()).expect("no cache ever fails a load").report().code
    };
    let files = || -> Vec<_> { fs::read_dir(&cache).expect("the cache").flatten().map(|entry| entry.path()).collect() };
    assert_eq!(origin(), Some(CodeOrigin::Compiled));
    let file = files().remove(0);
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let (digest, _) = name.split_once('-').expect("a digest and an engine");
    fs::rename(&file, file.with_file_name(format!("{digest}-0123456789abcdef.cwasm"))).expect("renamed");
    assert_eq!(origin(), Some(CodeOrigin::Compiled), "another engine's file is not ours to look at");
    assert_eq!(files().len(), 2);

    // Whole and ours, but made by another version: the engine's hash in the name is only the first of two guards.
    let magic = fs::read(&file).expect("it was written again")[..8].to_vec();
    let mut other = wasmtime::Config::new();
    other.module_version(wasmtime::ModuleVersionStrategy::Custom("another".to_owned())).expect("a version");
    let code = wasmtime::Engine::new(&other).expect("an engine").precompile_component(bundled::MISBEHAVING);
    let code = code.expect("it compiles");
    fs::write(&file, [&magic[..], &Sha256::digest(&code)[..], &code[..]].concat()).expect("written");
    assert_eq!(origin(), Some(CodeOrigin::Compiled), "another version's code");
    assert_eq!(origin(), Some(CodeOrigin::Cached), "written anew");

    // What is being written is left alone, and what nobody can be writing any more is not.
    let unfinished = |name: &str, age: Duration| {
        let file = fs::File::create(cache.join(name)).expect("ours");
        file.set_modified(SystemTime::now() - age).expect("ours");
    };
    unfinished("a-0.1-1.tmp", Duration::from_secs(5));
    unfinished("b-0.1-2.tmp", Duration::from_hours(1));
    assert_eq!(origin(), Some(CodeOrigin::Cached));
    let names: Vec<_> = files().iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect();
    assert!(names.contains(&"a-0.1-1.tmp".to_owned()) && !names.contains(&"b-0.1-2.tmp".to_owned()), "{names:?}");

    for file in files() {
        fs::remove_file(file).expect("ours");
    }
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).expect("ours");
    // Root writes anywhere, so for root this only says that the mode is no reason to fail.
    assert_eq!(origin(), Some(CodeOrigin::Compiled));
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).expect("ours");
}
