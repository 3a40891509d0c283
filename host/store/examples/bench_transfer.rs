//! How fast one file comes from loopback, beside `curl` and `hf`: in turns, from one nginx, in one run.
//!
//! ```text
//! apt-get install nginx-light curl openssl
//! HF=path/to/hf cargo run --release -p store --example bench_transfer -- [MEGABYTES [ROUNDS [FOLDER ...]]]
//! ```
//!
//! Without arguments: 1,000 MB, 5 rounds, into `/dev/shm` (where flushing costs nothing) and the folder for temporary files.
//! Every contender is a process of its own, timed from its start to its end. What `pull` does in that time, and the others
//! do not: it hashes every byte and flushes the file. `curl+` is `curl` followed by `openssl dgst -sha256` and `sync` of the file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::{Endpoint, Hub, HubConfig};
use model::ModelReference;
use sha2::Digest as _;
use store::{Progress, PullOptions, Store};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILE: &str = "model-Q4_K_M.gguf";
const PORT: u16 = 18_917;
/// What this program is called with when it is the contender.
const PULL: &str = "--pull";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [pull, url, models_dir] = arguments.as_slice()
        && pull == PULL
    {
        return pull_model(url, Path::new(models_dir));
    }
    let number = |index: usize, default: u64| arguments.get(index).map_or(Ok(default), |given| given.parse());
    let (bytes, rounds) = (number(0, 1_000)? * 1_000_000, number(1, 5)?);
    let mut folders: Vec<PathBuf> = arguments.iter().skip(2).map(PathBuf::from).collect();
    if folders.is_empty() {
        folders = vec![PathBuf::from("/dev/shm"), std::env::temp_dir()];
    }
    let served = tempfile::tempdir_in("/dev/shm")?;
    let nginx = Nginx::start(served.path(), bytes)?;
    println!("{} MB, {rounds} rounds, from nginx on loopback; seconds, median (least to most)\n", bytes / 1_000_000);
    for folder in folders {
        bench(&nginx, bytes, rounds, &folder)?;
    }
    Ok(())
}

/// Every contender in turn, `rounds` times, into one folder.
fn bench(nginx: &Nginx, bytes: u64, rounds: u64, folder: &Path) -> Result<(), Failure> {
    let url = format!("http://127.0.0.1:{PORT}");
    let file_url = format!("{url}/acme/bench/resolve/{COMMIT}/{FILE}");
    let mut names = vec!["curl", "curl+", "pull"];
    let hf = std::env::var_os("HF");
    if hf.is_some() {
        names.push("hf");
    }
    let mut runs: Vec<Vec<Run>> = names.iter().map(|_| Vec::new()).collect();
    // The first round is not counted: it is the one that finds the memory cold.
    for round in 0..=rounds {
        for (index, name) in names.iter().enumerate() {
            let place = tempfile::tempdir_in(folder)?;
            let into = place.path().join("file");
            let mut command = match *name {
                "curl" => command("curl", ["-sf", "-o", &into.to_string_lossy(), &file_url]),
                "curl+" => {
                    let into = into.to_string_lossy();
                    let script = format!("curl -sf -o {into} {file_url} && openssl dgst -sha256 {into} && sync {into}");
                    command("sh", ["-c", &script])
                }
                "pull" => command(std::env::current_exe()?, [PULL, &url, &place.path().to_string_lossy()]),
                _ => {
                    let place = place.path().to_string_lossy();
                    let mut hf = command(
                        hf.clone().unwrap_or_default(),
                        ["download", "acme/bench", FILE, "--local-dir", &place],
                    );
                    hf.env("HF_ENDPOINT", &url).env("HF_HUB_DISABLE_XET", "1").env("HF_HOME", format!("{place}/home"));
                    hf
                }
            };
            let run = Run::of(&mut command).map_err(|error| format!("{name}: {error}"))?;
            assert_eq!(size_of_largest(place.path())?, bytes, "{name} left another file");
            if round > 0 {
                runs[index].push(run);
            }
        }
    }
    nginx.check()?;
    println!("{}", folder.display());
    let curl = median(&runs[0]);
    for (name, runs) in names.iter().zip(&runs) {
        let mut seconds: Vec<f64> = runs.iter().map(|run| run.took.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let (least, most) = (seconds[0], seconds[seconds.len() - 1]);
        let median = median(runs);
        let rss = runs.iter().map(|run| run.rss_max_kib).max().unwrap_or_default();
        println!(
            "  {name:<6} {median:.2} ({least:.2} to {most:.2})  {:>5.0} MB/s  {:.2} of curl  peak memory {} MiB",
            bytes as f64 / 1e6 / median,
            curl / median,
            rss / 1024,
        );
    }
    println!();
    Ok(())
}

/// The contender: a pull into an empty folder.
fn pull_model(url: &str, models_dir: &Path) -> Result<(), Failure> {
    // As `outrigger pull` has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let hub = Hub::new(HubConfig { endpoint: Endpoint::parse(url)?, ..HubConfig::default() })?;
        let ModelReference::Hub(reference) = ModelReference::parse(&format!("acme/bench/{FILE}"))? else {
            return Err("a path".into());
        };
        let store = Store::open(models_dir)?;
        let progress = Arc::new(Progress::default());
        store.pull(&hub, &reference, PullOptions::default(), &progress).await?;
        Ok(())
    })
}

// ---- measuring ----

/// One run of a contender.
struct Run {
    took: Duration,
    rss_max_kib: u64,
}

impl Run {
    fn of(command: &mut Command) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut rss_max_kib = 0;
        loop {
            // The high-water mark only grows, so the last look before the end has it.
            rss_max_kib = rss_max_kib.max(high_water_kib(child.id()));
            if let Some(status) = child.try_wait()? {
                let took = began.elapsed();
                if status.success() {
                    return Ok(Self { took, rss_max_kib });
                }
                let mut said = String::new();
                if let Some(mut errors) = child.stderr.take() {
                    std::io::Read::read_to_string(&mut errors, &mut said)?;
                }
                return Err(format!("{status}: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn high_water_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
}

fn median(runs: &[Run]) -> f64 {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.took.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn command<'a>(program: impl AsRef<std::ffi::OsStr>, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn size_of_largest(folder: &Path) -> Result<u64, Failure> {
    let mut largest = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            largest = largest.max(size_of_largest(&entry.path())?);
        } else if kind.is_file() {
            largest = largest.max(entry.metadata()?.len());
        }
    }
    Ok(largest)
}

// ---- the server ----

/// nginx, serving one file as a hub would, with its few answers as texts in the configuration.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path, bytes: u64) -> Result<Self, Failure> {
        let sha256 = write_file(&folder.join(FILE), bytes)?;
        let listing = format!(
            r#"[{{"type":"file","path":"{FILE}","size":{bytes},"oid":"{COMMIT}","lfs":{{"oid":"{sha256}","size":{bytes},"pointerSize":135}}}}]"#
        );
        let info = format!(
            r#"{{"_id":"1","id":"acme/bench","modelId":"acme/bench","sha":"{COMMIT}","private":false,"gated":false,"disabled":false,"downloads":0,"likes":0,"tags":[],"siblings":[{{"rfilename":"{FILE}"}}]}}"#
        );
        let folder_shown = folder.display();
        let json = "default_type application/json; return 200";
        let configuration = format!(
            "daemon off; worker_processes 1; pid {folder_shown}/pid; error_log {folder_shown}/errors;
             events {{ worker_connections 256; }}
             http {{
               access_log off; sendfile on; tcp_nopush on;
               client_body_temp_path {folder_shown}/t1; proxy_temp_path {folder_shown}/t2; fastcgi_temp_path {folder_shown}/t3;
               uwsgi_temp_path {folder_shown}/t4; scgi_temp_path {folder_shown}/t5;
               server {{
                 listen 127.0.0.1:{PORT};
                 location /api/models/acme/bench/tree/ {{ {json} '{listing}'; }}
                 location /api/models/acme/bench {{ {json} '{info}'; }}
                 location ~ ^/acme/bench/resolve/[^/]+/{FILE}$ {{
                   alias {folder_shown}/{FILE}; default_type application/octet-stream; etag off;
                   add_header X-Repo-Commit {COMMIT}; add_header X-Linked-Size {bytes};
                   add_header X-Linked-ETag '\"{sha256}\"'; add_header ETag '\"{sha256}\"';
                 }}
               }}
             }}"
        );
        fs::write(folder.join("nginx.conf"), configuration)?;
        let conf = folder.join("nginx.conf");
        let errors = folder.join("errors");
        let mut nginx = Command::new("nginx").arg("-e").arg(&errors).arg("-c").arg(&conf).spawn().map(Self)?;
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
                nginx.check()?;
                return Ok(nginx);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        nginx.0.kill()?;
        Err(format!("nginx did not start: {}", fs::read_to_string(errors).unwrap_or_default()).into())
    }

    /// Whether it is our nginx that listens: another one on the port would have ended ours.
    fn check(&self) -> Result<(), Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        if stat.contains(") Z ") { Err(format!("nginx has ended; is port {PORT} taken?").into()) } else { Ok(()) }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its worker on SIGTERM; on SIGKILL it could not.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Writes a file in which no two pages are equal, and returns its digest.
fn write_file(path: &Path, bytes: u64) -> Result<String, Failure> {
    let mut file = File::create(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut buffer = Vec::with_capacity(1 << 20);
    let mut written = 0;
    while written < bytes {
        buffer.clear();
        while buffer.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            buffer.extend_from_slice(&state.to_le_bytes());
        }
        let length = usize::try_from(bytes - written).unwrap_or(usize::MAX).min(buffer.len());
        file.write_all(&buffer[..length])?;
        hasher.update(&buffer[..length]);
        written += length as u64;
    }
    Ok(hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
