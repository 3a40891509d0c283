//! How much of everything this plugin takes. All of it is read anew for every request.

/// Tenants with rules of their own: each costs some microseconds per request, as all are read before one is chosen.
pub(crate) const TENANTS_MAX: usize = 256;

/// Patterns of one list.
pub(crate) const PATTERNS_MAX: usize = 256;

/// Memory of a list's patterns, compiled, in bytes.
pub(crate) const PATTERNS_BYTES_MAX: usize = 2 << 20;

/// Bytes of a tenant's name as it becomes part of a key: the host's stores take 256 for the whole.
pub(crate) const TENANT_BYTES_MAX: usize = 128;
