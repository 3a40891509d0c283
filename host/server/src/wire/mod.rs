//! The JSON that clients and this server exchange, in OpenAI's form.

mod embeddings;
mod error;
mod format;
mod logprobs;
mod members;
mod messages;
mod models;
mod request;
mod rerank;
mod response;
mod sampling;
mod tools;

pub(crate) use embeddings::{parse_embeddings, write_embeddings};
pub(crate) use error::{ErrorBody, PluginFault, Refusal};
pub(crate) use models::{ModelList, ModelObject};
pub use request::chat_request;
pub(crate) use request::parse_chat;
pub(crate) use rerank::{parse_rerank, write_rerank};
pub(crate) use response::{ChunkWriter, Collected, event};
