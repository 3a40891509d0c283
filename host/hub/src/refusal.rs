//! The hub's refusals: which of its answers means what, and what a person does next (R25).
//!
//! The Hub hides private repositories: to the anonymous it says 401 for what does not exist, too. So what an answer
//! means is read from its status, its `X-Error-Code` and whether a token was sent, all three.

use std::fmt;
use std::time::Duration;

use crate::token::TokenSource;

/// An answer with an error's status.
#[derive(Debug)]
pub struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) status: u16,
    /// What was wanted, for people.
    pub(crate) what: String,
    /// Who answered: scheme, host and port.
    pub(crate) origin: String,
    /// The repository's page at the endpoint, where a licence is accepted.
    pub(crate) page: String,
    /// Whether it is the endpoint, which knows accounts, and not a storage.
    pub(crate) is_endpoint: bool,
    /// Where the token came from, if one was sent.
    pub(crate) token: Option<TokenSource>,
    /// What the server says, made safe to show.
    pub(crate) message: Option<String>,
    /// The hub's name for the request.
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// 401 without a token: private, missing, or over the quota of anonymous clients.
    Anonymous,
    /// 401 in spite of a token: mistyped, revoked or expired.
    Token,
    /// 401 for a gated repository: nobody the hub knows asked.
    GatedLogin,
    /// 403 for a gated repository: the account has not been granted access.
    GatedAccess,
    /// 403: the repository was taken down.
    Disabled,
    /// 403 with a token: it may not read this repository.
    Scope,
    /// 403 without a token.
    Forbidden,
    /// No such repository, or none that the token may know of.
    RepositoryMissing,
    /// No such branch, tag or commit.
    RevisionMissing,
    /// No such file.
    FileMissing,
    /// 404 that does not say what is missing, as mirrors answer.
    Missing,
    /// 429.
    TooMany,
    /// 408, 425 and 5xx: the server's own trouble.
    Server,
    /// A storage that the hub sent us to refuses its own signed address: expired, or a passing fault.
    Storage,
    /// Any other status.
    Unexpected,
}

/// What the kind of a refusal is read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub(crate) status: u16,
    /// `X-Error-Code`.
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) has_token: bool,
    /// Whether the endpoint itself answered. What it redirects to is a storage, which knows neither tokens nor names.
    pub(crate) is_endpoint: bool,
}

impl Evidence<'_> {
    pub(crate) fn kind(self) -> RefusalKind {
        use RefusalKind::{
            Anonymous, Disabled, FileMissing, Forbidden, GatedAccess, GatedLogin, Missing, RepositoryMissing,
            RevisionMissing, Scope, Server, Storage, Token, TooMany, Unexpected,
        };
        match (self.status, self.code) {
            (429, _) => TooMany,
            (408 | 425 | 500..=599, _) => Server,
            (400..=499, _) if !self.is_endpoint => Storage,
            (401, "GatedRepo") => GatedLogin,
            (_, "GatedRepo") => GatedAccess,
            (_, "RepoNotFound") => RepositoryMissing,
            (_, "RevisionNotFound") => RevisionMissing,
            (_, "EntryNotFound") => FileMissing,
            (_, "DisabledRepo") => Disabled,
            (401, _) if self.has_token => Token,
            (401, _) => Anonymous,
            (403, _) if self.message.contains("disabled") => Disabled,
            (403, _) if self.has_token => Scope,
            (403, _) => Forbidden,
            (404, _) => Missing,
            _ => Unexpected,
        }
    }
}

impl Refusal {
    /// What it means.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The hub's name for the request, which its operators can look up.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// How long the server asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind, RefusalKind::TooMany | RefusalKind::Server | RefusalKind::Storage)
    }

    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, what, origin, page, .. } = self;
        let token = self.token.as_ref().map(|from| format!("the token from {from}"));
        let token = token.as_deref().unwrap_or("no token");
        match self.kind {
            RefusalKind::Anonymous => write!(
                f,
                "{origin} refuses {what} to the anonymous ({status}): it does not exist, is private, or this address has used up \
                 the anonymous quota; check the name, or set hf_token (or HF_TOKEN) to a token that may read it"
            ),
            RefusalKind::Token => write!(
                f,
                "{origin} does not accept {token} ({status}) for {what}: it is mistyped, revoked or expired; make a new one with \
                 read access, or log in again"
            ),
            RefusalKind::GatedLogin if self.token.is_some() => write!(
                f,
                "{what} is gated, and {origin} does not accept {token} ({status}): it is mistyped, revoked or expired; make a new \
                 one with read access, of an account that has accepted the licence at {page}"
            ),
            RefusalKind::GatedLogin => write!(
                f,
                "{what} is gated ({status}): accept its licence at {page}, and set hf_token (or HF_TOKEN) to a token of that \
                 account with read access"
            ),
            RefusalKind::GatedAccess => write!(
                f,
                "{what} is gated, and the account of {token} has no access to it ({status}): accept its licence or ask for access \
                 at {page}"
            ),
            RefusalKind::Disabled => {
                write!(f, "{what} has been disabled by the hub ({status}); see {page}, and choose another model")
            }
            RefusalKind::Scope => write!(
                f,
                "{token} may not read {what} ({status}): give it read access to this repository's contents, or use a token that has \
                 it"
            ),
            RefusalKind::Forbidden => {
                write!(
                    f,
                    "{origin} forbids {what} to the anonymous ({status}); set hf_token (or HF_TOKEN) to a token that may read it"
                )
            }
            RefusalKind::RepositoryMissing if self.token.is_some() => write!(
                f,
                "{origin} has no repository for {what}, or hides it from the account of {token} ({status}); check the name and \
                 whether that account can open {page}"
            ),
            RefusalKind::RepositoryMissing => write!(
                f,
                "{origin} has no repository for {what}, or it is private ({status}); check the name, or set hf_token (or HF_TOKEN)"
            ),
            RefusalKind::RevisionMissing => {
                write!(f, "{origin} has no such revision for {what} ({status}); see the branches and tags at {page}")
            }
            RefusalKind::FileMissing => write!(f, "{origin} has no {what} ({status}); see the files at {page}"),
            RefusalKind::Missing => {
                write!(f, "{origin} has no {what} ({status}); check the name, the revision and the hub's address")
            }
            RefusalKind::TooMany => {
                write!(f, "{origin} counts too many requests and refuses {what} for now ({status})")?;
                self.retry_after.map_or(Ok(()), |it| write!(f, "; it asks to wait {} s", it.as_secs()))?;
                if self.token.is_some() || !self.is_endpoint {
                    Ok(())
                } else {
                    f.write_str("; with hf_token set, the quota is larger")
                }
            }
            RefusalKind::Server => write!(f, "{origin} failed to answer for {what} ({status}); try again later"),
            RefusalKind::Storage => write!(
                f,
                "{origin}, where the hub keeps {what}, refuses its own signed address ({status}); check this machine's clock, try again, \
                 and if the hub itself has moved to {origin}, make that the hub's address"
            ),
            RefusalKind::Unexpected => {
                write!(f, "{origin} answered {status} for {what}; check the hub's address and the proxy settings")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain(f)?;
        match (&self.message, &self.request_id) {
            (Some(message), Some(id)) => write!(f, " [it says: {message}; request {id}]"),
            (Some(message), None) => write!(f, " [it says: {message}]"),
            (None, Some(id)) => write!(f, " [request {id}]"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, code: &str, message: &str, expected: [RefusalKind; 2]) {
        for (has_token, expected) in [false, true].into_iter().zip(expected) {
            let evidence = Evidence { status, code, message, has_token, is_endpoint: true };
            assert_eq!(evidence.kind(), expected, "{status} {code} {message} {has_token}");
        }
    }

    // R25
    #[test]
    fn a_refusal_is_read_from_status_code_and_token() {
        use RefusalKind as Is;
        // Without a token, and with one.
        check(401, "", "Invalid username or password.", [Is::Anonymous, Is::Token]);
        check(401, "GatedRepo", "Please log in.", [Is::GatedLogin, Is::GatedLogin]);
        check(403, "GatedRepo", "not in the authorized list", [Is::GatedAccess, Is::GatedAccess]);
        check(403, "", "Access to this resource is disabled.", [Is::Disabled, Is::Disabled]);
        check(403, "DisabledRepo", "", [Is::Disabled, Is::Disabled]);
        check(403, "", "fine-grained", [Is::Forbidden, Is::Scope]);
        check(404, "RepoNotFound", "", [Is::RepositoryMissing, Is::RepositoryMissing]);
        check(401, "RepoNotFound", "", [Is::RepositoryMissing, Is::RepositoryMissing]);
        check(404, "RevisionNotFound", "", [Is::RevisionMissing, Is::RevisionMissing]);
        check(404, "EntryNotFound", "", [Is::FileMissing, Is::FileMissing]);
        check(404, "", "", [Is::Missing, Is::Missing]);
        check(429, "GatedRepo", "", [Is::TooMany, Is::TooMany]);
        check(400, "", "", [Is::Unexpected, Is::Unexpected]);
        check(304, "", "", [Is::Unexpected, Is::Unexpected]);
        for status in [408, 425, 500, 502, 503, 504, 599] {
            check(status, "", "", [Is::Server, Is::Server]);
        }
    }

    #[test]
    fn a_storage_knows_no_names_and_tokens() {
        let kind = |status| {
            let evidence = Evidence { status, code: "RepoNotFound", message: "", has_token: false, is_endpoint: false };
            evidence.kind()
        };
        for status in [400, 401, 403, 404, 410] {
            assert_eq!(kind(status), RefusalKind::Storage, "{status}");
        }
        assert_eq!(kind(429), RefusalKind::TooMany);
        assert_eq!(kind(503), RefusalKind::Server);
    }
}
