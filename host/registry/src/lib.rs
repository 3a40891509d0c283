//! Plugins as OCI artifacts: packed, signed, pushed to registries and pulled from them.
//!
//! Nothing that a registry says is believed. A manifest is what its digest says, and a key that the operator trusts says that
//! the digest is the author's; only then are files fetched, each of a length and digest known before, and only when all are
//! there does the folder get its name. Answers are capped, redirects followed by hand, and credentials go to the registry that
//! was named and to nobody else.
//!
//! The client is our own, of the eight calls of the distribution specification that this takes: `oci-client` 0.18 reads manifests,
//! tokens and refusals of any length into memory, follows redirects anywhere, and sends a login to whatever token server it is
//! told.

mod artifact;
mod client;
mod conversation;
mod digest;
mod error;
mod folder;
mod layout;
mod login;
mod receipt;
mod reference;
mod signature;
mod version;

pub mod limits;

pub use artifact::{Artifact, Contents, File};
pub use client::{Pulled, Registries, Trust};
pub use digest::Digest;
pub use error::RegistryError;
pub use folder::Staged;
pub use layout::Layout;
pub use login::Login;
pub use receipt::{Receipt, Said};
pub use reference::{Reference, is_version};
pub use signature::{PublicKey, SecretKey, Signatures};
