//! Models that are fetched: when, from where, and what is left where it does not work.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use test_hub::{Fault, Kind, Match, Repo, TestHub, Tree};
use tests::host::{Host, PATIENCE, command};
use tests::markov::Markov;

use crate::scene::{NAME, Scene, TOKEN, WEIGHTS, request, slow_cdn, text, tiny, walk};

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
