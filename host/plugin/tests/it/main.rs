//! The sandbox from outside: real components, through the same calls that `outrigger` and `server` make.

mod house;
mod stages;
