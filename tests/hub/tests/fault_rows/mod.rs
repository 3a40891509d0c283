//! The faults that a client of the Hub meets, each with what our store has to make of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use test_hub::{Content, Fault, Kind, Match, Repo, Retry, TestHub, Tree};

pub(crate) const ID: &str = "acme/tiny";
pub(crate) const WEIGHTS: &str = "tiny-Q4_K_M.gguf";
/// More than one range of any client.
pub(crate) const WEIGHTS_BYTES: u64 = 21_000_000;
pub(crate) const TOKENIZER: &str = "{\"version\": \"1.0\"}";
pub(crate) const CONFIG: &str = "{}";
/// What stands in files that must not be written: found outside the model's directory, it has escaped.
pub(crate) const ESCAPED: &str = "ESCAPED";
/// A link-local address behind which there is nothing.
const LINK_LOCAL: &str = "http://169.254.13.37:9/weights";

pub(crate) struct Row {
    pub name: &'static str,
    pub is_tls: bool,
    /// Changes the repository; the path is the folder in which everything of the test lies.
    pub repo: fn(Repo, &Path) -> Repo,
    pub spoil: fn(&TestHub),
    /// Prepares the model's directory, given with the folder around it.
    pub destination: fn(&Path, &Path),
    /// What our store is asked for; `hf` takes the whole repository.
    pub reference: &'static str,
    pub ours: Ours,
}

/// What our store must make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// The right files, whatever happened on the way.
    Ok,
    /// An error that contains this.
    Refused(&'static str),
}

fn row(name: &'static str, ours: Ours) -> Row {
    Row { name, is_tls: false, repo: |repo, _| repo, spoil: |_| {}, destination: |_, _| {}, reference: ID, ours }
}

fn fault(name: &'static str, spoil: fn(&TestHub), ours: Ours) -> Row {
    Row { spoil, ..row(name, ours) }
}

/// A listing that no hub of good will sends, with a file of that name behind it.
fn listing(name: &'static str, repo: fn(Repo, &Path) -> Repo, ours: Ours) -> Row {
    Row { repo, ..row(name, ours) }
}

fn on_weights() -> Fault {
    Fault::new(Match::cdn_get(WEIGHTS))
}

fn on_resolve() -> Fault {
    Fault::new(Match::hub("/resolve/").and(|seen| seen.path.ends_with(WEIGHTS)))
}

fn on_listing() -> Fault {
    Fault::new(Match::hub_get("/tree/"))
}

fn on_description() -> Fault {
    Fault::new(Match::hub_get("/revision/"))
}

pub(crate) fn weights() -> Content {
    Content::generated(11, WEIGHTS_BYTES)
}

/// What the hub serves before a row spoils it.
pub(crate) fn repository() -> Repo {
    Repo::new(ID).private().file(WEIGHTS, weights(), Kind::Lfs).file("tokenizer.json", TOKENIZER, Kind::Git).file(
        "config.json",
        CONFIG,
        Kind::Git,
    )
}

fn evil(repo: Repo, name: &str) -> Repo {
    repo.file(name, ESCAPED, Kind::Git)
}

use Ours::{Ok, Refused};

type Topic = (&'static str, fn() -> Vec<Row>);

/// Every row, by what goes wrong.
pub(crate) const TOPICS: [Topic; 7] = [
    ("connections", connections),
    ("bodies", bodies),
    ("statuses", statuses),
    ("addresses", addresses),
    ("names", names),
    ("facts", facts),
    ("destinations", destinations),
];

fn connections() -> Vec<Row> {
    vec![
        row("none", Ok),
        fault("reset mid-body, twice", |hub| hub.fault(on_weights().times(2).reset_after(1_000_000)), Ok),
        fault(
            "reset mid-body, for ever",
            |hub| hub.fault(on_weights().reset_after(1000)),
            Refused("the connection broke"),
        ),
        fault("reset instead of an answer, twice", |hub| hub.fault(on_weights().times(2).reset()), Ok),
        fault("reset of the listing, once", |hub| hub.fault(on_listing().times(1).reset()), Ok),
        fault("FIN early, twice", |hub| hub.fault(on_weights().times(2).fin_after(1_000_000)), Ok),
        fault("FIN early, for ever", |hub| hub.fault(on_weights().fin_after(1000)), Refused("ended after 1000 of")),
        Row {
            is_tls: true,
            ..fault("FIN early over TLS, twice", |hub| hub.fault(on_weights().times(2).fin_after(1_000_000)), Ok)
        },
        fault("stall mid-body, once", |hub| hub.fault(on_weights().times(1).stall_after(1_000_000)), Ok),
        fault("stall, for ever", |hub| hub.fault(on_weights().stall_after(1000)), Refused("stalled")),
        fault("stall of the listing, once", |hub| hub.fault(on_listing().times(1).stall()), Ok),
        fault("slow, 8 MB/s", |hub| hub.fault(on_weights().bytes_per_second(8_000_000)), Ok),
        fault("trickle, 100 B/s, once", |hub| hub.fault(on_weights().times(1).bytes_per_second(100)), Ok),
        fault("late answer", |hub| hub.fault(on_weights().delayed(std::time::Duration::from_millis(300))), Ok),
    ]
}

fn bodies() -> Vec<Row> {
    vec![
        fault("flipped byte, once", |hub| hub.fault(on_weights().times(1).flip_byte(100)), Ok),
        fault(
            "flipped byte, for ever",
            |hub| hub.fault(on_weights().flip_byte(100)),
            Refused("is not the file that the hub lists"),
        ),
        fault(
            "other content, same length",
            |hub| hub.fault(on_weights().other_content()),
            Refused("is not the file that the hub lists"),
        ),
        fault(
            "flipped byte in a small file, for ever",
            |hub| hub.fault(Fault::new(Match::hub_get("/resolve-cache/")).flip_byte(3)),
            Refused("tokenizer.json"),
        ),
        fault("consistent but short, once", |hub| hub.fault(on_weights().times(1).shortened(1000)), Ok),
        fault(
            "consistent but short, for ever",
            |hub| hub.fault(on_weights().shortened(1000)),
            Refused("is answered with 20999000 bytes where 21000000 bytes are due"),
        ),
        fault("longer than the file, once", |hub| hub.fault(on_weights().times(1).lengthened(1000)), Ok),
        fault(
            "longer than the file, for ever",
            |hub| hub.fault(on_weights().lengthened(1000)),
            Refused("bytes are due"),
        ),
        fault("more bytes than announced, twice", |hub| hub.fault(on_weights().times(2).extra_bytes(1000)), Ok),
        fault("200 to a range", |hub| hub.fault(on_weights().ignoring_range()), Ok),
        fault("another part than asked, once", |hub| hub.fault(on_weights().times(1).shifted(10)), Ok),
        // Asked for the whole file it gives the whole file.
        fault("wrong total in Content-Range", |hub| hub.fault(on_weights().wrong_total()), Ok),
        fault("gzip, once", |hub| hub.fault(on_weights().times(1).gzip()), Ok),
        fault("gzip, for ever", |hub| hub.fault(on_weights().gzip()), Refused("gzip")),
        fault("another ETag each time", |hub| hub.fault(on_weights().changing_etag()), Ok),
        fault(
            "HTML with 200 for the weights, once",
            |hub| hub.fault(on_weights().times(1).html_page()),
            Refused("with a web page"),
        ),
        fault("HTML with 200 for the weights", |hub| hub.fault(on_weights().html_page()), Refused("with a web page")),
        fault("HTML with 200 for the listing", |hub| hub.fault(on_listing().html_page()), Refused("with a web page")),
        fault(
            "HTML with 200 for everything",
            |hub| hub.fault(Fault::new(Match::any()).html_page()),
            Refused("with a web page"),
        ),
        fault(
            "no HTTP at all",
            |hub| hub.fault(on_weights().raw("\u{1}\u{2}hello\r\n\r\n")),
            Refused("the connection broke"),
        ),
        fault(
            "listing nested 100,000 deep",
            |hub| hub.fault(on_listing().deep_json(100_000)),
            Refused("cannot make sense of"),
        ),
        fault(
            "entry with something 100,000 deep in it",
            |hub| {
                let deep = "[".repeat(100_000) + &"]".repeat(100_000);
                let entry = format!(
                    "[{{\"type\":\"file\",\"path\":\"x\",\"size\":1,\"oid\":\"{}\",\"more\":{deep}}}]",
                    "0".repeat(40)
                );
                hub.fault(on_listing().body("application/json", entry));
            },
            Refused("holds no GGUF model"),
        ),
        fault(
            "listing cut off",
            |hub| hub.fault(on_listing().body("application/json", "[{\"type\":")),
            Refused("cannot make sense of"),
        ),
    ]
}

fn statuses() -> Vec<Row> {
    vec![
        fault("500 once", |hub| hub.fault(on_weights().times(1).status(500)), Ok),
        fault("500 for ever", |hub| hub.fault(on_weights().status(500)), Refused("500")),
        fault("503 once, for the listing", |hub| hub.fault(on_listing().times(1).status(503)), Ok),
        fault("504 once, for the address of the weights", |hub| hub.fault(on_resolve().times(1).status(504)), Ok),
        fault("429, Retry-After: 1", |hub| hub.fault(on_weights().times(1).too_many_requests(&Retry::Seconds(1))), Ok),
        fault(
            "429, Retry-After: a date",
            |hub| hub.fault(on_weights().times(1).too_many_requests(&Retry::Date(1))),
            Ok,
        ),
        fault(
            "429, RateLimit: r=0;t=1",
            |hub| hub.fault(on_resolve().times(1).too_many_requests(&Retry::RateLimit(1))),
            Ok,
        ),
        fault("429 and nothing", |hub| hub.fault(on_resolve().times(1).too_many_requests(&Retry::Neither)), Ok),
        fault(
            "429, Retry-After: soon",
            |hub| hub.fault(on_weights().times(1).too_many_requests(&Retry::Text("soon".into()))),
            Ok,
        ),
        fault(
            "429, Retry-After: a year",
            |hub| hub.fault(on_weights().too_many_requests(&Retry::Seconds(31_536_000))),
            Refused("429"),
        ),
        fault(
            "429 for ever, for the description",
            |hub| hub.fault(on_description().too_many_requests(&Retry::Neither)),
            Refused("429"),
        ),
        fault("403 once: the address has expired", |hub| hub.fault(on_weights().times(1).status(403)), Ok),
        fault("403 for ever", |hub| hub.fault(on_weights().status(403)), Refused("403")),
        fault("token revoked", |hub| hub.revoke_token(crate::TOKEN), Refused("Invalid credentials")),
        fault(
            "branch moved between listing and GET",
            |hub| {
                let tree = Tree::new().file(WEIGHTS, Content::generated(12, WEIGHTS_BYTES), Kind::Lfs);
                hub.fault(on_listing().times(1).then_move_branch(ID, "main", tree));
            },
            Ok,
        ),
    ]
}

fn addresses() -> Vec<Row> {
    vec![
        fault("redirect loop on the hub", |hub| hub.fault(on_resolve().redirect_to_itself()), Refused("redirect")),
        fault("redirect loop on the CDN", |hub| hub.fault(on_weights().redirect_to_itself()), Refused("redirect")),
        fault(
            "redirect to file:",
            |hub| hub.fault(on_resolve().redirect(302, "file:///etc/hostname")),
            Refused("file:"),
        ),
        fault(
            "redirect to a link-local address",
            |hub| hub.fault(on_resolve().redirect(302, LINK_LOCAL)),
            Refused("169.254"),
        ),
        fault("redirect to another port, which has the file", |hub| hub.fault(on_resolve().redirect_to_stranger()), Ok),
        Row {
            is_tls: true,
            ..fault(
                "redirect from https to http",
                |hub| hub.fault(on_resolve().redirect_to_stranger()),
                Refused("http"),
            )
        },
        fault(
            "Link: next to another origin",
            |hub| hub.fault(on_listing().next_page(&format!("{}/api/models/{ID}/tree/main?cursor=x", hub.cdn_url()))),
            Refused("which is not followed"),
        ),
        fault(
            "Link: next to itself",
            |hub| hub.fault(on_listing().next_page(&format!("{}/api/models/{ID}/tree/main?recursive=true", hub.url()))),
            Refused("which is not followed"),
        ),
        fault(
            "commit that is no commit",
            |hub| {
                hub.fault(
                    on_description()
                        .body("application/json", json!({"id": ID, "sha": "../../x", "siblings": []}).to_string()),
                );
            },
            Refused("no commit of 40 hexadecimal digits"),
        ),
    ]
}

fn names() -> Vec<Row> {
    vec![
        listing("name ../x", |repo, _| evil(repo, "../escaped"), Refused("..")),
        listing("name a/../../x", |repo, _| evil(repo, "a/../../escaped"), Refused("..")),
        listing(
            "absolute name",
            |repo, root| evil(repo, &format!("{}/escaped", root.display())),
            Refused("it is absolute"),
        ),
        listing("name with NUL", |repo, _| evil(repo, "a\0b"), Refused("a control character")),
        listing("name with a backslash", |repo, _| evil(repo, "..\\escaped"), Refused("a backslash")),
        listing("name C:\\x", |repo, _| evil(repo, "C:\\escaped"), Refused("a backslash or a colon")),
        listing("name .", |repo, _| evil(repo, "."), Refused("a segment `.`")),
        listing(
            "name of 5,000 characters",
            |repo, _| evil(repo, &"x".repeat(5000)),
            Refused("longer than 2,048 bytes"),
        ),
        listing(
            "name in .cache/huggingface",
            |repo, _| evil(repo, ".cache/huggingface/x"),
            Refused("`.cache` holds the records"),
        ),
        listing("name in .git", |repo, _| evil(repo, ".git/hooks/post-checkout"), Refused("`.git` is no file")),
        listing(
            "names that differ in case",
            |repo, _| repo.file("TINY-Q4_K_M.gguf", ESCAPED, Kind::Lfs),
            Refused("differs from it in case only"),
        ),
        listing("names a and a/b", |repo, _| evil(evil(repo, "a"), "a/b"), Refused("nothing can be inside it")),
        listing(
            "the same name twice",
            |repo, _| repo.entry(json!({"type": "file", "path": WEIGHTS, "size": 3, "oid": "0".repeat(40)})),
            Refused("it is listed twice"),
        ),
    ]
}

fn facts() -> Vec<Row> {
    vec![
        listing(
            "size of 1 PB",
            |repo, _| {
                repo.listed_as(
                    WEIGHTS,
                    json!({"size": 1_000_000_000_000_000_u64, "lfs": {"size": 1_000_000_000_000_000_u64}}),
                )
            },
            Refused("1000000000000000 bytes, and no file is larger"),
        ),
        listing(
            "size of -1",
            |repo, _| repo.listed_as(WEIGHTS, json!({"size": -1, "lfs": {"size": -1}})),
            Refused("which is no number of bytes"),
        ),
        listing(
            "size above 2^63",
            |repo, _| repo.listed_as(WEIGHTS, json!({"size": u64::MAX, "lfs": {"size": u64::MAX}})),
            Refused("18446744073709551615 bytes, and no file is larger"),
        ),
        listing(
            "two sizes for one file",
            |repo, _| repo.listed_as(WEIGHTS, json!({"size": 5})),
            Refused("5 bytes, and 21000000 in LFS"),
        ),
        listing(
            "listed smaller than it is",
            |repo, _| repo.listed_as(WEIGHTS, json!({"size": 5, "lfs": {"size": 5}})),
            Refused("is answered with 21000000 bytes where 5 bytes are due"),
        ),
        listing(
            "sha256 of another file",
            |repo, _| repo.listed_as(WEIGHTS, json!({"lfs": {"oid": "0".repeat(64)}})),
            Refused("is not the file that the hub lists"),
        ),
        listing(
            "sha256 ../x",
            |repo, _| repo.listed_as(WEIGHTS, json!({"lfs": {"oid": "../x"}})),
            Refused("not 64 hexadecimal digits"),
        ),
        listing(
            "git id that is none",
            |repo, _| repo.listed_as("tokenizer.json", json!({"oid": "xyz"})),
            Refused("not 40 hexadecimal digits"),
        ),
        listing(
            "entry of type symlink",
            |repo, _| repo.entry(json!({"type": "symlink", "path": "s", "oid": "0".repeat(40), "size": 1})),
            Refused("the type `symlink`"),
        ),
        listing(
            "entry without a path",
            |repo, _| repo.entry(json!({"type": "file", "oid": "0".repeat(40), "size": 1})),
            Refused("empty segment"),
        ),
    ]
}

fn destinations() -> Vec<Row> {
    vec![
        Row {
            destination: |directory, root| {
                fs::write(root.join("victim"), "precious").expect("a file");
                fs::create_dir_all(directory).expect("a folder");
                symlink(root.join("victim"), directory.join(WEIGHTS)).expect("a link");
            },
            ..row("destination is a symlink to another file", Ok)
        },
        Row {
            destination: |directory, _| fs::create_dir_all(directory.join(WEIGHTS)).expect("a folder"),
            ..row("destination is a directory", Refused(WEIGHTS))
        },
        Row {
            destination: |directory, root| {
                fs::create_dir_all(root.join("elsewhere")).expect("a folder");
                fs::create_dir_all(directory).expect("a folder");
                symlink(root.join("elsewhere"), directory.join("sub")).expect("a link");
            },
            repo: |repo, _| repo.file("sub/tiny-Q8_0.gguf", "large", Kind::Lfs),
            reference: "acme/tiny/sub/tiny-Q8_0.gguf",
            ..row("a folder in it is a symlink to elsewhere", Refused("nothing is written through links"))
        },
        Row {
            destination: |directory, _| {
                fs::create_dir_all(directory).expect("a folder");
                fs::write(directory.join(WEIGHTS), vec![7; 1_000_000]).expect("a file");
            },
            ..row("a broken file is there already", Ok)
        },
        Row {
            destination: |directory, _| {
                fs::create_dir_all(directory).expect("a folder");
                fs::write(directory.join(WEIGHTS), vec![7; usize::try_from(WEIGHTS_BYTES).unwrap()]).expect("a file");
            },
            ..row("a wrong file of the right size is there already", Ok)
        },
    ]
}
