//! The hub's own answers: descriptions, listings, and where a file's bytes are.

use serde_json::{Value, json};

use crate::answer::{Answer, Framing};
use crate::content::sha1_of;
use crate::refusal::{self, Caller};
use crate::repo::{Commit, File, Gate, Kind, Row, Shelf};
use crate::request::{Request, form, percent_encode};
use crate::route::{Route, What, route};
use crate::state::{Mirror, MirrorEtag, State, lock};

/// What an entry of a listing may ask at most in one page, whatever `limit` says.
const PAGE_ROWS_MAX: usize = 1000;

/// The file of the repository that a request is about, and whether it is in large file storage.
pub(crate) fn file_of(state: &State, request: &Request) -> Option<(String, bool)> {
    let route = route(request.path.strip_prefix(&state.settings.prefix)?)?;
    let What::File { revision, path, .. } = route.what else { return None };
    let shelves = lock(&state.shelves);
    let is_large = find(&shelves, &route.id)
        .and_then(|shelf| shelf.commit(&revision))
        .and_then(|commit| commit.tree.files.get(&path))
        .is_some_and(File::is_large);
    Some((path, is_large))
}

pub(crate) fn answer(state: &State, request: &Request) -> Answer {
    let Some(path) = request.path.strip_prefix(&state.settings.prefix) else { return refusal::no_such_page() };
    if path == "/api/whoami-v2" {
        return match state.caller(request) {
            Caller::Known(_) => Answer::json(200, &json!({"type": "user", "name": "tester", "orgs": []})),
            _ => refusal::of_repository(None, Caller::BadToken, false).unwrap_or_else(refusal::no_such_page),
        };
    }
    let Some(route) = route(path) else { return refusal::no_such_page() };
    let caller = state.caller(request);
    let shelves = lock(&state.shelves);
    let shelf = find(&shelves, &route.id);
    let is_file = matches!(route.what, What::File { .. });
    if is_file
        && let Some(refused) =
            shelf.filter(|shelf| !shelf.repo.private).and_then(|shelf| refusal::of_files(shelf, caller))
    {
        return refused;
    }
    if let Some(refused) = refusal::of_repository(shelf, caller, state.settings.bad_token_passes) {
        return refused;
    }
    let Some(shelf) = shelf else { return refusal::no_such_page() };
    if shelf.repo.id != route.id {
        return moved(state, request, &route, &shelf.repo.id);
    }
    if is_file && let Some(refused) = refusal::of_files(shelf, caller) {
        return refused;
    }
    match route.what {
        What::Description { revision } => describe(shelf, revision.as_deref(), request),
        What::Tree { revision, directory, has_slash } => tree(state, shelf, &revision, &directory, has_slash, request),
        What::PathsInfo { revision } => paths_info(shelf, &revision, request),
        What::Refs => refs(shelf),
        // Nothing here speaks xet; clients fall back, or are told to with HF_HUB_DISABLE_XET=1.
        What::XetToken => refusal::no_such_page(),
        What::File { revision, path, is_cached } => file(state, shelf, &revision, &path, is_cached, request),
    }
}

fn find<'a>(shelves: &'a std::collections::BTreeMap<String, Shelf>, id: &str) -> Option<&'a Shelf> {
    shelves.get(id).or_else(|| shelves.values().find(|shelf| shelf.repo.former_ids.contains(id)))
}

/// A former id: a relative redirect to today's, without `X-Repo-Commit`.
fn moved(state: &State, request: &Request, route: &Route, id: &str) -> Answer {
    let start = if route.is_api { "/api/models/" } else { "/" };
    let rest = if route.rest == "/" { "" } else { &route.rest };
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let location = format!("{}{start}{id}{rest}{query}", state.settings.prefix);
    Answer::redirect(307, "Temporary Redirect", &location)
}

fn describe(shelf: &Shelf, revision: Option<&str>, request: &Request) -> Answer {
    let revision = revision.unwrap_or("main");
    let Some(commit) = shelf.commit(revision) else { return refusal::revision_not_found(revision) };
    let repo = &shelf.repo;
    let (author, _) = repo.id.split_once('/').unwrap_or(("", &repo.id));
    let with_blobs = request.flag("blobs");
    let siblings: Vec<Value> = commit
        .rows
        .iter()
        .filter_map(|row| match row {
            Row::File(path) if with_blobs => Some(commit.tree.files[path].sibling(path)),
            Row::File(path) => Some(json!({ "rfilename": path })),
            Row::Extra(entry) => entry.get("path").map(|path| json!({ "rfilename": path })),
            Row::Directory(_) => None,
        })
        .collect();
    let gated = match repo.gate {
        Gate::Open => json!(false),
        Gate::Auto => json!("auto"),
        Gate::Manual => json!("manual"),
    };
    let used: u64 = commit.tree.files.values().map(|file| file.content.size_bytes()).sum();
    let mut description = json!({
        "_id": &sha1_of(&repo.id)[..24], "id": repo.id, "modelId": repo.id, "author": author, "sha": commit.sha,
        "private": repo.private, "gated": gated, "disabled": repo.disabled, "downloads": 0, "likes": 0,
        "tags": ["gguf"], "pipeline_tag": "text-generation", "library_name": "gguf", "spaces": [],
        "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z",
        "usedStorage": used, "siblings": siblings,
    });
    let expand: Vec<_> = ["expand", "expand[]"].iter().flat_map(|name| request.parameters(name)).collect();
    if !expand.is_empty()
        && let Value::Object(fields) = &mut description
    {
        fields.retain(|key, _| key == "_id" || key == "id" || expand.contains(key));
    }
    Answer::json(200, &description)
}

fn tree(state: &State, shelf: &Shelf, revision: &str, directory: &str, has_slash: bool, request: &Request) -> Answer {
    let settings = &state.settings;
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    if settings.mirror.as_ref().is_some_and(|mirror| mirror.slash_redirect) && !has_slash {
        let location = format!("{}{}/{query}", settings.hub_url, request.path);
        return Answer::redirect(307, "Temporary Redirect", &location);
    }
    let Some(commit) = shelf.commit(revision) else { return refusal::revision_not_found(revision) };
    let rows: Vec<&Row> = rows_below(commit, directory, request.flag("recursive"));
    if rows.is_empty() && !directory.is_empty() {
        return refusal::entry_not_found(&commit.sha);
    }
    let limit = request.parameters("limit").pop().and_then(|limit| limit.parse().ok()).unwrap_or(settings.page_size);
    let limit = limit.clamp(1, settings.page_size.min(PAGE_ROWS_MAX));
    let start = match request.parameters("cursor").pop() {
        None => 0,
        Some(cursor) => match cursor.strip_prefix("c2tpcA-").and_then(|start| start.parse::<usize>().ok()) {
            Some(start) if start <= rows.len() => start,
            _ => return refusal::bad_request("Invalid cursor"),
        },
    };
    let end = (start + limit).min(rows.len());
    let entries: Vec<_> = rows[start..end].iter().map(|row| shelf.entry(&commit.tree, row)).collect();
    let answer = Answer::json(200, &Value::Array(entries)).with("X-Repo-Commit", commit.sha.as_str());
    if end == rows.len() {
        return answer;
    }
    let kept: Vec<_> = form(&request.query)
        .into_iter()
        .filter(|(key, _)| key != "cursor")
        .map(|(key, value)| format!("{}={}&", percent_encode(&key, ""), percent_encode(&value, "")))
        .collect();
    let next = format!("{}{}?{}cursor=c2tpcA-{end}", settings.hub_url, request.path, kept.concat());
    answer.with("Link", format!("<{next}>; rel=\"next\""))
}

fn rows_below<'a>(commit: &'a Commit, directory: &str, recursive: bool) -> Vec<&'a Row> {
    let start = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let below = |row: &&Row| match row {
        Row::File(path) | Row::Directory(path) => {
            path.strip_prefix(&start).is_some_and(|rest| !rest.is_empty() && (recursive || !rest.contains('/')))
        }
        Row::Extra(_) => directory.is_empty(),
    };
    commit.rows.iter().filter(below).collect()
}

fn paths_info(shelf: &Shelf, revision: &str, request: &Request) -> Answer {
    if request.method != "POST" {
        return refusal::no_such_page();
    }
    let Some(commit) = shelf.commit(revision) else { return refusal::revision_not_found(revision) };
    let text = String::from_utf8_lossy(&request.body);
    let paths: Vec<String> = if request.header("content-type").is_some_and(|kind| kind.contains("json")) {
        let Ok(asked) = serde_json::from_str::<Value>(&text) else { return refusal::bad_request("Invalid JSON") };
        let listed = asked["paths"].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    } else {
        form(&text).into_iter().filter(|(key, _)| key == "paths").map(|(_, value)| value).collect()
    };
    let is_asked = |row: &&Row| match row {
        Row::File(path) | Row::Directory(path) => paths.contains(path),
        Row::Extra(_) => false,
    };
    let entries: Vec<_> = commit.rows.iter().filter(is_asked).map(|row| shelf.entry(&commit.tree, row)).collect();
    Answer::json(200, &Value::Array(entries))
}

fn refs(shelf: &Shelf) -> Answer {
    let (mut branches, mut pull_requests) = (Vec::new(), Vec::new());
    for (name, sha) in &shelf.heads {
        if name.starts_with("refs/pr/") {
            pull_requests.push(json!({"name": name, "ref": name, "targetCommit": sha}));
        } else {
            branches.push(json!({"name": name, "ref": format!("refs/heads/{name}"), "targetCommit": sha}));
        }
    }
    let refs = json!({"branches": branches, "tags": [], "converts": [], "pullRequests": pull_requests});
    Answer::json(200, &refs)
}

fn file(state: &State, shelf: &Shelf, revision: &str, path: &str, is_cached: bool, request: &Request) -> Answer {
    let Some(commit) = shelf.commit(revision) else { return refusal::revision_not_found(revision) };
    let Some(file) = commit.tree.files.get(path) else { return refusal::entry_not_found(&commit.sha) };
    if let Some(mirror) = &state.settings.mirror {
        return mirrored(mirror, commit, file, path, request);
    }
    let (id, sha) = (&shelf.repo.id, &commit.sha);
    let etag = match file.kind {
        Kind::Git => format!("\"{}\"", file.blob_id()),
        Kind::Lfs | Kind::Xet => format!("\"{}\"", file.content.sha256()),
    };
    if request.header("if-none-match").is_some_and(|known| known.contains(etag.as_str())) {
        return Answer::empty(304).with("ETag", etag).with("X-Repo-Commit", sha.as_str());
    }
    if is_cached {
        let range = request.header("range").filter(|_| is_unchanged(request, &etag));
        return Answer::content(&file.content, content_type(path), range)
            .with("ETag", etag)
            .with("X-Repo-Commit", sha.as_str())
            .with("Content-Disposition", disposition(path));
    }
    let linked = |answer: Answer| {
        answer.with("X-Linked-Size", file.content.size_bytes().to_string()).with("X-Linked-ETag", etag.as_str())
    };
    let mut answer = if file.is_large() {
        let answer = Answer::redirect(302, "Found", &state.sign(id, path, file));
        linked(answer).with("Accept-Ranges", "bytes")
    } else {
        let asked = percent_encode(&request.path, "");
        let location = format!(
            "{}/api/resolve-cache/models/{id}/{sha}/{}?{asked}=&etag={}",
            state.settings.prefix,
            percent_encode(path, "/"),
            percent_encode(&etag, "")
        );
        let answer = Answer::redirect(307, "Temporary Redirect", &location);
        if shelf.repo.linked_on_307 { linked(answer) } else { answer }
    };
    if file.kind == Kind::Xet {
        let (base, hash) = (&state.settings.hub_url, file.xet_hash());
        let token = format!("<{base}{}/api/models/{id}/xet-read-token/{sha}>; rel=\"xet-auth\"", state.settings.prefix);
        let plan = format!("<{base}/v1/reconstructions/{hash}>; rel=\"xet-reconstruction-info\"");
        answer = answer.with("X-Xet-Hash", hash).with("Link", format!("{token}, {plan}"));
    }
    answer.with("X-Repo-Commit", sha.as_str())
}

/// `If-Range`: the part only when the file is still the one that the client began.
pub(crate) fn is_unchanged(request: &Request, etag: &str) -> bool {
    request.header("if-range").is_none_or(|known| known == etag)
}

fn mirrored(mirror: &Mirror, commit: &Commit, file: &File, path: &str, request: &Request) -> Answer {
    let digest = if file.is_large() { file.content.sha256().to_owned() } else { file.blob_id() };
    let range = request.header("range").filter(|_| mirror.ranges && is_unchanged(request, &format!("\"{digest}\"")));
    let mut answer = Answer::content(&file.content, content_type(path), range);
    match mirror.etag {
        MirrorEtag::None => {}
        MirrorEtag::Unquoted => answer.set("ETag", Some(&digest)),
        MirrorEtag::Quoted => answer.set("ETag", Some(&format!("\"{digest}\""))),
    }
    if mirror.commit_header {
        answer.set("X-Repo-Commit", Some(&commit.sha));
    }
    if !mirror.ranges {
        answer.set("Accept-Ranges", None);
    }
    if !mirror.length {
        answer.framing = Framing::Chunked;
    }
    answer
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("json" | "md" | "txt" | "jinja") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn disposition(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("inline; filename*=UTF-8''{}", percent_encode(name, ""))
}
