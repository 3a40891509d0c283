//! Structured output: what a client asked for, compiled into a grammar that the engine follows token by token.
//!
//! [`Compiler`] turns an [`inference::OutputFormat`] (any JSON object, a JSON schema, a regular expression, Lark, GBNF) into
//! an [`inference::Grammar`], or says why it cannot be enforced. The work is llguidance's: an Earley parser over a lexer of
//! regular-expression derivatives, which walks the vocabulary's trie for each mask. What is here bounds it: what it
//! compiles, how long, on which thread, and how much of it is kept.

mod cache;
mod clock;
mod compiler;
mod error;
mod follow;
mod gbnf;
mod lark;
pub mod limits;
mod regex;
mod schema;
mod tokens;

pub use compiler::{Author, Compiler};
pub use error::GrammarError;
pub use schema::check as check_schema;
