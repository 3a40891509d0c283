//! The stages: for each a trait, what wit-bindgen generates for its interface, and the few lines between the two.

pub(crate) mod audit;
pub(crate) mod lifecycle;
pub(crate) mod parse;
pub(crate) mod policy;
pub(crate) mod postprocess;
pub(crate) mod prompt;
pub(crate) mod token_control;
