//! The command line as people meet it.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use tests::host::command;
use tests::markov::Markov;

fn help(command_name: &str) -> String {
    let output = command().args([command_name, "--help"]).output().expect("the binary runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!("help", String::from_utf8_lossy(&command().arg("--help").output().expect("help").stdout));
    insta::assert_snapshot!("help-serve", help("serve"));
    insta::assert_snapshot!("help-run", help("run"));
    insta::assert_snapshot!("help-pull", help("pull"));
    insta::assert_snapshot!("help-inspect", help("inspect"));
    insta::assert_snapshot!("help-bench", help("bench"));
}

#[test]
fn run_prints_one_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().chain(&["Hello", " joe@", "example.org"]).write(&path).expect("a written model");
    let model = format!("file:{}", path.display());
    let output = command()
        .args(["run", "--model", &model, "--plugin", "redact", "--temperature", "0", "say it"])
        .output()
        .expect("the binary runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("Hello ") && printed.ends_with('\n'), "{printed:?}");
    assert!(!printed.contains("joe@"), "{printed:?}");
}

#[test]
fn bench_measures_every_length_and_number_of_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(1024).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    let bench = |arguments: &[&str]| {
        let model = format!("--model=file:{}", path.display());
        let output = command().args(["bench", &model, "--rounds=2"]).args(arguments).output();
        let output = output.expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, printed, errors) = bench(&["--streams=1,3", "--prompt-tokens=100,2000", "--answer-tokens=8", "--json"]);
    assert_eq!(code, Some(0), "{errors}");
    let report: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(report["prompt_tokens_left_out"], serde_json::json!([2000]), "the model's context has 1024");
    let prompts = report["prompts"].as_array().expect("prompts");
    assert_eq!(prompts.len(), 1);
    assert!(prompts[0]["prompt_tokens"].as_u64() > Some(90), "{report}");
    assert!(prompts[0]["decode_tokens_per_second"].as_f64() > Some(0.0), "{report}");
    let streams: Vec<_> = report["streams"].as_array().expect("streams").iter().map(|it| &it["streams"]).collect();
    assert_eq!(streams, [1, 3]);
    assert!(report["streams"][1]["tokens_per_second"].as_f64() > Some(0.0), "{report}");

    let (code, printed, errors) = bench(&["--streams=2", "--prompt-tokens=32", "--answer-tokens=8"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains("prefill tokens/s") && printed.contains("longest pause"), "{printed}");
    let (code, _, errors) = bench(&["--answer-tokens=5000"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("does not fit a context of 1024"), "{errors}");
}

/// `outrigger run … | head -c 4`: a reader that has seen enough is no error, and the model stops.
#[test]
fn run_ends_well_when_nobody_reads_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    let mut child = command()
        .args(["run", "--model", &format!("file:{}", path.display()), "go"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut seen = [0; 4];
    child.stdout.take().expect("a pipe").read_exact(&mut seen).expect("the answer begins");
    assert_eq!(&seen, b"tick");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error: "));
}

/// Flags, variables, probes and keys in the deployment files are the binary's own.
#[test]
fn deployment_files_say_what_the_binary_understands() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let help = help("serve");
    let probe = self::help("probe");
    let read = |name: &str| std::fs::read_to_string(deploy.join(name)).expect(name);
    let texts = [read("docker/Dockerfile"), read("kubernetes/sidecar.yaml"), read("systemd/outrigger.service")];
    let mut checked = 0;
    for text in &texts {
        for word in text.split(|c: char| c.is_whitespace() || "\"[],=:;".contains(c)) {
            if word.starts_with("OUTRIGGER_") && word.len() > 10 {
                assert!(help.contains(word), "{word} is no variable of `outrigger serve`");
                checked += 1;
            }
        }
    }
    for line in texts[1].lines().map(str::trim) {
        if let Some(flag) = line.strip_prefix("- --") {
            let flag = flag.split('=').next().unwrap_or_default();
            assert!(help.contains(&format!("--{flag} ")), "--{flag} is no flag of `outrigger serve`");
            checked += 1;
        }
        if let Some(kind) = line.strip_prefix("command: [outrigger, probe, ") {
            assert!(probe.contains(kind.trim_end_matches(']')), "{kind} is no probe");
            checked += 1;
        }
    }
    for path in texts[1].lines().filter_map(|line| line.trim().strip_prefix("path: ")) {
        assert!(help.contains(path), "{path} is no path of `outrigger serve`");
        checked += 1;
    }
    assert!(checked >= 12, "only {checked} words were found");

    // The service's configuration names a model that is not there; everything else about it must be right.
    let config = deploy.join("systemd/outrigger.toml");
    let output = command().arg("serve").arg("--config").arg(config).output().expect("the binary runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("cannot read /var/lib/models/model.gguf"), "{printed}");
}
