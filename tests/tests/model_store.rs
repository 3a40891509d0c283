//! Models of a hub, through the real binary: pulled, listed, verified, served, removed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_hub::{Fault, Kind, Match, Repo, TestHub, Tree};
use tests::host::{Host, PATIENCE, command};
use tests::markov::Markov;

const TOKEN: &str = "hf_canary_NeverToBeSeenAnywhere";
const NAME: &str = "acme/tiny";
const WEIGHTS: &str = "tiny-Q4_K_M.gguf";

/// A hub with one model, and a home directory of its own.
struct Scene {
    hub: TestHub,
    home: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(TestHub::builder().repository(tiny()).token(TOKEN).start())
    }

    fn with(hub: TestHub) -> Self {
        Self { hub, home: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.args(arguments).env("HF_ENDPOINT", self.hub.url()).env("HOME", self.home.path());
        command.env("OUTRIGGER_CACHE_DIR", cache_dir());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs a command that succeeds, and gives what it printed.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that fails, and gives what it said about that.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    fn directory(&self, revision: &str) -> PathBuf {
        self.home.path().join(".outrigger/models").join(NAME).join(revision)
    }
}

/// Compiled plugins are shared by all tests, as they are by all runs of a user.
fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("outrigger-cache")
}

fn tiny() -> Repo {
    let model = Markov::default().chain(&["Hello", " there"]).to_bytes();
    Repo::new(NAME).file(WEIGHTS, model, Kind::Lfs).file("README.md", "# tiny", Kind::Git)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn request() -> Value {
    json!({"model": NAME, "messages": [{"role": "user", "content": "hi"}], "temperature": 0})
}

/// Slow enough to be seen on its way, fast enough to wait for.
fn slow_cdn(hub: &TestHub) {
    hub.fault(Fault::new(Match::cdn_get("")).bytes_per_second(150_000));
}

// R6, R7, X2
#[test]
fn a_model_is_pulled_listed_verified_inspected_and_removed() {
    let scene = Scene::new();
    assert_eq!(scene.ok(&["list"]), "");
    let printed = scene.ok(&["pull", "hf:acme/tiny"]);
    let path = scene.directory("main").join(WEIGHTS);
    assert_eq!(printed, format!("{}\n", path.display()));
    assert_eq!(std::fs::read(&path).expect("the weights"), Markov::default().chain(&["Hello", " there"]).to_bytes());

    scene.hub.forget_requests();
    assert_eq!(scene.ok(&["pull", NAME]), printed);
    assert_eq!(scene.hub.requests().len(), 0, "what is there is not asked for again");

    let commit = scene.hub.commit(NAME, "main");
    let listed = scene.ok(&["list"]);
    assert!(listed.contains(NAME) && listed.contains(&commit[..12]), "{listed}");
    let listed: Value = serde_json::from_str(&scene.ok(&["list", "--json"])).expect("one JSON object");
    assert_eq!(
        (&listed["repository"], &listed["revision"], &listed["commit"]),
        (&json!(NAME), &json!("main"), &json!(commit))
    );
    let inspected = scene.ok(&["inspect", NAME]);
    assert!(inspected.contains("llama"), "{inspected}");
    assert_eq!(scene.ok(&["inspect", &path.display().to_string()]), inspected);
    scene.ok(&["verify"]);

    let mut bytes = std::fs::read(&path).expect("the weights");
    bytes[300_000] ^= 1;
    std::fs::write(&path, bytes).expect("a flipped bit");
    let output = scene.run(&["verify", NAME]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains(WEIGHTS), "{}", text(&output.stdout));
    scene.ok(&["pull", NAME]);
    scene.ok(&["verify"]);

    scene.ok(&["remove", NAME]);
    assert_eq!(scene.ok(&["list"]), "");
    assert!(!path.exists());
    assert!(scene.fails(&["remove", NAME]).contains("`outrigger list` shows what is"));
}

/// A mistyped folder is told of, and not made.
#[test]
fn who_only_looks_makes_no_folder() {
    let scene = Scene::new();
    let mistyped = scene.home.path().join("modles/here");
    let shown = mistyped.display().to_string();
    let run = |arguments: &[&str]| {
        let output = scene.command(arguments).args(["--models-dir", &shown]).output().expect("the binary runs");
        assert_eq!(text(&output.stdout), "");
        assert!(!scene.home.path().join("modles").exists(), "{arguments:?}");
        (output.status.code(), text(&output.stderr))
    };
    let nothing =
        format!("there is no folder {shown}, and so no model; `outrigger pull` makes it, --models-dir names another\n");
    for command in [["list"].as_slice(), &["list", "--json"], &["verify"], &["prune", "--max-size", "1B"]] {
        assert_eq!(run(command), (Some(0), nothing.clone()), "{command:?}");
    }
    for command in ["verify", "remove"] {
        let not_here = format!("error: cannot {command}");
        let (code, told) = run(&[command, NAME]);
        assert_eq!(code, Some(1));
        assert!(told.starts_with(&not_here) && told.contains(&format!("acme/tiny is not in {shown};")), "{told}");
    }
    let (code, told) = run(&["inspect", NAME]);
    assert_eq!(code, Some(1));
    assert!(told.contains(&format!("cannot inspect acme/tiny: there is no folder {shown}; fetch it with")), "{told}");
    scene.ok(&["pull", NAME, "--models-dir", &shown]);
    assert!(mistyped.join(NAME).exists());
}

// R13, R28
#[test]
fn main_stays_what_it_was_until_it_is_updated() {
    let scene = Scene::new();
    let first = scene.hub.commit(NAME, "main");
    scene.ok(&["pull", NAME]);
    let newer = Markov::default().chain(&["Goodbye"]).to_bytes();
    let second = scene.hub.move_branch(NAME, "main", Tree::new().file(WEIGHTS, newer.clone(), Kind::Lfs));
    let told = text(&scene.run(&["pull", NAME]).stderr);
    assert!(told.contains(&first) && !told.contains(&second), "{told}");
    let told = text(&scene.run(&["pull", NAME, "--update"]).stderr);
    assert!(told.contains(&second), "{told}");
    assert_eq!(std::fs::read(scene.directory("main").join(WEIGHTS)).expect("the weights"), newer);
    scene.ok(&["pull", &format!("{NAME}@{first}")]);
    assert!(scene.directory(&first).join(WEIGHTS).exists());
    scene.ok(&["prune", "--max-size", "1B"]);
    assert_eq!(scene.ok(&["list"]), "");
}

// R29: the default. R13: the commit is served.
#[test]
fn a_missing_model_is_downloaded_at_its_first_use() {
    let scene = Scene::new();
    slow_cdn(&scene.hub);
    let host = Host::start(scene.command(&["serve", "--model", NAME]));
    host.wait_until("it takes requests", |host| host.get("/readyz").status == 200);
    assert_eq!(host.get("/readyz").json()["reason"], "the model is loaded at its first use");
    assert_eq!(host.get("/v1/models").json()["data"][0]["id"], NAME);
    let other = json!({"model": "another", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(host.chat(&other).status, 404);
    assert_eq!(scene.hub.requests().len(), 0, "nothing was asked for yet");

    std::thread::scope(|scope| {
        let first = scope.spawn(|| host.chat(&request()).content());
        host.wait_until("the download is seen", |host| {
            let ready = host.get("/readyz");
            ready.status == 503 && ready.text.contains("downloading") && ready.text.contains('%')
        });
        assert!(host.metric("outrigger_download_size_bytes", &[]) > 0);
        assert_eq!(first.join().expect("an answer"), "Hello there");
    });
    assert_eq!(host.get("/readyz").status, 200);
    assert_eq!(host.metric("outrigger_download_size_bytes", &[]), 0);
    assert!(host.metric("outrigger_download_bytes_total", &[]) > 100_000);
    let commit = scene.hub.commit(NAME, "main");
    assert_eq!(host.get("/v1/models").json()["data"][0]["outrigger"]["revision"], commit);
    assert!(host.log().contains(&format!("write {NAME}@{commit}")), "{}", host.log());

    let refused = scene.fails(&["remove", NAME]);
    assert!(refused.contains("in use"), "{refused}");
    let told = text(&scene.run(&["prune", "--max-size", "1B"]).stderr);
    assert!(told.contains("are left, more than 1 B; in use, and kept: acme/tiny\n"), "{told}");
    assert!(scene.ok(&["list"]).contains("yes"), "what is in use is not pruned");
    drop(host);
    scene.ok(&["remove", NAME]);
}

// R29
#[test]
fn with_initial_load_it_is_ready_when_the_model_is() {
    let scene = Scene::new();
    slow_cdn(&scene.hub);
    let host = Host::start(scene.command(&["serve", "--model", NAME, "--initial-load"]));
    let early = host.get("/readyz");
    assert_eq!(early.status, 503, "{}", early.text);
    assert_eq!(host.chat(&request()).status, 503);
    host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
    assert_eq!(host.chat(&request()).content(), "Hello there");
}

// R7
#[test]
fn a_model_that_is_there_needs_no_hub() {
    let scene = Scene::new();
    scene.ok(&["pull", NAME]);
    let Scene { hub, home } = scene;
    let url = hub.url();
    drop(hub);
    let mut serve = command();
    serve.args(["serve", "--model", NAME]).env("HF_ENDPOINT", url).env("HOME", home.path());
    let host = Host::start(serve);
    host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
    assert_eq!(host.chat(&request()).content(), "Hello there");
}

// R15
#[test]
fn a_file_placed_by_hand_is_verified_and_used() {
    let scene = Scene::new();
    let path = scene.directory("main").join(WEIGHTS);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(&path, Markov::default().chain(&["Hello", " there"]).to_bytes()).expect("the weights");
    let host = Host::start(scene.command(&["serve", "--model", NAME, "--initial-load"]));
    host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
    assert_eq!(host.chat(&request()).content(), "Hello there");
    assert_eq!(scene.hub.weight_requests().len(), 0);
    assert!(!scene.hub.requests().is_empty(), "the digest was asked for");
}

// R25
#[test]
fn what_the_hub_refuses_is_explained() {
    let hub = TestHub::builder()
        .repository(tiny().private())
        .repository(Repo::new("acme/gated").file("a.gguf", "x", Kind::Lfs).gated())
        .token_with(TOKEN, test_hub::Access::All)
        .start();
    let scene = Scene::with(hub);
    let private = scene.fails(&["pull", NAME]);
    assert!(private.contains("hf_token"), "{private}");
    let gated = scene.fails(&["pull", "acme/gated"]);
    assert!(gated.contains("licence") && gated.contains("/acme/gated"), "{gated}");
    let missing = scene.run_with_token(&["pull", "acme/nothing"]);
    assert!(missing.contains("acme/nothing"), "{missing}");
    scene
        .command(&["pull", NAME])
        .env("HF_TOKEN", TOKEN)
        .status()
        .map(|status| assert!(status.success()))
        .expect("runs");
    assert_eq!(scene.hub.leaks().len(), 0);
}

impl Scene {
    fn run_with_token(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).env("HF_TOKEN", TOKEN).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    }
}

// R29: a service whose model cannot be had says why, and tries again when it is asked again.
#[test]
fn a_model_that_cannot_be_had_is_tried_again_for_a_later_request() {
    let scene = Scene::with(TestHub::builder().token(TOKEN).start());
    let mut serve = scene.command(&["serve", "--model", NAME]);
    serve.env("HF_TOKEN", TOKEN);
    let host = Host::start(serve);
    host.wait_until("it takes requests", |host| host.get("/readyz").status == 200);
    let refused = host.chat(&request());
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("model_failed")));
    assert!(refused.error().contains(NAME), "{}", refused.text);
    assert_eq!(host.get("/readyz").status, 503);
    scene.hub.put(tiny());
    host.wait_until("it is tried again", |host| host.chat(&request()).status == 200);
}

// X1
#[test]
fn a_killed_pull_goes_on_where_it_was() {
    /// What is asked for in one request.
    const CHUNK: usize = 16 << 20;
    let model = Markov::default().chain(&["Hello", " there"]).to_bytes();
    let padded = [model, vec![7; 40 << 20]].concat();
    let hub = TestHub::builder().repository(Repo::new(NAME).file(WEIGHTS, padded.clone(), Kind::Lfs)).start();
    let scene = Scene::with(hub);
    // The first chunk comes, all others never do.
    scene
        .hub
        .fault(Fault::new(Match::cdn_get("").and(|seen| seen.range.as_deref() != Some("bytes=0-16777215"))).stall());
    let mut child =
        scene.command(&["pull", NAME]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    let is_recorded = || {
        walk(&scene.directory("main").join(".cache/outrigger"))
            .iter()
            .filter(|path| path.extension().is_some_and(|it| it == "json"))
            .any(|path| text(&std::fs::read(path).unwrap_or_default()).contains("16777216"))
    };
    while !is_recorded() {
        assert!(Instant::now() < deadline, "the first chunk was never recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("our child");
    child.wait().expect("our child");
    let path = scene.directory("main").join(WEIGHTS);
    assert!(!path.exists(), "nothing unfinished has the name");
    scene.hub.clear_faults();
    scene.hub.forget_requests();
    scene.ok(&["pull", NAME]);
    assert!(std::fs::read(&path).expect("the weights") == padded);
    let fetched: u64 = scene.hub.weight_requests().iter().map(|seen| seen.bytes_sent).sum();
    assert!(fetched <= (padded.len() - CHUNK) as u64 + 4096, "{fetched} bytes were fetched of {}", padded.len());
}

// R3, R5, R8: from every source, at the highest log level, over success and failure.
#[test]
fn the_token_is_seen_by_the_hub_and_by_nobody_else() {
    let scene = Scene::with(TestHub::builder().repository(tiny().private()).token(TOKEN).tls().start());
    let file = scene.home.path().join("token");
    std::fs::write(&file, TOKEN).expect("a token file");
    let config = scene.home.path().join("outrigger.toml");
    let ca = scene.hub.ca_file().display().to_string();
    let (file, config_path) = (file.display().to_string(), config.display().to_string());
    let tokens = [
        format!("hf_token = \"{TOKEN}\""),
        format!("token = \"${{file:{file}}}\""),
        "huggingface_token = \"${env:MY_SECRET}\"".to_owned(),
        "# from the environment".to_owned(),
    ];
    for (round, token) in tokens.iter().enumerate() {
        std::fs::write(&config, format!("{token}\nca_files = [\"{ca}\"]\nlog = \"trace\"\n")).expect("a configuration");
        let run = |reference: &str| {
            let mut command = scene.command(&["pull", reference, "--config", &config_path]);
            command.env("MY_SECRET", TOKEN).env("RUST_BACKTRACE", "full");
            if round == 3 {
                command.env("HF_TOKEN", TOKEN);
            }
            command.output().expect("the binary runs")
        };
        let pulled = run(NAME);
        assert!(pulled.status.success(), "{token}: {}", text(&pulled.stderr));
        let failed = run("acme/nothing");
        assert_eq!(failed.status.code(), Some(1));
        for output in [&pulled, &failed] {
            let said = text(&output.stderr) + &text(&output.stdout);
            assert!(said.contains("TRACE"), "the highest level is on: {said}");
            assert!(!said.contains(TOKEN), "{token}: {said}");
        }
        assert_eq!(text(&pulled.stderr).contains("holds the token itself"), round == 0, "{}", text(&pulled.stderr));
        scene.ok(&["remove", NAME]);
    }
    assert_eq!(scene.hub.leaks().len(), 0);
    assert!(scene.hub.requests().iter().any(|seen| seen.header("authorization").is_some()), "it was used");
    for entry in walk(scene.home.path()) {
        if entry.display().to_string() != file && entry != config {
            assert!(!text(&std::fs::read(&entry).expect("a file")).contains(TOKEN), "{}", entry.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

/// Whoever reads the log may leave, and its disk may fill: no reason to end.
#[test]
fn what_cannot_be_said_ends_nothing() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let scene = Scene::new();
    for log in ["off", "trace"] {
        let run = |arguments: &[&str]| {
            let mut command = scene.command(arguments);
            command.args(["--log", log]).stderr(full()).output().expect("the binary runs")
        };
        let pulled = run(&["pull", NAME]);
        assert_eq!(pulled.status.code(), Some(0));
        assert!(text(&pulled.stdout).ends_with("tiny-Q4_K_M.gguf\n"));
        assert_eq!(run(&["pull", "acme/tiny:Q8_0"]).status.code(), Some(1));
        assert_eq!(run(&["remove", NAME]).status.code(), Some(0));
        assert_eq!(run(&["list"]).status.code(), Some(0));
    }
    let unprinted = scene.command(&["list", "--json"]).stdout(full()).output().expect("the binary runs");
    assert_eq!(unprinted.status.code(), Some(0), "nothing was to be printed");
    scene.ok(&["pull", NAME]);
    let unprinted = scene.command(&["list", "--json"]).stdout(full()).output().expect("the binary runs");
    assert_eq!(unprinted.status.code(), Some(1));
    assert!(text(&unprinted.stderr).contains("standard output"), "{}", text(&unprinted.stderr));
}

/// A folder may have any name; JSON is UTF-8.
#[test]
fn a_folder_that_is_no_text_is_listed_all_the_same() {
    let scene = Scene::new();
    let folder = scene.home.path().join(std::ffi::OsStr::from_bytes(b"models-\xff"));
    let run = |arguments: &[&str]| {
        let output = scene.command(arguments).env("OUTRIGGER_MODELS_DIR", &folder).output().expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["pull", NAME]);
    for arguments in [["list", "--json"].as_slice(), &["inspect", "--json", NAME]] {
        let shown: Value = serde_json::from_str(&run(arguments)).expect("one JSON object");
        assert!(shown.to_string().contains("models-\u{fffd}"), "{shown}");
    }
}

// R5: in the environment of a pod it counts for every command.
#[test]
fn a_token_that_must_be_explicit_is_discovered_by_no_command() {
    let scene = Scene::with(TestHub::builder().repository(tiny().private()).token(TOKEN).start());
    for arguments in [["pull", NAME].as_slice(), &["list"], &["serve", "--model", NAME]] {
        let mut command = scene.command(arguments);
        command.env("HF_TOKEN", TOKEN).env("OUTRIGGER_REQUIRE_EXPLICIT_TOKEN", "true");
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("HF_TOKEN is set, and `require_explicit_token` wants"));
    }
    assert_eq!(scene.hub.requests().len(), 0);
}

#[test]
fn what_prune_may_not_touch_is_named_after_what_it_removed() {
    let scene = Scene::new();
    scene.ok(&["pull", NAME]);
    let commit = scene.hub.commit(NAME, "main");
    scene.ok(&["pull", &format!("{NAME}@{commit}")]);
    let parts = scene.directory("main").join(".cache/outrigger/parts");
    let _ = std::fs::remove_dir_all(&parts);
    std::os::unix::fs::symlink(scene.home.path(), &parts).expect("linked");
    let told = scene.fails(&["prune", "--max-size", "1B"]);
    let (removed, failed) = told.split_once("error: not all that was to go could be removed:\n").expect("an error");
    for revision in [NAME.to_owned(), format!("{NAME}@{commit}")] {
        assert!(removed.contains(&format!("removed {revision}: ")), "{told}");
    }
    assert!(failed.starts_with(&format!("  {} is a symbolic link", parts.display())), "{told}");
    assert_eq!(failed.lines().count(), 1, "{told}");
}

/// A pod's environment is for all of its programs.
#[test]
fn what_the_environment_says_wrongly_of_the_hub_is_nothing_to_who_does_not_ask_it() {
    let scene = Scene::new();
    let path = scene.ok(&["pull", NAME]);
    let file = format!("file:{}", path.trim_end());
    for (variable, value) in [("HF_ENDPOINT", "no address"), ("HF_TOKEN", "hf secret"), ("HF_HUB_OFFLINE", "perhaps")] {
        let run = |arguments: &[&str]| {
            let output = scene.command(arguments).env(variable, value).output().expect("the binary runs");
            (output.status.code(), text(&output.stderr))
        };
        for arguments in [
            ["list"].as_slice(),
            &["verify"],
            &["inspect", NAME],
            &["inspect", path.trim_end()],
            &["prune", "--max-size", "1GB"],
            &["run", "--model", &file, "--max-tokens", "1", "hi"],
        ] {
            let (code, told) = run(arguments);
            assert_eq!(code, Some(0), "{variable} {arguments:?}: {told}");
        }
        // Whether the network may be used is in doubt, and said.
        if variable != "HF_HUB_OFFLINE" {
            for arguments in [["pull", "acme/other"].as_slice(), &["serve", "--model", NAME]] {
                let (code, told) = run(arguments);
                assert_eq!(code, Some(2), "{variable} {arguments:?}: {told}");
                assert!(told.contains(variable) && !told.contains(value), "{told}");
            }
        }
    }
    let mut remove = scene.command(&["remove", NAME]);
    let removed =
        remove.env("HF_ENDPOINT", "no address").env("HF_TOKEN", "hf secret").status().expect("the binary runs");
    assert!(removed.success());
}

/// Two quantisations of one model.
fn two_quantisations() -> Scene {
    let [large, small] = [["Hello", " there"], ["Hi", " you"]].map(|words| Markov::default().chain(&words).to_bytes());
    let repository = Repo::new(NAME).file("tiny-Q8_0.gguf", large, Kind::Lfs).file(WEIGHTS, small, Kind::Lfs);
    Scene::with(TestHub::builder().repository(repository).start())
}

// Issue 3: without a quantisation a documented preference picks, and says so.
#[test]
fn a_choice_that_nobody_made_is_told() {
    let scene = two_quantisations();
    let told = text(&scene.run(&["pull", NAME]).stderr);
    let note =
        format!("no quantisation was named, and Q4_K_M is the one that is preferred; write {NAME}:Q4_K_M to be sure");
    assert!(told.contains(&note), "{told}");
    let told = text(&scene.run(&["pull", &format!("{NAME}:Q8_0")]).stderr);
    assert!(!told.contains("was named"), "{told}");
}

#[test]
fn what_is_verified_is_what_was_named() {
    let scene = two_quantisations();
    scene.ok(&["pull", &format!("{NAME}:Q4_K_M")]);
    let all = scene.ok(&["verify", NAME]);
    assert_eq!(scene.ok(&["verify", &format!("{NAME}:Q4_K_M")]), all);
    let refused = scene.fails(&["verify", &format!("{NAME}:Q8_0")]);
    assert!(refused.contains("cannot verify acme/tiny:Q8_0") && refused.contains("Q4_K_M"), "{refused}");
    scene.ok(&["pull", &format!("{NAME}:Q8_0")]);
    std::fs::write(scene.directory("main").join("tiny-Q8_0.gguf"), "x").expect("a broken file");
    assert_eq!(scene.ok(&["verify", &format!("{NAME}:Q4_K_M")]), all);
    scene.fails(&["verify", &format!("{NAME}/tiny-Q8_0.gguf")]);
    scene.fails(&["verify", NAME]);
}

#[test]
fn a_path_to_inspect_that_leads_nowhere_is_named_as_that() {
    let scene = Scene::new();
    for path in ["./nope.gguf", "nope.gguf", "a/nope.gguf", "/nowhere/nope.gguf"] {
        let told = scene.fails(&["inspect", path]);
        assert!(told.contains(&format!("cannot read {path}: No such file")), "{told}");
    }
    let told = scene.fails(&["inspect", &scene.home.path().display().to_string()]);
    assert!(told.to_lowercase().contains("is a directory"), "{told}");
}
