//! Clients and servers of the Hub that nobody here wrote, as child processes with a limit on their time.
//! `tests/peers/setup.sh` installs them; `OUTRIGGER_PEERS` says where.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use test_hub::TestHub;

/// How long a peer may take for a few megabytes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the peers are.
pub(crate) fn peers() -> PathBuf {
    let folder = std::env::var_os("OUTRIGGER_PEERS").expect("OUTRIGGER_PEERS, as tests/run.sh --full sets it");
    // Tests run in the crate's folder; the variable is most easily given relative to the repository.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    assert!(folder.is_dir(), "{} is missing; tests/peers/setup.sh makes it", folder.display());
    folder
}

/// What became of a peer.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` when it was ended for taking too long.
    pub code: Option<i32>,
    pub output: String,
}

impl Outcome {
    pub(crate) fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn unwrap(self) -> String {
        assert!(self.is_ok(), "{:?}\n{}", self.code, self.output);
        self.output
    }
}

/// Runs a command to its end, or ends it.
pub(crate) fn run(mut command: Command, limit: Duration) -> Outcome {
    let mut log = tempfile::tempfile().expect("a temporary file");
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a second handle"));
    command.stderr(log.try_clone().expect("a second handle"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + limit;
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status.code().or(Some(-1));
        }
        if Instant::now() > end {
            stop(&mut child);
            break None;
        }
        sleep(LOOK_EVERY);
    };
    let mut output = Vec::new();
    std::io::Seek::rewind(&mut log).expect("a file");
    log.read_to_end(&mut output).expect("its output");
    Outcome { code, output: String::from_utf8_lossy(&output).into_owned() }
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A command that inherits nothing which would configure a client of the Hub.
fn clean(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().to_uppercase();
        let is_ours = ["HF_", "HUGGING", "TRANSFORMERS", "SSL_", "NODE_", "REQUESTS_", "CURL_", "OUTRIGGER_"];
        if name.ends_with("_PROXY") || is_ours.iter().any(|start| name.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", home)
        .env("HF_HOME", home)
        .env("XDG_CACHE_HOME", home)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_UPDATE_CHECK", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("NO_COLOR", "1");
    command
}

/// A generation of Hugging Face's own client, with a home of its own.
pub(crate) struct Hf {
    program: PathBuf,
    home: TempDir,
    environment: BTreeMap<String, String>,
}

impl Hf {
    pub(crate) fn new(name: &str, endpoint: &str, ca_file: Option<&Path>) -> Self {
        let program = peers().join(name).join("bin").join(if name == "hf-0.22" { "huggingface-cli" } else { "hf" });
        let mut environment = BTreeMap::from([("HF_ENDPOINT".to_owned(), endpoint.to_owned())]);
        if let Some(ca_file) = ca_file {
            for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
                environment.insert(name.to_owned(), ca_file.display().to_string());
            }
        }
        Self { program, home: tempfile::tempdir().expect("a temporary folder"), environment }
    }

    /// The current one.
    pub(crate) fn current(endpoint: &str) -> Self {
        Self::new("hf-2", endpoint, None)
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, limit: Duration) -> Outcome {
        let mut command = clean(&self.program, self.home.path());
        command.envs(&self.environment).args(arguments);
        run(command, limit)
    }

    /// `hf download ID --revision R --local-dir DIR`.
    pub(crate) fn download(&self, id: &str, revision: &str, into: &Path) -> Outcome {
        let into = into.to_str().expect("a path in UTF-8");
        self.run(["download", id, "--revision", revision, "--local-dir", into], PATIENCE)
    }

    /// `hf cache verify`, which knows nothing of us.
    pub(crate) fn verify(&self, id: &str, revision: &str, directory: &Path) -> Outcome {
        let directory = directory.to_str().expect("a path in UTF-8");
        let arguments =
            ["cache", "verify", id, "--revision", revision, "--local-dir", directory, "--fail-on-missing-files"];
        self.run(arguments, PATIENCE)
    }
}

/// Runs a module of JavaScript that may import `@huggingface/hub`.
pub(crate) fn node(hub: &TestHub, ca_file: Option<&Path>, script: &str, arguments: &[&str]) -> Outcome {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = clean("node", home.path());
    // Node resolves imports of such a script from its working directory.
    command.current_dir(peers().join("node")).args(["--input-type=module", "-e", script, "--", &hub.url()]);
    command.args(arguments);
    if let Some(ca_file) = ca_file {
        command.env("NODE_EXTRA_CA_CERTS", ca_file);
    }
    run(command, PATIENCE)
}

/// olah, a mirror of the Hub and an offline server of local repositories. Dropping it ends the process.
pub(crate) struct Olah {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Olah {
    /// In front of a hub, which it asks for everything once.
    pub(crate) fn mirror_of(hub: &TestHub) -> Self {
        let authority = hub.url().strip_prefix("http://").expect("a hub over plain HTTP").to_owned();
        let upstream = format!("hf-scheme = \"http\"\nhf-netloc = \"{authority}\"\nhf-lfs-netloc = \"{authority}\"\n");
        Self::start(tempfile::tempdir().expect("a temporary folder"), &upstream, "offline = false")
    }

    /// A server of the git repositories below `folder/models`, which asks nobody.
    pub(crate) fn offline(folder: TempDir) -> Self {
        let local = format!("mirrors-path = [\"{}\"]\n", folder.path().display());
        Self::start(folder, &local, "offline = true")
    }

    fn start(folder: TempDir, basic: &str, accessibility: &str) -> Self {
        let port = free_port();
        let config = format!(
            "[basic]\nhost = \"127.0.0.1\"\nport = {port}\nrepos-path = \"{0}/olah\"\n\
             mirror-scheme = \"http\"\nmirror-netloc = \"127.0.0.1:{port}\"\nmirror-lfs-netloc = \"127.0.0.1:{port}\"\n\
             {basic}\n[accessibility]\n{accessibility}\n",
            folder.path().display()
        );
        let file = folder.path().join("olah.toml");
        std::fs::write(&file, config).expect("a config file");
        let log = std::fs::File::create(folder.path().join("olah.log")).expect("a log file");
        let mut command = clean(peers().join("olah/bin/olah-cli"), folder.path());
        command
            .args(["--config", file.to_str().expect("a path in UTF-8"), "--log-path"])
            .arg(folder.path().join("logs"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let child = command.spawn().expect("olah");
        let mut olah = Self { child, folder, port };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(olah.child.try_wait().expect("a child").is_none(), "olah ended\n{}", olah.log());
            assert!(Instant::now() < end, "olah does not listen\n{}", olah.log());
            sleep(LOOK_EVERY);
        }
        olah
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("olah.log")).unwrap_or_default()
    }
}

impl Drop for Olah {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A git repository with large files as git-lfs stores them, below `folder/models/<id>`: what olah serves offline.
pub(crate) fn git_repository(folder: &Path, id: &str, files: &BTreeMap<String, (Vec<u8>, bool)>) {
    let root = folder.join("models").join(id);
    for (path, (bytes, is_large)) in files {
        let target = root.join(path);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        if !is_large {
            std::fs::write(target, bytes).expect("a file");
            continue;
        }
        let sha256 = test_hub::Content::from(bytes.clone()).sha256().to_owned();
        let objects = root.join(".git/lfs/objects").join(&sha256[..2]).join(&sha256[2..4]);
        std::fs::create_dir_all(&objects).expect("a folder");
        std::fs::write(objects.join(&sha256), bytes).expect("an object");
        let pointer =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n", bytes.len());
        std::fs::write(target, pointer).expect("a pointer");
    }
    let git = |arguments: &[&str]| {
        let mut command = clean("git", folder);
        command.current_dir(&root).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        run(command, PATIENCE).unwrap();
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "files"]);
}

/// Every file below `directory` but for `.cache`, links followed.
pub(crate) fn files_below(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            if prefix.is_empty() && name == ".cache" {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{path}/"), into);
            } else {
                into.insert(path, std::fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(directory, "", &mut files);
    files
}

/// Says on the terminal what a test found out; `cargo nextest run --no-capture` shows it.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
