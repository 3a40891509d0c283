//! What computes stays on the processors that the operator chose, and nothing else of the host does (R27).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;
use tests::host::{Host, demo_model};

/// `Cpus_allowed_list` of a thread or process, from its folder in `/proc`.
fn allowed(folder: &Path) -> String {
    let status = fs::read_to_string(folder.join("status")).expect("a running thread");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("Linux says where a thread may run").trim().to_owned()
}

#[test]
fn only_what_computes_is_held() {
    let everywhere = allowed(Path::new("/proc/self"));
    let first: String = everywhere.chars().take_while(char::is_ascii_digit).collect();
    let host = Host::serve(&demo_model(), &["--model-id=m", "--cpus", &first]);
    let reply = host.chat(&json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}));
    assert_eq!(reply.status, 200, "{}", reply.error());

    let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("our child");
    let (mut computing, mut others) = (BTreeSet::new(), BTreeSet::new());
    for thread in threads {
        let folder = thread.expect("a thread").path();
        let name = fs::read_to_string(folder.join("comm")).expect("a running thread");
        if name.trim() == "decode" { &mut computing } else { &mut others }.insert(allowed(&folder));
    }
    assert_eq!(computing, BTreeSet::from([first]));
    assert_eq!(others, BTreeSet::from([everywhere]), "they would wait for what computes");
}
