//! What a stage says when it cannot do its work.

use crate::types::Error;

/// The result of everything that a plugin does for the host.
///
/// [`Error::Invalid`] blames the request, and its text is for the client (a 400). The other two are faults of the
/// plugin, and theirs are for the operator's log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// For `?` on functions that say in words what is wrong with a configuration.
impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Internal(text)
    }
}

/// See the implementation for [`String`].
impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self::Internal(text.to_owned())
    }
}
