//! How much of everything this plugin takes. All of it is read anew for every request.

/// Tenants with rules of their own: each costs some microseconds per request, as all are read before one is chosen.
pub(crate) const TENANTS_MAX: usize = 256;

/// Patterns of one list.
pub(crate) const PATTERNS_MAX: usize = 256;

/// Memory of a list's patterns, compiled, in bytes: of the 32 MiB that a plugin has unless configured.
pub(crate) const PATTERNS_BYTES_MAX: usize = 4 << 20;

/// Weight of a tenant's own patterns, which are compiled while its request waits: some 10 of the 20 ms that a policy has, and less
/// memory than [`PATTERNS_BYTES_MAX`].
pub(crate) const TENANT_WEIGHT_MAX: usize = 40_000;

/// Memory for the states of a list's automaton that texts have led to, in bytes. Where it is too little they are forgotten
/// and made again.
pub(crate) const STATES_BYTES: usize = 2 << 20;

/// Seconds of a window in which requests or tokens are counted: the host's stores count the milliseconds that they keep a number in
/// 32 bits, which are 49 days.
pub(crate) const WINDOW_SECONDS_MAX: u32 = u32::MAX / 1000;

/// Bytes of a tenant's name as it becomes part of a key: the host's stores take 256 for the whole.
pub(crate) const TENANT_BYTES_MAX: usize = 128;
