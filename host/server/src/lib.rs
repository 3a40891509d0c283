//! The OpenAI-compatible HTTP API, and the service behind it.
//!
//! [`Service`] answers a chat whatever transport it came over, with one model; [`Models`] are all that a host has, and [`serve`]
//! puts them on a listener. The model arrives when
//! it is loaded ([`Service::ready`]): until then requests are told how far it is.

mod access;
mod admin;
mod http;
mod keys;
pub mod limits;
mod models;
mod service;
mod tls;
mod wire;

pub use ::admission::{Position, Priority, Reason, Refusal, Standing};
pub use ::http::HeaderName;
pub use access::{Access, Replaceable};
pub use admin::{AdminFuture, PluginAdmin, ReloadRefused};
pub use http::{Drained, HttpConfig, Listener, Reach, SocketConfig, SocketError, openapi, routes, serve};
pub use keys::{Keys, KeysError};
pub use models::Models;
pub use service::{
    Answer, AnswerEvent, Asked, Capability, ChatError, Defaults, EmbeddingRequest, Finished, Input, Liveness, Outputs,
    RankingRequest, Readiness, Rendered, Service, ServiceConfig, Serving, Terms, Tokenized, Unloaded,
};
pub use tls::{TlsError, TlsFiles, TlsSettings};
pub use wire::chat_request;

#[cfg(test)]
#[expect(dead_code, reason = "shared with the tests over real sockets, which use all of it")]
#[path = "../tests/support/fakes.rs"]
mod fakes;

#[cfg(test)]
#[path = "../../model/src/allocation.rs"]
mod allocation;
