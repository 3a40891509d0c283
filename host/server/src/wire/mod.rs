//! The JSON that clients and this server exchange, in OpenAI's form.

mod error;
mod format;
mod logprobs;
mod members;
mod messages;
mod request;
mod response;
mod sampling;

pub(crate) use error::{ErrorBody, PluginFault, Refusal};
pub(crate) use request::parse_chat;
pub(crate) use response::{ChunkWriter, Collected, ModelList, ModelObject, event};
