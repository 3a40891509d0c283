//! Every limit of this room, with its unit and its reason. What an operator may change starts from a `_DEFAULT`.

use std::time::Duration;

// ---- time ----

/// Time to find the address, connect and agree on TLS. A hub that needs longer is not there.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Time without progress (see [`PROGRESS_BYTES_MIN`]) after which an answer counts as stalled.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Time for one answer of the API, head and body: a page of a listing is a few hundred kilobytes.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Time for the text of a refusal: its status already says what matters.
pub(crate) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a connection is kept for the next request: shorter than what CDNs and load balancers keep.
pub(crate) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that must arrive within the idle timeout. One byte now and then, for ever, is a stall as well; 4 KiB in 30 s
/// is a tenth of what a modem carried.
pub(crate) const PROGRESS_BYTES_MIN: u64 = 4 * 1024;

// ---- retries ----

/// First pause before a retry.
pub const DELAY_MIN_DEFAULT: Duration = Duration::from_millis(500);
/// Longest pause of our own choosing.
pub const DELAY_MAX_DEFAULT: Duration = Duration::from_secs(30);
/// Retries in a row without progress. Their pauses add up to about a minute: what a restart of a load balancer takes.
pub const RETRIES_MAX_DEFAULT: usize = 8;
/// Longest pause that a hub may ask for. The Hub counts requests in windows of five minutes, so it never has reason
/// to ask for more than that and the second that is added to it; past it the error says when to come back.
pub const ASKED_MAX_DEFAULT: Duration = Duration::from_secs(330);

// ---- requests ----

/// Redirects of one request. The Hub needs two: a renamed repository, and the CDN.
pub(crate) const REDIRECTS_MAX: usize = 8;
/// Bytes of a redirect's target. Signed URLs have one or two kilobytes.
pub(crate) const LOCATION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an endpoint as configured.
pub(crate) const ENDPOINT_BYTES_MAX: usize = 2 * 1024;

// ---- answers ----

/// Bytes of the answer that names a commit. It lists the repository's files as well: 100,000 of them take some 10 MB.
pub(crate) const REVISION_BYTES_MAX: usize = 32 << 20;
/// Bytes of a listing, all its pages together: some 250 per file.
pub(crate) const LISTING_BYTES_MAX: usize = 64 << 20;
/// Pages of a listing. The Hub puts 1,000 entries on one, or 50 when it is asked for details.
pub(crate) const PAGES_MAX: usize = 2_000;
/// Entries of a listing, folders included. The Hub advises repositories to stay below 100,000 files.
pub(crate) const ENTRIES_MAX: usize = 200_000;
/// Bytes of one file: 16 TiB, what ext4 holds at most and thirty times the Hub's own limit of 500 GB.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 40;
/// Bytes read of a refusal's body: an error page, of which two lines are shown.
pub(crate) const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Characters shown of a text that a server sent.
pub(crate) const SHOWN_CHARS_MAX: usize = 300;
/// Different `X-HF-Warning` that are logged; a hub cannot fill the log with them.
pub(crate) const WARNINGS_MAX: usize = 16;

// ---- secrets and files of this machine ----

/// Bytes of a token from which on a redirect that holds it is refused. Shorter ones, such as a mirror's `test`, are no
/// secrets and stand in ordinary addresses.
pub(crate) const SECRET_BYTES_MIN: usize = 8;

/// Bytes of a token file: tokens have some 40, `OAuth` tokens a few kilobytes.
pub(crate) const TOKEN_FILE_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of a file of certificates: all public authorities together have some 200 KiB.
pub(crate) const CA_FILE_BYTES_MAX: u64 = 8 << 20;
