//! Models of a hub, through the real binary: pulled, listed, verified, served, removed.

mod commands;
mod downloads;
mod scene;
