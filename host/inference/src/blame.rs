//! Whose fault a failure is. `server` turns this, and nothing else, into an HTTP status.

/// Who has to change something for the request to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The request itself: the same request will fail again.
    Client,
    /// A plugin broke its contract or refused to work; the operator has to look.
    Plugin,
    /// There is no room now; the same request may succeed later.
    Capacity,
    /// We failed.
    Internal,
}
