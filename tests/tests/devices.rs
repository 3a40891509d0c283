//! What computes: the CPU variant that is picked when the host starts, devices that are missing, and a GPU without one
//! (Mesa's software Vulkan).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, binary, command};
use tests::markov::Markov;

/// 256 bytes per token of context, and answers that are known.
fn tiny() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(32_768).chain(&["tick ", "tock ", "tick"]).write(&path).expect("a written model");
    (folder, path)
}

fn ask(host: &Host) -> String {
    let messages = json!([{"role": "user", "content": "go"}]);
    host.chat(&json!({"model": "m", "temperature": 0, "messages": messages})).content()
}

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Where the modules of the build lie: beside the binary.
fn modules() -> PathBuf {
    binary().parent().expect("a folder").join("lib/outrigger")
}

/// A folder with some of the modules.
fn some_modules(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in names {
        std::os::unix::fs::symlink(modules().join(name), folder.path().join(name)).expect("a link");
    }
    folder
}

fn device(host: &Host) -> Value {
    host.get("/v1/models").json()["data"][0]["outrigger"]["device"].clone()
}

// R16, R27
#[test]
fn what_computes_and_what_does_not_is_told_everywhere() {
    let (_folder, model) = tiny();
    let host = Host::serve(&model, &["--model-id=m", "--context-length=256"]);
    assert_eq!(ask(&host), "tick tock tick");
    let device = device(&host);
    assert_eq!(device["backend"], "cpu", "{device}");
    assert_ne!(device["cpu_variant"], "", "{device}");
    assert_eq!(device["skipped"][0], json!({"backend": "cuda", "reason": "no module libggml-cuda.so"}));
    let skipped: BTreeSet<&str> =
        device["skipped"].as_array().expect("a list").iter().filter_map(|it| it["backend"].as_str()).collect();
    assert_eq!(skipped, BTreeSet::from(["cuda", "metal", "rocm", "vulkan"]));
    assert_eq!(host.metric("outrigger_device_info", &["backend=\"cpu\"", "device=\"CPU\""]), 1);
    assert_eq!(host.metric("outrigger_device_skipped", &["backend=\"cuda\"", "reason=\"no_module\""]), 1);
    assert_eq!(host.metric("outrigger_model_layers", &["place=\"host\""]), 3);
    let log = host.log();
    assert!(log.contains("what computes") && log.contains("no module libggml-vulkan.so"), "{log}");
}

// R18
#[test]
fn what_was_expected_of_memory_stands_beside_what_was_allocated() {
    let host = Host::serve(&tests::host::demo_model(), &["--model-id=m", "--context-length=2048"]);
    for part in ["kv_cache", "weights", "compute"] {
        let of = |kind: &str| {
            let kind = format!("kind=\"{kind}\"");
            host.metric("outrigger_model_memory_bytes", &[&kind, &format!("part=\"{part}\""), "place=\"host\""])
        };
        let (expected, allocated) = (of("expected"), of("allocated"));
        assert!(expected > 0 && allocated > 0, "{part}: {expected} {allocated}");
        println!("{part}: {expected} expected, {allocated} allocated");
        // The buffer of the logits grows when the first guesses are computed.
        let share = if part == "compute" { 0.7..1.1 } else { 0.9..1.1 };
        let found = allocated as f64 / expected as f64;
        assert!(share.contains(&found), "{part}: {expected} bytes were expected and {allocated} allocated");
    }
    assert_eq!(host.metric("outrigger_model_memory_bytes", &["place=\"device\""]), 0);
    assert!(host.log().contains("memory that llama.cpp took, and what was expected"));
}

// R19
#[test]
fn keys_and_values_of_eight_bits_take_half_the_memory_and_answer_the_same() {
    let serve = |kind: &str| {
        let model = tests::host::demo_model();
        Host::serve(&model, &["--model-id=m", "--context-length=2048", &format!("--kv-cache-type={kind}")])
    };
    let kv_bytes = |host: &Host, kind: &str| {
        host.metric(
            "outrigger_model_memory_bytes",
            &[&format!("kind=\"{kind}\""), "part=\"kv_cache\"", "place=\"host\""],
        )
    };
    let whole = kv_bytes(&serve("f16"), "allocated");
    let host = serve("q8_0");
    // llama.cpp says it in hundredths of a mebibyte.
    let is_about = |found: u64, expected: u64| assert!(found.abs_diff(expected) < 10_500, "{found} is not {expected}");
    is_about(kv_bytes(&host, "allocated"), kv_bytes(&host, "expected"));
    // 32 numbers take 34 bytes.
    is_about(kv_bytes(&host, "allocated"), whole / 64 * 34);
    let question = |text: &str| {
        let messages = json!([{"role": "user", "content": text}]);
        json!({"model": "m", "temperature": 0, "max_tokens": 16, "messages": messages})
    };
    let capital = question("What is the capital of France? Answer with one word.");
    assert!(host.chat(&capital).content().contains("Paris"));
    // The beginning of a conversation comes back from host memory in this form too.
    assert_eq!(host.chat(&question(&"Something else, and long. ".repeat(40))).status, 200);
    let again = host.chat(&capital);
    assert!(again.content().contains("Paris"), "{}", again.text);
    assert!(serve_error(&["--kv-cache-type=f8"]).contains("f16, q8_0, q4_0 are"));
}

fn serve_error(arguments: &[&str]) -> String {
    let output = tests::host::command()
        .args(["serve", "--model=file:/nowhere.gguf"])
        .args(arguments)
        .output()
        .expect("the binary runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_binary_finds_its_libraries_wherever_its_tree_is() {
    let tree = tempfile::tempdir().expect("a folder");
    let (bin, lib) = (tree.path().join("bin"), tree.path().join("lib/outrigger"));
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::create_dir_all(&lib).expect("a folder");
    std::fs::copy(binary(), bin.join("outrigger")).expect("a copy");
    for entry in std::fs::read_dir(modules()).expect("the modules") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), lib.join(entry.file_name())).expect("a copy");
    }
    let (_folder, model) = tiny();
    for program in [binary(), bin.join("outrigger")] {
        let mut command = Command::new(&program);
        // As from a shell: cargo and nextest add the build's folders.
        command.env_remove("LD_LIBRARY_PATH").current_dir("/");
        let arguments = [&format!("--model=file:{}", model.display()), "--temperature=0", "go"];
        let output = command.arg("run").args(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}: {}", program.display(), stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "tick tock tick");
    }
    // Without its modules the tree says what is missing.
    for entry in std::fs::read_dir(&lib).expect("the tree").map(|entry| entry.expect("an entry").path()) {
        if entry.to_string_lossy().contains("libggml-cpu") {
            std::fs::remove_file(entry).expect("gone");
        }
    }
    let output = Command::new(bin.join("outrigger"))
        .env_remove("LD_LIBRARY_PATH")
        .args(["run", &format!("--model=file:{}", model.display()), "go"])
        .output()
        .expect("it starts");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("holds no libggml-cpu") && said.contains("deploy/install.sh"), "{said}");
}

#[test]
fn modules_come_from_the_named_folder_alone() {
    let (_folder, model) = tiny();
    let one = some_modules(&["libggml-cpu-x64.so"]);
    let named = format!("--backends-dir={}", one.path().display());
    let host = Host::serve(&model, &["--model-id=m", "--context-length=256", &named]);
    assert_eq!(device(&host)["cpu_variant"], "x64");
    assert_eq!(ask(&host), "tick tock tick");

    // A folder that somebody else may write to is not searched, nor is a file that is no module loaded.
    let planted = tempfile::tempdir().expect("a folder");
    std::fs::write(planted.path().join("libggml-cpu-aaa.so"), "not a library").expect("a file");
    let model = format!("--model=file:{}", model.display());
    let output = command().current_dir(planted.path()).args(["run", &model, "--temperature=0", "go"]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let named = format!("--backends-dir={}", planted.path().display());
    let said = stderr(&run(&["run", &model, &named, "go"]));
    assert!(said.contains("libggml-cpu-aaa.so: ") && said.contains("file too short"), "{said}");
    let said = stderr(&run(&["run", &model, "--backends-dir=/nonexistent", "go"]));
    assert!(said.contains("`backends_dir` is /nonexistent, which is no folder"), "{said}");
}

// R17
#[test]
fn a_device_that_was_asked_for_and_is_missing_is_an_error() {
    let (_folder, model) = tiny();
    let model = format!("--model=file:{}", model.display());
    for (device, wanted) in [
        ("cuda", ["no module libggml-cuda.so", "deploy/backend.sh cuda"]),
        ("vulkan", ["no module libggml-vulkan.so", "deploy/backend.sh vulkan"]),
        ("metal", ["this is not macOS", "set `device` to auto or cpu"]),
    ] {
        let output = run(&["run", &model, "--device", device, "go"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{device}: {said}");
        assert!(said.contains(&format!("`device` is {device}, and there is none")), "{said}");
        assert!(wanted.iter().all(|part| said.contains(part)), "{device}: {said}");
    }
    let output = run(&["run", &model, "--device=gpu", "go"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`gpu` is no device; auto, cuda, metal, rocm, vulkan, cpu are"));
    // A module that does not load.
    let broken = some_modules(&["libggml-cpu-x64.so"]);
    std::fs::write(broken.path().join("libggml-cuda.so"), "not a library").expect("a file");
    let named = format!("--backends-dir={}", broken.path().display());
    let said = stderr(&run(&["run", &model, "--device=cuda", &named, "go"]));
    assert!(said.contains("the module failed to load: ") && said.contains("file too short"), "{said}");
    let output = run(&["run", &model, &named, "--temperature=0", "go"]);
    assert!(output.status.success(), "auto goes on to the next: {}", stderr(&output));
}

// R19
#[test]
fn a_context_of_auto_is_as_long_as_memory_holds() {
    let (_folder, model) = tiny();
    let host = Host::serve(&model, &["--model-id=m", "--context-length=auto"]);
    assert_eq!(host.get("/v1/models").json()["data"][0]["outrigger"]["context_length"], 32_768);
    assert_eq!(ask(&host), "tick tock tick");
}

// X3
#[test]
fn the_doctor_says_what_falls_short() {
    let (folder, model) = tiny();
    let model = format!("--model=file:{}", model.display());
    let findings = |output: &Output| -> Vec<Value> {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let state = |findings: &[Value], check: &str| {
        let found = findings.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {findings:?}"))["state"].as_str().expect("a text").to_owned()
    };
    let models_dir = format!("--models-dir={}", folder.path().join("models").display());
    let output = run(&["doctor", &model, &models_dir, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let all = findings(&output);
    for check in ["token", "revision", "cache", "device", "memory", "concurrency", "threads", "listen", "metrics"] {
        assert_eq!(state(&all, check), "ok", "{all:?}");
    }

    // What stops `serve` is an error, and none of the other checks is left out for it.
    let output = run(&["doctor", &model, "--device=cuda", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let all = findings(&output);
    assert_eq!((state(&all, "device"), state(&all, "metrics")), ("fail".to_owned(), "ok".to_owned()));
    let output =
        run(&["doctor", &model, "--context-length=32768", "--max-concurrency=256", "--prefix-cache-size=900TB"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().any(|line| line.starts_with("fail  memory")), "{text}");
    assert!(stderr(&output).contains("1 check failed"), "{}", stderr(&output));

    let output = run(&["doctor", "--model=org/model", &models_dir, "--offline=false", "--threads=1000"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["note  revision", "note  cache", "note  threads", "outrigger pull org/model"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

/// The Vulkan module, and a folder with it and the CPU's modules.
fn with_vulkan() -> TempDir {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/backends/libggml-vulkan.so");
    assert!(built.is_file(), "{} is missing; run: deploy/backend.sh vulkan", built.display());
    let names: Vec<String> = std::fs::read_dir(modules())
        .expect("the modules")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name.starts_with("libggml-cpu-"))
        .collect();
    let folder = some_modules(&names.iter().map(String::as_str).collect::<Vec<_>>());
    std::os::unix::fs::symlink(built, folder.path().join("libggml-vulkan.so")).expect("a link");
    folder
}

/// With Mesa's software device, which Vulkan's backend uses only where it is named.
fn vulkan_command(backends: &TempDir, model: &Path) -> Command {
    let mut command = command();
    command.env("GGML_VK_VISIBLE_DEVICES", "0");
    command.env("OUTRIGGER_BACKENDS_DIR", backends.path());
    command.env("OUTRIGGER_MODEL", format!("file:{}", model.display()));
    command
}

// R16, R17, R18
#[test]
#[ignore = "needs Vulkan's module and Mesa's software driver, which `tests/run.sh --full` builds and installs"]
fn a_model_is_computed_by_vulkan() {
    let (backends, (_folder, model)) = (with_vulkan(), tiny());
    for (choice, context_length) in [("auto", "auto"), ("vulkan", "1024")] {
        let mut command = vulkan_command(&backends, &model);
        command.args(["serve", "--model-id=m", "--device", choice, "--context-length", context_length]);
        let host = Host::start(command);
        host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
        let device = device(&host);
        assert_eq!((device["backend"].as_str(), device["layers"].as_u64()), (Some("vulkan"), Some(3)), "{device}");
        assert!(device["devices"][0].as_str().is_some_and(|name| name.contains("llvmpipe")), "{device}");
        assert_eq!(ask(&host), "tick tock tick");
        assert_eq!(host.metric("outrigger_model_layers", &["place=\"device\""]), 3);
        let of = |kind: &str, part: &str| {
            let (kind, part) = (format!("kind=\"{kind}\""), format!("part=\"{part}\""));
            host.metric("outrigger_model_memory_bytes", &[&kind, &part, "place=\"device\""])
        };
        assert_eq!(of("expected", "kv_cache"), of("allocated", "kv_cache"), "on the device");
        assert!(of("allocated", "weights") > 0);
    }
}

// R17, R26
#[test]
#[ignore = "needs Vulkan's module and Mesa's software driver, which `tests/run.sh --full` builds and installs"]
fn a_gpu_is_not_given_more_than_it_holds() {
    let (backends, (_folder, model)) = (with_vulkan(), tiny());
    let run = |arguments: &[&str]| vulkan_command(&backends, &model).args(arguments).output().expect("it runs");
    // 256 x 32,768 tokens are 2.1 GB of keys and values, and the device has no more than that.
    let output =
        run(&["doctor", "--device=vulkan", "--gpu-layers=3", "--context-length=32768", "--max-concurrency=256"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "3 layers of the model need 2.3 GB",
        "left of the memory of Vulkan0 (llvmpipe",
        "set `gpu_layers` to 2 or less",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    // Where the number of layers is ours to choose, the rest is computed by the processor, and said so.
    let output = run(&["doctor", "--context-length=32768", "--max-concurrency=256", "--prefix-cache-size=0"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("computes 2 of 3 layers") && text.contains("the GPU's memory holds 2 of 3 layers"), "{text}");
    // No layer on the GPU: it does not compute.
    let output = run(&["run", "--device=vulkan", "--gpu-layers=0", "--temperature=0", "go"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = run(&["run", "--device=vulkan", "--main-gpu=7", "go"]);
    assert!(stderr(&output).contains("`main_gpu` is 7, and vulkan has 1 device: Vulkan0"), "{}", stderr(&output));
    // A driver that finds nothing.
    let mut command = vulkan_command(&backends, &model);
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    let output = command.args(["run", "--device=vulkan", "go"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("`device` is vulkan, and there is none: the module"), "{said}");
}
