//! The store against a hub, a disk and other processes, from outside.

mod adoption;
mod disk;
mod manage;
mod processes;
mod pull;
mod support;

/// What some tests run as a process of its own.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
async fn child() {
    support::be_a_child().await;
}
