//! From a request to the hub to what it is about. Repository ids have one segment or two; a revision is one segment.

use crate::request::percent_decode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub id: String,
    pub what: What,
    /// The path behind the id, as it was sent: a renamed repository's redirect keeps it.
    pub rest: String,
    pub is_api: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Description {
        revision: Option<String>,
    },
    Tree {
        revision: String,
        directory: String,
        has_slash: bool,
    },
    PathsInfo {
        revision: String,
    },
    Refs,
    XetToken,
    /// `/resolve/`, or where its 307 leads.
    File {
        revision: String,
        path: String,
        is_cached: bool,
    },
}

/// `None` for what the hub does not have.
pub(crate) fn route(path: &str) -> Option<Route> {
    if let Some(rest) = path.strip_prefix("/api/resolve-cache/models/") {
        let (id, behind) = split_id(rest, 2)?;
        let (revision, path) = behind.split_once('/')?;
        return Some(Route {
            id,
            what: What::File { revision: percent_decode(revision), path: percent_decode(path), is_cached: true },
            rest: String::new(),
            is_api: true,
        });
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return [1, 2].into_iter().find_map(|segments| {
            let (id, behind) = split_id(rest, segments)?;
            let what = api(behind, segments)?;
            Some(Route { id, what, rest: format!("/{behind}"), is_api: true })
        });
    }
    [1, 2].into_iter().find_map(|segments| {
        let (id, behind) = split_id(path.strip_prefix('/')?, segments)?;
        let (revision, path) = behind.strip_prefix("resolve/")?.split_once('/')?;
        let what = What::File { revision: percent_decode(revision), path: percent_decode(path), is_cached: false };
        Some(Route { id, what, rest: format!("/{behind}"), is_api: false })
    })
}

fn api(behind: &str, id_segments: usize) -> Option<What> {
    let (word, rest) = behind.split_once('/').unwrap_or((behind, ""));
    let (first, more) = rest.split_once('/').map_or((rest, None), |(first, more)| (first, Some(more)));
    let revision = percent_decode(first);
    Some(match word {
        // `gpt2` alone is a description; `org` of `org/model` is not.
        "" if id_segments == 2 || !behind.contains('/') => What::Description { revision: None },
        "revision" if !first.is_empty() && more.is_none() => What::Description { revision: Some(revision) },
        "tree" if !first.is_empty() => What::Tree {
            revision,
            directory: percent_decode(more.unwrap_or_default().trim_end_matches('/')),
            has_slash: behind.ends_with('/'),
        },
        "paths-info" if !first.is_empty() => What::PathsInfo { revision },
        "refs" => What::Refs,
        "xet-read-token" => What::XetToken,
        _ => return None,
    })
}

/// The first `segments` segments, decoded, and what stands behind them.
fn split_id(rest: &str, segments: usize) -> Option<(String, &str)> {
    let mut parts = rest.splitn(segments + 1, '/');
    let id: Vec<_> = parts.by_ref().take(segments).map(percent_decode).collect();
    (id.len() == segments && id.iter().all(|part| !part.is_empty())).then(|| (id.join("/"), parts.next().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_is_understood() {
        let check = |path: &str, id: &str, what: What| {
            let route = route(path).unwrap_or_else(|| panic!("{path} leads nowhere"));
            assert_eq!((route.id.as_str(), route.what), (id, what), "{path}");
        };
        check("/api/models/gpt2", "gpt2", What::Description { revision: None });
        check("/api/models/acme/tiny", "acme/tiny", What::Description { revision: None });
        let pull_request = What::Description { revision: Some("refs/pr/1".into()) };
        check("/api/models/acme/tiny/revision/refs%2Fpr%2F1", "acme/tiny", pull_request);
        let tree =
            |directory: &str, has_slash| What::Tree { revision: "main".into(), directory: directory.into(), has_slash };
        check("/api/models/acme/tiny/tree/main", "acme/tiny", tree("", false));
        check("/api/models/acme/tiny/tree/main/", "acme/tiny", tree("", true));
        check("/api/models/acme/tiny/tree/main/a%20b/c", "acme/tiny", tree("a b/c", false));
        let file = |path: &str, is_cached| What::File { revision: "main".into(), path: path.into(), is_cached };
        check("/acme/tiny/resolve/main/a/b%23.txt", "acme/tiny", file("a/b#.txt", false));
        check("/gpt2/resolve/main/config.json", "gpt2", file("config.json", false));
        check("/api/resolve-cache/models/acme/tiny/main/x", "acme/tiny", file("x", true));
        assert_eq!(route("/acme/tiny"), None);
        assert_eq!(route("/api/models"), None);
    }
}
