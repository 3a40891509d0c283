//! Several models in one host: the usual pair, one of them on demand, and memory that comes back.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::bert::{Bert, Pooling};
use tests::host::{Host, Reply, command, demo_model, embedding_model};
use tests::markov::Markov;

/// A folder with a configuration in it.
struct Setup {
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn configure(&self, text: &str) -> &Self {
        let cache = self.folder.path().join("cache");
        let text = format!("cache_dir = '{}'\n{text}", cache.display());
        fs::write(self.config(), text).expect("a written configuration");
        self
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("outrigger.toml")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = command();
        command.arg(name).arg("--config").arg(self.config());
        command
    }

    fn serve(&self) -> Host {
        let host = Host::start(self.command("serve"));
        host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
        host
    }

    /// A model that says "tick tock" for ever.
    fn endless(&self, name: &str) -> String {
        let path = self.folder.path().join(format!("{name}.gguf"));
        Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&path).expect("a written model");
        path.display().to_string()
    }

    fn embedder(&self) -> String {
        let path = self.folder.path().join("bert.gguf");
        Bert::new(Pooling::Mean).write(&path).expect("a written model");
        path.display().to_string()
    }
}

fn table(id: &str, path: &str, rest: &str) -> String {
    format!("[[model]]\nid = '{id}'\nfrom = 'file:{path}'\n{rest}\n")
}

fn shown(path: &Path) -> String {
    path.canonicalize().expect("a path").display().to_string()
}

fn chat(host: &Host, model: &str, max_tokens: u32) -> Reply {
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    host.chat(&json!({"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}))
}

fn embed(host: &Host, model: &str, input: &Value) -> Reply {
    host.post("/v1/embeddings", &json!({"model": model, "input": input}))
}

fn state(host: &Host, model: &str) -> String {
    let list = host.get("/v1/models").json();
    let found = list["data"].as_array().expect("a list").iter().find(|it| it["id"] == model).expect("it is listed");
    found["outrigger"]["state"].as_str().expect("a state").to_owned()
}

/// Bytes that the process has of its own, and of files that it mapped.
fn resident(host: &Host) -> [u64; 2] {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("a running process");
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    ["RssAnon:", "RssFile:"].map(|key| kilobytes(key) * 1024)
}

/// README: chat and embedding, side by side and at once.
#[test]
fn the_usual_pair_answers_side_by_side() {
    let setup = Setup::new();
    let text = table("chat", &shown(&demo_model()), "") + &table("embed", &shown(&embedding_model()), "");
    let host = setup.configure(&text).serve();
    assert!(!chat(&host, "chat", 16).content().is_empty());
    let texts = ["That is a happy person", "That is a very happy person"];
    std::thread::scope(|scope| {
        let chats = scope.spawn(|| (0..3).map(|_| chat(&host, "chat", 48).status).collect::<Vec<_>>());
        let before = embed(&host, "embed", &json!(texts)).json();
        for _ in 0..20 {
            let reply = embed(&host, "embed", &json!(texts));
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        let vector = |index: usize| before["data"][index]["embedding"].as_array().expect("a vector").clone();
        let (one, other) = (vector(0), vector(1));
        let pairs = one.iter().zip(&other);
        let cosine: f64 = pairs.map(|(a, b)| a.as_f64().expect("a number") * b.as_f64().expect("a number")).sum();
        assert!((cosine - 0.9428).abs() < 5e-3, "{cosine}");
        assert_eq!(chats.join().expect("no panic"), [200; 3]);
    });

    let reply = chat(&host, "gpt-4", 4);
    assert_eq!(reply.status, 404);
    assert_eq!(reply.error(), "the model `gpt-4` is not served here; served: `chat`, `embed`");
    assert!(embed(&host, "chat", &json!("a")).error().contains("answers chats and does not encode"));
    assert!(chat(&host, "embed", 4).error().contains("makes vectors of texts"));
    for model in ["chat", "embed"] {
        assert_eq!(state(&host, model), "ready");
        let device = &host.get(&format!("/v1/models/{model}")).json()["outrigger"]["device"]["backend"];
        assert_eq!(device, "cpu");
        let label = format!("model=\"{model}\"");
        assert_eq!(host.metric("outrigger_ready", &[&label]), 1);
        assert!(host.metric("llm_requests", &[&label]) >= 4);
        for part in ["weights", "compute"] {
            let part = format!("part=\"{part}\"");
            assert!(host.metric("outrigger_model_memory_bytes", &[&label, &part, "allocated", "host"]) > 0, "{part}");
        }
    }
}

/// A model that nobody asks for is freed, its memory with it, and the next request has it back.
#[test]
fn memory_comes_back_and_so_does_the_model() {
    let setup = Setup::new();
    let rest = "load = 'first-use'\nidle_unload_seconds = 1\nmax_concurrency = 2";
    let text = table("small", &setup.endless("small"), "") + &table("chat", &shown(&demo_model()), rest);
    let host = setup.configure(&text).serve();
    assert_eq!(state(&host, "chat"), "on_first_use");
    assert_eq!(chat(&host, "small", 2).content(), "tick tock ");
    let [anon_before, file_before] = resident(&host);

    let size = fs::metadata(demo_model()).expect("it is there").len();
    let mut lowest = u64::MAX;
    for round in 1..=3 {
        assert!(!chat(&host, "chat", 16).content().is_empty());
        let [anon_loaded, file_loaded] = resident(&host);
        let taken = (anon_loaded + file_loaded) - (anon_before + file_before);
        assert!(taken > size, "round {round}: {taken} of {size}");
        host.wait_until("nobody asked for it", |host| state(host, "chat") == "on_first_use");
        // The state is told before the memory is freed.
        let bound = size / 4;
        host.wait_until("its memory is back", |host| {
            let [anon, file] = resident(host);
            anon + file < anon_before + file_before + bound
        });
        lowest = lowest.min(resident(&host).iter().sum());
        assert_eq!(host.metric("outrigger_ready", &["model=\"chat\""]), 0);
        host.wait_until("its figures say so", |host| {
            host.metric("outrigger_model_memory_bytes", &["model=\"chat\"", "allocated"]) == 0
        });
        assert_eq!(host.get("/readyz").status, 200);
        assert_eq!(chat(&host, "small", 2).content(), "tick tock ", "the other one goes on");
        eprintln!("round {round}: {taken} bytes taken, {lowest} left of {}", anon_before + file_before);
    }
}

#[test]
fn what_runs_or_waits_is_never_cut() {
    let setup = Setup::new();
    let text = table("a", &setup.endless("a"), "idle_unload_seconds = 1") + &table("b", &setup.endless("b"), "");
    let host = setup.configure(&text).serve();
    let messages = json!([{"role": "user", "content": "go"}]);
    let mut stream = host.stream(&json!({"model": "a", "messages": messages, "max_tokens": 8000}));
    stream.next_data().expect("it begins");
    std::thread::scope(|scope| {
        // It waits for the slot longer than a model may be idle.
        let waiting = scope.spawn(|| chat(&host, "a", 3).content());
        host.wait_until("it waits", |host| host.metric("outrigger_requests_waiting", &["model=\"a\""]) == 1);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert_eq!(state(&host, "a"), "ready");
        let (content, lines) = stream.finish();
        assert_eq!(lines.last().map(String::as_str), Some("[DONE]"));
        assert!(content.ends_with("tock ") || content.ends_with("tick "), "{}", content.len());
        assert_eq!(waiting.join().expect("no panic"), "tick tock tick ");
    });
    host.wait_until("nobody asked for it", |host| state(host, "a") == "on_first_use");
    assert_eq!(chat(&host, "a", 2).content(), "tick tock ");
}

#[test]
fn a_load_that_fails_is_told_and_tried_again() {
    let setup = Setup::new();
    let path = setup.endless("late");
    let text =
        table("now", &setup.endless("now"), "") + &table("late", &path, "load = 'first-use'\nidle_unload_seconds = 1");
    let host = setup.configure(&text).serve();
    fs::rename(&path, format!("{path}.away")).expect("moved");
    let refused = chat(&host, "late", 2);
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.error().contains("late.gguf"), "{}", refused.text);
    assert_eq!(host.get("/readyz").status, 200, "what was promised is there");
    assert_eq!(chat(&host, "now", 2).content(), "tick tock ");
    fs::rename(format!("{path}.away"), &path).expect("moved back");
    host.wait_until("it is tried again", |host| chat(host, "late", 2).status == 200);
}

/// R18, R19: what one holds counts for the next.
#[test]
fn two_that_do_not_fit_together_are_refused_by_name_and_number() {
    let setup = Setup::new();
    let available: u64 = {
        let meminfo = fs::read_to_string("/proc/meminfo").expect("Linux");
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a line of it");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    };
    // A prefix cache that is still empty is promised all the same.
    let mut text = format!("prefix_cache_size = '{}B'\n", available / 10 * 6);
    let _ = write!(text, "{}{}", table("one", &setup.endless("one"), ""), table("two", &setup.endless("two"), ""));
    setup.configure(&text);
    let output = setup.command("serve").arg("--listen=127.0.0.1:0").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot serve the model `two`") && said.contains("beside `one`, which holds"), "{said}");
    assert!(said.contains("`prefix_cache_size` is"), "{said}");

    let doctor = setup.command("doctor").output().expect("it runs");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.lines().any(|line| line.starts_with("fail") && line.contains("two: beside `one`")), "{said}");
}

#[test]
fn one_generation_of_plugins_is_for_all_models_and_encoders_have_none() {
    let setup = Setup::new();
    let models = table("a", &setup.endless("a"), "idle_unload_seconds = 1")
        + &table("b", &setup.endless("b"), "")
        + &table("embed", &setup.embedder(), "");
    let mask = setup.folder.path().join("mask.wasm");
    fs::write(&mask, bundled::MISBEHAVING).expect("a written component");
    let plugin = |word: &str, of: &str| {
        format!(
            "{models}[[plugin]]\nname = 'mask'\nfrom = '{}'\nstages = {{ postprocess = 1 }}\nconfig = {{ mask = '{word}' }}\n{of}",
            mask.display()
        )
    };
    let of_chats = "models = ['a', 'b']\n";
    let host = setup.configure(&plugin("tick", of_chats)).serve();
    for model in ["a", "b"] {
        assert_eq!(chat(&host, model, 2).content(), "[masked] tock ", "{model}");
    }
    assert_eq!(embed(&host, "embed", &json!("hi")).status, 200);
    let reload = |host: &Host| host.post("/admin/plugins/reload", &json!({}));
    // While one model is not there, all change; when it comes back it has what the others have.
    host.wait_until("nobody asked for it", |host| state(host, "a") == "on_first_use");
    setup.configure(&plugin("tock", of_chats));
    let reply = reload(&host);
    assert_eq!((reply.status, &reply.json()["generation"]), (200, &json!(2)), "{}", reply.text);
    for model in ["b", "a"] {
        assert_eq!(chat(&host, model, 2).content(), "tick [masked] ", "{model}");
    }
    let plugins = host.get("/admin/plugins").json();
    let shown: Vec<_> =
        plugins["plugins"].as_array().expect("a list").iter().map(|it| (&it["model"], &it["name"])).collect();
    assert!(shown.contains(&(&json!("b"), &json!("mask"))), "{shown:?}");
    assert_eq!(plugins["generation"], 2);

    // A filter for all models would have a hole.
    setup.configure(&plugin("tock", ""));
    let refused = reload(&host);
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.error().contains("`embed` only encodes texts: `mask` would see nothing"), "{}", refused.text);
    assert_eq!(chat(&host, "b", 2).content(), "tick [masked] ");
    let output = setup.command("serve").arg("--listen=127.0.0.1:0").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_command_for_one_model_asks_which() {
    let setup = Setup::new();
    let text = table("a", &setup.endless("a"), "") + &table("b", &setup.endless("b"), "");
    setup.configure(&text);
    let run = |arguments: &[&str]| {
        let output = setup.command("run").args(arguments).output().expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), out.into_owned(), err.into_owned())
    };
    let (code, _, said) = run(&["go"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("choose one with --model: `a`, `b`"), "{said}");
    let (code, answer, said) = run(&["--model=b", "--max-tokens=2", "go"]);
    assert_eq!((code, answer.trim_end()), (Some(0), "tick tock"), "{said}");
}
