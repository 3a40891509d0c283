//! The code blocks of the guides, as doctests.

#[doc = include_str!("../../README.md")]
pub mod authors {}

#[doc = include_str!("../../TESTING.md")]
pub mod testing {}

#[doc = include_str!("../../../wit/README.md")]
pub mod contract {}
