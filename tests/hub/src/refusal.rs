//! The hub's refusals, as captured from the real one (hub.md 2.1): status, `X-Error-Code`, `X-Error-Message`, JSON.

use serde_json::json;

use crate::answer::Answer;
use crate::repo::{Gate, Shelf};

/// What a valid token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Sees private repositories, and was granted access to gated ones.
    All,
    /// A user without access to anything that is not public.
    Public,
    /// A fine-grained token whose scopes do not cover the repository.
    NoScope,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Anonymous,
    BadToken,
    Known(Access),
}

fn refuse(status: u16, code: Option<&str>, message: &str) -> Answer {
    let mut answer = Answer::json(status, &json!({ "error": message }));
    if let Some(code) = code {
        answer = answer.with("X-Error-Code", code);
    }
    if status == 401 {
        answer = answer.with("WWW-Authenticate", "Bearer realm=\"Authentication required\", charset=\"UTF-8\"");
    }
    answer.with("X-Error-Message", message)
}

/// What stands in the way of this caller and a repository's description. An unknown repository and an invisible one
/// are told apart by nothing.
pub(crate) fn of_repository(shelf: Option<&Shelf>, caller: Caller, bad_token_passes: bool) -> Option<Answer> {
    let is_public = shelf.is_some_and(|shelf| !shelf.repo.private);
    let refusal = match caller {
        Caller::BadToken if !(is_public && bad_token_passes) => {
            refuse(401, None, "Invalid credentials in Authorization header")
        }
        Caller::Anonymous if !is_public => refuse(401, None, "Invalid username or password."),
        Caller::Known(Access::NoScope) if shelf.is_some_and(|shelf| shelf.repo.private) => {
            refuse(403, None, "This token does not have the scopes that this repository needs.")
        }
        Caller::Known(Access::Public) if !is_public => refuse(404, Some("RepoNotFound"), "Repository not found"),
        _ if shelf.is_none() => refuse(404, Some("RepoNotFound"), "Repository not found"),
        _ if shelf.is_some_and(|shelf| shelf.repo.disabled) => {
            refuse(403, None, "Access to this resource is disabled.")
        }
        _ => return None,
    };
    Some(refusal)
}

/// What stands in the way of this caller and a gated repository's files.
pub(crate) fn of_files(shelf: &Shelf, caller: Caller) -> Option<Answer> {
    if shelf.repo.gate == Gate::Open {
        return None;
    }
    let id = &shelf.repo.id;
    match caller {
        Caller::Known(Access::All) => None,
        Caller::Anonymous | Caller::BadToken => Some(refuse(
            401,
            Some("GatedRepo"),
            &format!(
                "Access to model {id} is restricted. You must have access to it and be authenticated to access it. \
                 Please log in."
            ),
        )),
        Caller::Known(Access::NoScope) => Some(refuse(
            403,
            None,
            "Please enable access to public gated repositories in your fine-grained token settings to view this \
             repository.",
        )),
        Caller::Known(Access::Public) => Some(refuse(
            403,
            Some("GatedRepo"),
            &format!(
                "Access to model {id} is restricted and you are not in the authorized list. Visit \
                 https://huggingface.co/{id} to ask for access."
            ),
        )),
    }
}

pub(crate) fn revision_not_found(revision: &str) -> Answer {
    refuse(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))
}

pub(crate) fn entry_not_found(commit: &str) -> Answer {
    refuse(404, Some("EntryNotFound"), "Entry not found").with("X-Repo-Commit", commit)
}

pub(crate) fn bad_request(message: &str) -> Answer {
    refuse(400, None, message)
}

pub(crate) fn no_such_page() -> Answer {
    refuse(404, None, "Sorry, we can't find the page you are looking for.")
}

/// The form that object stores use.
pub(crate) fn xml(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Answer::new(status, "application/xml", body)
}
