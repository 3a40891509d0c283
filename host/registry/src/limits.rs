//! Every limit of this room, with its unit and its reason.

use std::time::Duration;

/// Bytes of a manifest. Ours has two kilobytes; what is larger is no plugin.
pub(crate) const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of the configuration of an artifact: the interfaces that a component names.
pub(crate) const CONFIG_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a component: three times Python's with its interpreter. A host takes 16 MiB unless it is told otherwise.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of each other file: a manifest, a schema, a README.
pub const FILE_BYTES_MAX: u64 = 256 << 10;
/// Files of a plugin: component, manifest, schema, README, and some that later versions may add.
pub(crate) const FILES_MAX: usize = 8;
/// Bytes of a file's path in the plugin's folder.
pub(crate) const PATH_BYTES_MAX: usize = 200;
/// Signatures that are put on one plugin; each is an annotation of 200 bytes. Those of others are read as they are: the manifest
/// that holds them has a size.
pub(crate) const SIGNATURES_MAX: usize = 16;
/// How often signatures are written where somebody else writes at the same time. Each attempt that is lost is one that another push won.
pub(crate) const SIGNING_ATTEMPTS_MAX: usize = 5;
/// Until it is looked whether what was written is still there, to twice as long: some times what lies between the reading and the
/// writing of another push.
pub(crate) const SIGNING_PAUSE: Duration = Duration::from_millis(300);
/// Bytes of what a pull notes of itself: a reference, and as many keys as an operator trusts.
pub(crate) const RECEIPT_BYTES_MAX: u64 = 64 << 10;
/// How old a folder may be whose files are being written: that takes seconds, and clocks of machines that share a disk differ.
pub(crate) const STAGED_AGE_MAX: Duration = Duration::from_hours(1);
/// Bytes of a reference as a person writes it.
pub(crate) const REFERENCE_BYTES_MAX: usize = 1024;
/// Bytes of a key's file, and of one with a login: a few lines.
pub(crate) const SECRET_FILE_BYTES_MAX: u64 = 16 << 10;

/// Redirects of one request. Registries need one: to the store of their blobs.
pub(crate) const REDIRECTS_MAX: usize = 5;
/// Bytes read of a refusal, of which two lines are shown.
pub(crate) const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// Bytes of a token server's answer: tokens of some kilobytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Characters shown of a text that a server sent.
pub(crate) const SHOWN_CHARS_MAX: usize = 300;

/// Time to find the address, connect and agree on TLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until an answer begins, the sending of a component included, and between two pieces of it.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for one request and its answer: 64 MiB over 1 Mbit/s. A registry that sends a byte now and then ends here.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);
