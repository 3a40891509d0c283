//! The client against a hub that is faithful and faulty, on loopback.

mod bodies;
mod network;
mod redirects;
mod refusals;
mod repositories;
mod secrets;
mod support;
