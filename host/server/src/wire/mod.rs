//! The JSON that clients and this server exchange: OpenAI's forms and, for messages, Anthropic's. Each is translated here, to
//! one request and back from one stream of events; what happens between the two knows no form.

mod blocks;
mod completion;
mod completion_writer;
mod counted;
mod embeddings;
mod error;
mod format;
#[cfg(test)]
mod forms;
mod logprobs;
mod members;
mod message;
mod messages;
mod models;
mod names;
mod parts;
mod request;
mod rerank;
mod response;
mod responses;
mod sampling;
pub(crate) mod schemas;
mod tokens;
mod tools;
mod writer;

pub(crate) use completion::parse_completion;
pub(crate) use embeddings::{parse_embeddings, write_embeddings};
pub(crate) use error::{ErrorBody, ErrorMembers, PluginFault, Refusal};
pub(crate) use message::{MessageError, message_error, parse_count_tokens, parse_message};
pub(crate) use models::{ModelList, ModelObject};
pub use request::chat_request;
pub(crate) use request::parse_chat;
pub(crate) use rerank::{parse_rerank, write_rerank};
pub(crate) use responses::parse_response;
pub(crate) use tokens::{
    RenderedObject, TextObject, TokenCount, Tokenize, TokenizedObject, parse_detokenize, parse_render, parse_tokenize,
};
pub(crate) use writer::{Head, Parsed, Writer, WriterFor};
