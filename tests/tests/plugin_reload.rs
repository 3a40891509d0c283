//! Plugins replaced in a running host: by SIGHUP, by the admin route, by a file that changes. Requests that run keep theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::Host;
use tests::markov::Markov;

/// A model that says one sentence for ever, a configuration, and what it names.
struct Setup {
    folder: TempDir,
    model: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("tiny.gguf");
        Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&model).expect("a written model");
        fs::write(folder.path().join("mask.wasm"), bundled::MISBEHAVING).expect("a written component");
        let this = Self { folder, model };
        this.configure(r#"config = { mask = "tick" }"#);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration as careful people do: whole, in one step.
    fn configure(&self, rest: &str) {
        let component = self.path("mask.wasm");
        let text = format!(
            "max_concurrency = 4\ncache_dir = '{}'\n[[plugin]]\nname = \"mask\"\nfrom = '{}'\nstages = {{ postprocess = 1 }}\n\
             grants.kv = [\"store\"]\ngrants.metrics = [{{ name = \"counted\", kind = \"counter\" }}]\n{rest}\n",
            self.path("cache").display(),
            component.display()
        );
        replace(&self.path("outrigger.toml"), text.as_bytes());
    }

    fn serve(&self, arguments: &[&str]) -> Host {
        let config = self.path("outrigger.toml").display().to_string();
        Host::serve(&self.model, &[&["--config", &config], arguments].concat())
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("written");
    fs::rename(new, path).expect("replaced");
}

fn request(max_tokens: u32) -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": max_tokens})
}

fn generation(host: &Host) -> u64 {
    host.get("/admin/plugins").json()["generation"].as_u64().expect("a generation")
}

fn reload(host: &Host) -> (u16, Value) {
    let reply = host.post("/admin/plugins/reload", &json!({}));
    (reply.status, reply.json())
}

#[test]
fn a_signal_replaces_the_plugins_of_new_requests_and_of_no_other() {
    let setup = Setup::new();
    let host = setup.serve(&[]);
    // More than fits between a host and a client that does not read.
    let mut running = host.stream(&request(4_000));
    running.next_data().expect("it begins");
    assert_eq!(host.chat(&request(2)).content(), "[masked] tock ");

    setup.configure(r#"config = { mask = "tock" }"#);
    host.signal(libc::SIGHUP);
    host.wait_until("the second generation runs", |host| generation(host) == 2);
    assert_eq!(host.chat(&request(2)).content(), "tick [masked] ");
    assert_eq!(host.metric("outrigger_plugin_generations", &[]), 2, "the stream keeps the first");
    let (content, lines) = running.finish();
    assert_eq!(lines.last().map(String::as_str), Some("[DONE]"));
    assert!(content.contains("[masked] tock ") && !content.contains("tick"), "{}", &content[..200]);
    host.wait_until("the first is freed", |host| host.metric("outrigger_plugin_generations", &[]) == 1);
    assert_eq!(host.metric("outrigger_plugin_reloads_total", &["published"]), 1);
}

#[test]
fn what_does_not_load_replaces_nothing() {
    let setup = Setup::new();
    let host = setup.serve(&[]);
    let check = |expected: &str| {
        let (status, body) = reload(&host);
        assert_eq!(status, 422, "{body}");
        assert_eq!((&body["error"]["code"], &body["generation"]), (&json!("plugins_refused"), &json!(1)), "{body}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains(expected), "{message}");
        assert_eq!(host.chat(&request(2)).content(), "[masked] tock ");
        let state = host.get("/admin/plugins").json();
        assert_eq!((&state["generation"], &state["last_refusal"]["by"]), (&json!(1), &json!("admin")));
        assert_eq!(state["last_refusal"]["message"], *message);
    };
    setup.configure("stages = {}");
    check("line 9");
    setup.configure("[plugin.config]\nmask = \"tock\"\nsince = 2026-01-01");
    check("line 11: cannot use the plugin `mask`: `config.since` is a date or a time");
    setup.configure(r#"config = { behaviour = "panic-in-init" }"#);
    check("failed to initialise (trap)");
    setup.configure("sha256 = \"abc\"");
    check("is not 64 hexadecimal digits");
    setup.configure("[[plugin]]\nname = \"missing\"\nfrom = \"missing.wasm\"");
    check("cannot read the plugin `missing.wasm`");
    setup
        .configure("[[plugin]]\nname = \"redact\"\nconfig = { replacement = \"x\", kinds = [\n\"email\",\n\"phon\"] }");
    check("line 13: the configuration of plugin `redact` is not what the plugin takes: `config.kinds[1]`: ");
    // As much of a component as was copied when somebody asked.
    setup.configure(r#"config = { mask = "tock" }"#);
    fs::write(setup.path("mask.wasm"), &bundled::MISBEHAVING[..bundled::MISBEHAVING.len() / 2]).expect("half of it");
    check("is not a valid component");
    assert_eq!(host.metric("outrigger_plugin_reloads_total", &["refused"]), 7);

    fs::write(setup.path("mask.wasm"), bundled::MISBEHAVING).expect("all of it");
    let (status, body) = reload(&host);
    assert_eq!((status, &body["generation"], &body["last_refusal"]), (200, &json!(2), &Value::Null), "{body}");
    assert_eq!(host.chat(&request(2)).content(), "tick [masked] ");
}

#[test]
fn a_file_that_changes_is_noticed() {
    let setup = Setup::new();
    let host = setup.serve(&["--plugin-watch"]);
    assert_eq!(host.chat(&request(2)).content(), "[masked] tock ");
    setup.configure(r#"config = { mask = "tock" }"#);
    host.wait_until("the configuration counts", |host| generation(host) == 2);
    assert_eq!(host.chat(&request(2)).content(), "tick [masked] ");

    // A component that is copied in place and slowly: what is half there is refused, and what is whole runs.
    let whole = bundled::MISBEHAVING;
    fs::write(setup.path("mask.wasm"), &whole[..whole.len() / 3]).expect("a part of it");
    host.wait_until("a part is refused", |host| host.metric("outrigger_plugin_reloads_total", &["refused"]) == 1);
    assert_eq!(generation(&host), 2);
    fs::write(setup.path("mask.wasm"), whole).expect("all of it");
    host.wait_until("all of it is taken", |host| generation(host) == 3);

    // A manifest that appears is a change too, and asks for what it is not granted.
    let manifest = "[plugin]\nname = \"misbehaving\"\nversion = \"0.1.0\"\ndescription = \"Misbehaves.\"\n[asks]\nheaders = [\"x-a\"]\n";
    replace(&setup.path("mask.plugin.toml"), manifest.as_bytes());
    host.wait_until("it is refused", |host| host.metric("outrigger_plugin_reloads_total", &["refused"]) == 2);
    assert!(host.log().contains("to see the header `x-a`"), "{}", host.log());
    setup.configure("grants.headers = [\"x-a\"]");
    host.wait_until("it is granted", |host| generation(host) == 4);
    assert_eq!(host.get("/admin/plugins").json()["plugins"][1]["grants"][0]["state"], "granted");
}

/// A component behind links: of a release as deployments swap them, and of a mounted `ConfigMap`.
#[test]
fn a_link_that_leads_elsewhere_is_noticed() {
    let setup = Setup::new();
    let other = tempfile::tempdir().expect("a folder");
    let release = |name: &str| {
        fs::create_dir(other.path().join(name)).expect("made");
        fs::write(other.path().join(name).join("mask.wasm"), bundled::MISBEHAVING).expect("written");
    };
    let swap = |name: &str| {
        symlink(name, other.path().join("new")).expect("linked");
        fs::rename(other.path().join("new"), other.path().join("..data")).expect("swapped");
    };
    release("..1");
    swap("..1");
    symlink("..data/mask.wasm", other.path().join("mask.wasm")).expect("linked");
    fs::remove_file(setup.path("mask.wasm")).expect("ours");
    symlink(other.path().join("mask.wasm"), setup.path("mask.wasm")).expect("linked");
    let host = setup.serve(&["--plugin-watch"]);
    assert_eq!(host.chat(&request(2)).content(), "[masked] tock ");
    release("..2");
    swap("..2");
    host.wait_until("the second release runs", |host| generation(host) == 2);
    // In place, where only the last link leads.
    replace(&other.path().join("..2/mask.wasm"), bundled::MISBEHAVING);
    host.wait_until("what was replaced in it runs", |host| generation(host) == 3);
    assert_eq!(host.metric("outrigger_plugin_reloads_total", &["refused"]), 0);
}

/// Everybody asks at once, again and again, while requests run.
#[test]
fn a_storm_of_reloads_is_taken_in_turns() {
    let setup = Setup::new();
    let host = setup.serve(&["--plugin-watch"]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..13 {
                    let (status, body) = reload(&host);
                    assert_eq!(status, 200, "{body}");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                host.signal(libc::SIGHUP);
                setup.configure(r#"config = { mask = "tick" }"#);
            }
        });
        for _ in 0..20 {
            assert_eq!(host.chat(&request(4)).content(), "[masked] tock [masked] tock ");
        }
    });
    host.wait_until("one generation is left", |host| {
        host.metric("outrigger_plugin_generations", &[]) == 1 && host.metric("outrigger_plugin_instances", &[]) == 0
    });
    let last = generation(&host);
    assert!(last > 10, "52 requests for a reload made {last} generations");
    assert_eq!(host.metric("outrigger_plugin_reloads_total", &["refused"]), 0);
}

#[test]
fn the_admin_route_tells_what_runs_and_no_secret() {
    let setup = Setup::new();
    setup.configure(r#"config = { mask = "tick", token = "hunter2" }"#);
    let host = setup.serve(&[]);
    assert_eq!(host.chat(&request(2)).content(), "[masked] tock ");
    let reply = host.get("/admin/plugins");
    assert!(!reply.text.contains("hunter2"), "{}", reply.text);
    let state = reply.json();
    assert_eq!((&state["generation"], &state["published_by"]), (&json!(1), &json!("start")));
    let names: Vec<_> = state["plugins"].as_array().expect("plugins").iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["chat-template", "mask"]);
    let mask = &state["plugins"][1];
    assert_eq!(mask["config_keys"], json!(["mask", "token"]));
    assert_eq!(mask["stages"], json!([{"stage": "postprocess", "order": 1}]));
    assert_eq!((mask["sha256"].as_str().map(str::len), &mask["source"]), (Some(64), &json!(setup.path("mask.wasm"))));
    assert!(mask["calls"].as_u64() > Some(1) && mask["faults"] == 0 && mask["last_fault"].is_null(), "{mask}");

    let off = setup.serve(&["--admin=false"]);
    assert_eq!(off.get("/admin/plugins").status, 404);
    assert_eq!(reload(&off).0, 404);
}
