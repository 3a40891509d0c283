//! Why a plugin could not be packed, signed, pushed or pulled, and what to do next.

use std::io;
use std::time::Duration;

use hub::{Cause, HubError};

use crate::digest::Digest;

/// Why a plugin could not be packed, signed, pushed or pulled. Texts of a server are shortened and without control characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// What was given names no plugin in a registry.
    #[error("`{given}` is no reference of a plugin: {why}; write HOST/PATH:TAG or HOST/PATH@sha256:…")]
    Reference {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A key cannot be used. It is not shown.
    #[error("cannot use {what}: {why}")]
    Key {
        /// Which key, by where it was given.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of this machine.
    #[error("failed to {what}")]
    File {
        /// What was attempted, on what.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The client could not be set up.
    #[error(transparent)]
    Client(#[from] HubError),
    /// No answer.
    #[error("cannot reach {origin} for {what}; check the reference, the network and HTTPS_PROXY")]
    Unreachable {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// The layer below.
        source: Cause,
    },
    /// An answer that does not begin, or stops.
    #[error("{origin} sent nothing more of {what} for {} s", .after.as_secs())]
    Silent {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A redirect, or another address that the registry named, to which nothing is sent.
    #[error("the request for {what} was sent on to {to}, which is not followed: {why}")]
    Redirect {
        /// What was wanted.
        what: String,
        /// Where to, without its query.
        to: String,
        /// Why not.
        why: String,
    },
    /// The registry answered with an error.
    #[error("{origin} answered the request for {what} with {status}{said}{remedy}")]
    Refused {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// The HTTP status.
        status: u16,
        /// What it said, after a colon.
        said: String,
        /// What to do, after a semicolon.
        remedy: &'static str,
    },
    /// The registry answered with something that is not an answer.
    #[error("cannot make sense of what {origin} answered about {what}: {why}")]
    Answer {
        /// What was wanted.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry sends the password to somebody else.
    #[error(
        "{origin} wants the login sent to {to}, which is not this registry; if that is its token server, say so: --token-server {to}"
    )]
    TokenServer {
        /// The registry.
        origin: String,
        /// The other one's scheme, host and port.
        to: String,
    },
    /// The login would travel in plain text.
    #[error("the login is not sent to {origin}: anyone on the way could read it; use https")]
    PlainHttp {
        /// Where it would have gone.
        origin: String,
    },
    /// More bytes than are read.
    #[error("{what} has {size} bytes or more, and {limit} is the most that is taken")]
    TooLarge {
        /// What is too large.
        what: String,
        /// What it has, as far as was looked.
        size: u64,
        /// The most.
        limit: u64,
    },
    /// Other bytes than were asked for. Nothing of them is kept.
    #[error("{what} is not what it should be: its digest is {actual}, and {expected} was asked for; nothing was kept")]
    Digest {
        /// What differs.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// An artifact that is no plugin, or no honest one.
    #[error("{what} is no plugin that can be used: {why}; nothing was kept")]
    Artifact {
        /// Which one.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody signed it.
    #[error("{what} ({digest}) is not signed, and only what a trusted key signed is taken; nothing was kept")]
    Unsigned {
        /// Which one.
        what: String,
        /// Of its manifest.
        digest: Digest,
    },
    /// Nobody that is trusted signed it.
    #[error(
        "{what} ({digest}) carries no valid signature of a trusted key ({count} of other keys, or wrong ones); nothing was kept"
    )]
    Untrusted {
        /// Which one.
        what: String,
        /// Of its manifest.
        digest: Digest,
        /// Signatures that it has.
        count: usize,
    },
    /// An older version than was asked for.
    #[error(
        "{what} was answered with version {version}, which is older; nothing was kept; where that one is meant all the same, name its \
         digest, as in {pinned}"
    )]
    Older {
        /// What was asked for.
        what: String,
        /// The version that the plugin says it is.
        version: String,
        /// The reference with its digest.
        pinned: String,
    },
    /// Something else has the name of the plugin's folder.
    #[error("{folder} is there, and {why}; nothing was changed; {remedy} into another folder (--into DIR)")]
    Taken {
        /// The folder.
        folder: String,
        /// Why it stays.
        why: String,
        /// What to do, as far as it goes before the last words.
        remedy: &'static str,
    },
    /// One signature too many.
    #[error(
        "{digest} would have {count} signatures, and {max} are the most that are kept; nothing was changed; pack the plugin anew to begin \
         without any",
        max = crate::limits::SIGNATURES_MAX
    )]
    Signatures {
        /// Of the plugin's manifest.
        digest: Digest,
        /// How many it would have.
        count: usize,
    },
    /// Others write at the same time.
    #[error(
        "others changed the signatures of {what} at the same time, {attempts} times in a row, and these are not among them now; the \
         plugin has no new name yet; push it again when the others have ended"
    )]
    Contended {
        /// Which one.
        what: String,
        /// How often it was attempted.
        attempts: usize,
    },
    /// Nothing says which bytes are meant.
    #[error(
        "nothing says that {what} is what its author made; name a key (`trusted_keys` in the configuration, or --key), or the \
         digest, as in {pinned}; --allow-unsigned takes whatever the registry has"
    )]
    Unpinned {
        /// Which one.
        what: String,
        /// The reference with the digest that it has now.
        pinned: String,
    },
}

/// A text of a server or an artifact, made safe to show: short, on one line, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let visible = text.chars().map(|char| if char.is_whitespace() { ' ' } else { char }).filter(|char| {
        !char.is_control()
            && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    });
    visible.take(crate::limits::SHOWN_CHARS_MAX).collect::<String>().trim().to_owned()
}
