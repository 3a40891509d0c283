//! Some thousand requests through plugins, some of which misbehave, some of whose clients leave, and nothing of them is left: the
//! scenario `soak` of `tests/load`, which `tests/load/run.sh` runs over a hundred thousand.

use std::process::Command;

use tests::host::binary;

#[test]
fn nothing_is_left_of_some_thousand_requests() {
    let component = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(component.path(), bundled::MISBEHAVING).expect("a written component");
    let load = binary().with_file_name("load");
    assert!(load.exists(), "{} is missing; run: cargo build --workspace", load.display());
    let output = Command::new(load)
        .args(["soak", "--requests=2500", "--outrigger"])
        .arg(binary())
        .arg("--misbehaving")
        .arg(component.path())
        .output()
        .expect("it runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    assert!(printed.contains("2500 requests: instances") && !printed.contains("missed"), "{printed}");
}
