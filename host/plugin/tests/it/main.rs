//! The sandbox from outside: real components, through the same calls that `outrigger` and `server` make.

mod choices;
mod contract;
mod control;
mod failing;
mod faults;
mod granted;
mod guards;
mod hostile_bytes;
mod house;
mod loading;
mod manifests;
mod puppet;
mod quiet;
mod raw;
mod reloading;
mod reuse;
mod stages;
mod steps;
mod streaming;
mod tokens;
