//! Grammars compiled and followed: what they let through is what they describe, and no grammar takes the process with it.

mod writer;

mod arguments;
mod calls;
mod completions;
mod hostile;
mod vocabularies;
