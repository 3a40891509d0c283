//! What a repository holds, revision by revision, and how it wants its listing falsified.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::content::{Content, sha1_of, sha256_of};

/// How the hub stores a file, which decides where its bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In git: the hub's own origin serves it, by way of a relative 307.
    Git,
    /// In large file storage: a 302 to a signed address of the CDN.
    Lfs,
    /// As `Lfs`, and announced with `X-Xet-Hash` and its `Link` relations, as the real hub does since 2025.
    Xet,
}

/// The files of one commit.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub(crate) files: BTreeMap<String, File>,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub content: Content,
    pub kind: Kind,
}

impl Tree {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file. Any name goes, also one that no honest hub would list.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Content>, kind: Kind) -> Self {
        self.files.insert(path.to_owned(), File { content: content.into(), kind });
        self
    }

    /// Leaves a file out.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }
}

impl From<Content> for Tree {
    /// A tree of one model file, for tests that need no more.
    fn from(content: Content) -> Self {
        Self::new().file("model-Q4_K_M.gguf", content, Kind::Lfs)
    }
}

/// Who may read a gated repository's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Auto,
    Manual,
}

/// A repository.
#[derive(Clone, Debug)]
pub struct Repo {
    pub(crate) id: String,
    pub(crate) private: bool,
    pub(crate) gate: Gate,
    pub(crate) disabled: bool,
    pub(crate) former_ids: BTreeSet<String>,
    pub(crate) branches: BTreeMap<String, Tree>,
    /// Entries of the listing that stand for no file.
    pub(crate) extra_entries: Vec<Value>,
    /// What the listing says differently about a file.
    pub(crate) altered_entries: BTreeMap<String, Value>,
    /// Whether the 307 for a file in git carries `X-Linked-Size` and `X-Linked-ETag`; both have been seen.
    pub(crate) linked_on_307: bool,
}

impl Repo {
    /// An empty public repository with a branch `main`. `id` is `org/model`.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            private: false,
            gate: Gate::Open,
            disabled: false,
            former_ids: BTreeSet::new(),
            branches: BTreeMap::from([("main".to_owned(), Tree::new())]),
            extra_entries: Vec::new(),
            altered_entries: BTreeMap::new(),
            linked_on_307: false,
        }
    }

    /// Adds a file to `main`.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Content>, kind: Kind) -> Self {
        let main = self.branches.entry("main".to_owned()).or_default();
        *main = std::mem::take(main).file(path, content, kind);
        self
    }

    /// Adds a branch, a tag or `refs/pr/1`.
    #[must_use]
    pub fn branch(mut self, name: &str, tree: Tree) -> Self {
        self.branches.insert(name.to_owned(), tree);
        self
    }

    /// Invisible without a token that may see it.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Described to everyone; its files only to tokens that were granted access.
    #[must_use]
    pub fn gated(mut self) -> Self {
        self.gate = Gate::Manual;
        self
    }

    /// As `gated`, with access granted by a machine: the metadata says `"auto"`.
    #[must_use]
    pub fn gated_automatically(mut self) -> Self {
        self.gate = Gate::Auto;
        self
    }

    /// Taken down by the hub: 403 for everyone.
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.disabled = true;
        self
    }

    /// An id that the repository had earlier: the hub answers it with a relative 307 to today's.
    #[must_use]
    pub fn formerly(mut self, id: &str) -> Self {
        self.former_ids.insert(id.to_owned());
        self
    }

    /// Puts `X-Linked-Size` and `X-Linked-ETag` on the 307 of files in git as well.
    #[must_use]
    pub fn linked_on_307(mut self) -> Self {
        self.linked_on_307 = true;
        self
    }

    /// Adds an entry to every listing as it is: `json!({"type": "symlink", ...})`.
    #[must_use]
    pub fn entry(mut self, entry: Value) -> Self {
        self.extra_entries.push(entry);
        self
    }

    /// Merges `changes` into the listing's entry for `path`: `json!({"size": -1})`, `json!({"lfs": {"oid": "../x"}})`.
    #[must_use]
    pub fn listed_as(mut self, path: &str, changes: Value) -> Self {
        self.altered_entries.insert(path.to_owned(), changes);
        self
    }
}

/// A commit as the hub keeps it: a branch that moves leaves the old ones where they were.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub sha: String,
    pub tree: Tree,
    /// The listing's rows, files and directories in the hub's order.
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub(crate) enum Row {
    File(String),
    Directory(String),
    Extra(Value),
}

/// A repository with its history.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub repo: Repo,
    pub heads: BTreeMap<String, String>,
    pub commits: BTreeMap<String, Commit>,
}

impl Shelf {
    pub(crate) fn new(mut repo: Repo) -> Self {
        let branches = std::mem::take(&mut repo.branches);
        let mut shelf = Self { repo, heads: BTreeMap::new(), commits: BTreeMap::new() };
        for (name, tree) in branches {
            shelf.move_branch(&name, tree);
        }
        shelf
    }

    /// Commits `tree` on top of `branch` and returns the commit.
    pub(crate) fn move_branch(&mut self, branch: &str, tree: Tree) -> String {
        let mut text = format!("{}\0{branch}\0{:?}", self.repo.id, self.heads.get(branch));
        for (path, file) in &tree.files {
            let _ = write!(text, "\0{path}\0{}", file.blob_id());
        }
        let sha = sha1_of(&text);
        let rows = rows(&tree, &self.repo.extra_entries);
        self.commits.insert(sha.clone(), Commit { sha: sha.clone(), tree, rows });
        self.heads.insert(branch.to_owned(), sha.clone());
        sha
    }

    /// The commit that a revision means: a branch, a tag, or a full commit. `HEAD` is the default branch, as in git.
    pub(crate) fn commit(&self, revision: &str) -> Option<&Commit> {
        let revision = if revision == "HEAD" { "main" } else { revision };
        let sha = self.heads.get(revision).map_or(revision, String::as_str);
        self.commits.get(sha)
    }

    /// One row as the tree and paths-info answer it.
    pub(crate) fn entry(&self, tree: &Tree, row: &Row) -> Value {
        match row {
            Row::Extra(entry) => entry.clone(),
            Row::Directory(path) => {
                json!({"type": "directory", "oid": sha1_of(&format!("tree {path}")), "size": 0, "path": path})
            }
            Row::File(path) => {
                let mut entry = tree.files[path].entry(path);
                if let Some(changes) = self.repo.altered_entries.get(path) {
                    merge(&mut entry, changes);
                }
                entry
            }
        }
    }
}

/// Directories come before what they hold, as git sorts them.
fn rows(tree: &Tree, extra: &[Value]) -> Vec<Row> {
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    for path in tree.files.keys() {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            if seen.insert(&path[..end]) {
                rows.push(Row::Directory(path[..end].to_owned()));
            }
        }
        rows.push(Row::File(path.clone()));
    }
    rows.extend(extra.iter().cloned().map(Row::Extra));
    rows
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

impl File {
    /// What git holds for a large file instead of its bytes.
    fn pointer(&self) -> String {
        format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            self.content.sha256(),
            self.content.size_bytes()
        )
    }

    pub(crate) fn is_large(&self) -> bool {
        self.kind != Kind::Git
    }

    /// The git object id: of the content, or of the pointer to it.
    pub(crate) fn blob_id(&self) -> String {
        match self.kind {
            Kind::Git => self.content.git_sha1().to_owned(),
            Kind::Lfs | Kind::Xet => Content::from(self.pointer()).git_sha1().to_owned(),
        }
    }

    /// Looks like a SHA-256 and is another one: clients that take it for the content's digest fail.
    pub(crate) fn xet_hash(&self) -> String {
        sha256_of(&format!("xet {}", self.content.sha256()))
    }

    fn entry(&self, path: &str) -> Value {
        let mut entry = json!({"type": "file", "oid": self.blob_id(), "size": self.content.size_bytes(), "path": path});
        if self.is_large() {
            entry["lfs"] = json!({
                "oid": self.content.sha256(), "size": self.content.size_bytes(), "pointerSize": self.pointer().len(),
            });
        }
        if self.kind == Kind::Xet {
            entry["xetHash"] = json!(self.xet_hash());
        }
        entry
    }

    /// The same facts under the names that `?blobs=true` uses.
    pub(crate) fn sibling(&self, path: &str) -> Value {
        let mut sibling = json!({"rfilename": path, "blobId": self.blob_id(), "size": self.content.size_bytes()});
        if self.is_large() {
            sibling["lfs"] = json!({
                "sha256": self.content.sha256(),
                "size": self.content.size_bytes(),
                "pointerSize": self.pointer().len(),
            });
        }
        sibling
    }
}
