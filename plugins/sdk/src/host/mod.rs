//! What the host offers. In a component these call it; in native tests they meet the double of
//! [`testing`](crate::testing).

pub mod clock;
pub mod config;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod model;
