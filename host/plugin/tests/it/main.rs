//! The sandbox from outside: real components, through the same calls that `outrigger` and `server` make.

mod faults;
mod granted;
mod guards;
mod house;
mod loading;
mod quiet;
mod stages;
mod streaming;
