//! What the commands say and do about models on disk.

use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Value, json};
use test_hub::TestHub;
use tests::markov::Markov;

use crate::scene::{NAME, Scene, TOKEN, WEIGHTS, text, tiny, two_quantisations};

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
