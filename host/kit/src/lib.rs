//! The tools of who writes plugins, below the command line: what `outrigger plugin new`, `build`, `test`, `run` and `bench` do.
//!
//! [`scaffold`] makes a plugin, [`Project`] is one on disk and builds it, [`case`] reads what is expected of it, [`suite`] finds
//! out whether that is so in the host's own sandbox, and [`costs`] measures. Nothing here serves anybody: no clock, no network.

#![expect(clippy::format_collect, reason = "lines for people, a few at a time")]

mod answer;
pub mod case;
mod chunking;
pub mod costs;
mod drive;
mod ended_early;
mod harness;
mod judge;
mod limits;
mod project;
pub mod scaffold;
mod stand;
pub mod stand_in;
mod steps;
pub mod suite;
mod toolchain;
mod watched;
mod writer;

pub use answer::{Call, Sent};
pub use harness::Harness;
pub use limits::{RANDOM_CHUNKINGS, gates};
pub use project::{Built, Project, ProjectError, component_bytes_max};
pub use stand::{LoadFailed, Loaded, Stand};
pub use steps::ExpectedStep;
pub use watched::{Teller, Watched};
