//! What becomes of a download when the hub, the network or the disk does harm: our store, and `hf` beside it.
#![allow(missing_docs)]

mod fault_rows;
#[expect(dead_code, reason = "shared with other tests")]
mod ours;
#[expect(dead_code, reason = "shared with other tests")]
mod peer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use fault_rows::{CONFIG, ESCAPED, ID, Ours, Row, TOKENIZER, TOPICS, WEIGHTS, WEIGHTS_BYTES, repository, weights};
use peer::{Hf, PATIENCE};
use test_hub::{Origin, Seen, TestHub};

const TOKEN: &str = "hf_faultsSecret";
/// An `hf` that takes longer for 21 MB over loopback hangs, or tries again and again.
const LIMIT: Duration = Duration::from_secs(30);

/// How a download ended, and what it left.
#[derive(Debug)]
struct Verdict {
    ended: Ended,
    /// The files under their names: right, one of them wrong, or the weights not there.
    has_right_files: Option<bool>,
    /// A file where none may be written: outside the model's directory, through a link, in `.git`.
    escaped: Option<String>,
    retries: u64,
    leaks: usize,
}

#[derive(Debug)]
enum Ended {
    Ok,
    Error(String),
    Hung,
}

impl Verdict {
    fn new(mut ended: Ended, root: &Path, directory: &Path, hub: &TestHub, retries: u64) -> Self {
        if let Ended::Error(error) = &mut ended {
            let places =
                [(hub.url(), "HUB"), (hub.cdn_url().to_owned(), "CDN"), (hub.stranger_url().to_owned(), "OTHER")];
            for (place, name) in places {
                *error = error.replace(&place, name);
            }
            *error =
                error.replace(&root.display().to_string(), "…").replace(&format!("@{}", hub.commit(ID, "main")), "");
        }
        let is_right = |name: &str, right: &[u8]| std::fs::read(directory.join(name)).ok().map(|bytes| bytes == right);
        let has_wrong = is_right("tokenizer.json", TOKENIZER.as_bytes()) == Some(false)
            || is_right("config.json", CONFIG.as_bytes()) == Some(false);
        let has_right_files =
            is_right(WEIGHTS, &weights().bytes(0..WEIGHTS_BYTES)).map(|is_right| is_right && !has_wrong);
        Self { ended, has_right_files, escaped: escaped(root, directory), retries, leaks: hub.leaks().len() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.ended, self.has_right_files) {
            (Ended::Ok, Some(true)) => write!(formatter, "ok")?,
            (Ended::Ok, Some(false)) => write!(formatter, "**WRONG FILE ACCEPTED**")?,
            (Ended::Ok, None) => write!(formatter, "**SUCCESS WITHOUT THE FILE**")?,
            (Ended::Error(error), kept) => {
                write!(formatter, "error: {error}")?;
                if kept == Some(false) {
                    write!(formatter, "; **wrong file left under its name**")?;
                }
            }
            (Ended::Hung, _) => write!(formatter, "**not ended after {} s**", LIMIT.as_secs())?,
        }
        if self.retries > 0 {
            write!(formatter, ", {} retries", self.retries)?;
        }
        if let Some(escaped) = &self.escaped {
            write!(formatter, ", **wrote {escaped}**")?;
        }
        if self.leaks > 0 {
            write!(formatter, ", **token sent elsewhere**")?;
        }
        Ok(())
    }
}

/// Something that was written outside the model's directory.
fn escaped(root: &Path, directory: &Path) -> Option<String> {
    if std::fs::read(root.join("victim")).is_ok_and(|bytes| bytes != b"precious") {
        return Some("through the link".to_owned());
    }
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.starts_with(directory) && !path.starts_with(directory.join(".git")) && path != *directory {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| bytes == ESCAPED.as_bytes() || bytes == b"large") {
                return Some(path.strip_prefix(root).unwrap_or(&path).display().to_string());
            }
        }
    }
    None
}

struct Scene {
    hub: TestHub,
    root: tempfile::TempDir,
    directory: std::path::PathBuf,
}

fn scene(row: &Row) -> Scene {
    let root = tempfile::tempdir().expect("a temporary folder");
    let builder = TestHub::builder().repository((row.repo)(repository(), root.path())).token(TOKEN);
    let hub = if row.is_tls { builder.tls().start() } else { builder.start() };
    (row.spoil)(&hub);
    let directory = root.path().join("models").join(ID).join("main");
    (row.destination)(&directory, root.path());
    Scene { hub, root, directory }
}

/// How often requests that a fault struck were made again.
fn repetitions(requests: &[Seen]) -> u64 {
    let mut groups = BTreeMap::<_, (u64, bool)>::new();
    for seen in requests {
        // A signed address is another one each time; its path is the file's.
        let group = groups.entry((seen.origin == Origin::Hub, &seen.method, &seen.path)).or_default();
        *group = (group.0 + 1, group.1 || seen.is_faulty);
    }
    groups.values().filter(|(_, is_faulty)| *is_faulty).map(|(count, _)| count - 1).sum()
}

fn with_hf(row: &Row) -> Verdict {
    let Scene { hub, root, directory } = scene(row);
    let hf = Hf::new("hf-2", &hub.url(), row.is_tls.then(|| hub.ca_file()))
        .set("HF_TOKEN", TOKEN)
        .set("HF_HUB_DOWNLOAD_TIMEOUT", "2")
        .set("HF_HUB_ETAG_TIMEOUT", "2");
    let into = directory.to_str().expect("a path in UTF-8");
    let outcome = hf.run(["download", ID, "--local-dir", into], LIMIT);
    let ended = match outcome.code {
        Some(0) => Ended::Ok,
        Some(_) => Ended::Error(last_line(&outcome.output)),
        None => Ended::Hung,
    };
    let retries = repetitions(&hub.requests());
    Verdict::new(ended, root.path(), &directory, &hub, retries)
}

/// The line of hf's output that says what went wrong.
fn last_line(output: &str) -> String {
    let mut lines = output.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("Hint:"));
    let error = lines.clone().rfind(|line| line.contains("Error: ")).or_else(|| lines.next_back());
    error.unwrap_or("no message").trim_start_matches("Error: ").trim().to_owned()
}

fn with_us(row: &Row) -> Verdict {
    let Scene { hub, root, directory } = scene(row);
    let client = ours::client(&hub.url(), row.is_tls.then(|| hub.ca_file()), Some(TOKEN));
    let pulled = ours::pull(&root.path().join("models"), &client, row.reference, PATIENCE);
    let ended = match pulled.result {
        Some(Ok(_)) => Ended::Ok,
        Some(Err(error)) => Ended::Error(error),
        None => Ended::Hung,
    };
    // Parts of one file are several requests without being repetitions.
    let descriptions: Vec<_> =
        hub.requests().into_iter().filter(|seen| seen.path.starts_with("/api/models/")).collect();
    let retries = pulled.snapshot.retries + repetitions(&descriptions);
    Verdict::new(ended, root.path(), &directory, &hub, retries)
}

/// What is wrong with what our store made of a fault, if anything.
fn complaint(row: &Row, verdict: &Verdict) -> Option<String> {
    let is_expected = match (&verdict.ended, row.ours) {
        (Ended::Ok, Ours::Ok) => verdict.has_right_files == Some(true),
        (Ended::Error(error), Ours::Refused(why)) => {
            !error.contains(TOKEN) && !why.is_empty() && error.contains(why) && verdict.has_right_files != Some(false)
        }
        _ => false,
    };
    let is_harmless = verdict.escaped.is_none() && verdict.leaks == 0;
    (!is_expected || !is_harmless).then(|| format!("{}: {verdict}\n    instead of {:?}", row.name, row.ours))
}

/// A verdict in a cell of the table: of an error, the part behind what was attempted.
fn cell(mut verdict: Verdict) -> String {
    const CHARS_MAX: usize = 110;
    if let Ended::Error(error) = &mut verdict.ended {
        let gist = ["are kept: ", "refused as a whole, because ", "acme/tiny: "]
            .iter()
            .find_map(|start| error.split_once(start))
            .map_or(error.as_str(), |(_, gist)| gist);
        let end = gist.char_indices().nth(CHARS_MAX).map_or(gist.len(), |(end, _)| end);
        *error = gist[..end].replace('|', "/").replace('\n', " ") + if end < gist.len() { "…" } else { "" };
    }
    verdict.to_string()
}

/// A test for each topic of ours alone, and one with `hf` beside us.
macro_rules! topics {
    ($($topic:ident, $table:ident;)*) => {
        $(
            #[test]
            fn $topic() {
                check_ours(&rows(stringify!($topic)));
            }

            #[test]
            #[ignore = "heavy: run by tests/run.sh --full"]
            fn $table() {
                table(&rows(stringify!($topic)));
            }
        )*

        #[test]
        fn every_topic_has_its_test() {
            assert_eq!(TOPICS.map(|(topic, _)| topic), [$(stringify!($topic)),*]);
        }
    };
}

topics! {
    connections, connections_beside_hf;
    bodies, bodies_beside_hf;
    statuses, statuses_beside_hf;
    addresses, addresses_beside_hf;
    names, names_beside_hf;
    facts, facts_beside_hf;
    destinations, destinations_beside_hf;
}

fn rows(topic: &str) -> Vec<Row> {
    TOPICS.iter().find(|(name, _)| *name == topic).map(|(_, rows)| rows()).expect("a topic")
}

#[track_caller]
fn check_ours(rows: &[Row]) {
    report(in_parallel(rows, |row| complaint(row, &with_us(row))));
}

#[track_caller]
fn table(rows: &[Row]) {
    let cells = in_parallel(rows, |row| {
        let ours = with_us(row);
        let complaint = complaint(row, &ours);
        (format!("| {} | {} | {} |", row.name, cell(with_hf(row)), cell(ours)), complaint)
    });
    let (lines, complaints): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
    peer::tell(&format!("| fault | hf 2.3.0 | outrigger |\n|---|---|---|\n{}", lines.join("\n")));
    report(complaints);
}

#[track_caller]
fn report(complaints: Vec<Option<String>>) {
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Most of a row's time is waiting; four at once keep two cores busy.
fn in_parallel<T: Send>(rows: &[Row], work: impl Fn(&Row) -> T + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results: Vec<_> = rows.iter().map(|_| std::sync::Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                    && let Some(row) = rows.get(number)
                {
                    let result = work(row);
                    *results[number].lock().expect("a lock of one user") = Some(result);
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().ok().flatten().expect("every row was worked on")).collect()
}
