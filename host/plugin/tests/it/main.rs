//! The sandbox from outside: real components, through the same calls that `outrigger` and `server` make.

mod faults;
mod house;
mod loading;
mod manifests;
mod quiet;
mod reloading;
mod stages;
mod streaming;
