//! The code blocks of the guides, as doctests.
#![expect(
    clippy::test_attr_in_doctest,
    reason = "the guides show crates with their tests, which run where somebody has the crate"
)]

#[doc = include_str!("../../README.md")]
pub mod authors {}

#[doc = include_str!("../../TESTING.md")]
pub mod testing {}

#[doc = include_str!("../../../wit/README.md")]
pub mod contract {}
