//! `outrigger plugin sign`.

use std::path::PathBuf;

use clap::Args;
use registry::{Layout, SecretKey};

use crate::{Failure, console};

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// What `outrigger plugin pack` wrote
    #[arg(value_name = "LAYOUT")]
    layout: PathBuf,

    /// The key's file, as `outrigger plugin keygen` or `openssl genpkey -algorithm ed25519` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn sign(arguments: &Sign) -> Result<(), Failure> {
    let key = SecretKey::read(&arguments.key).map_err(anyhow::Error::from)?;
    let mut layout = Layout::read(&arguments.layout).map_err(anyhow::Error::from)?;
    layout.signatures.sign(&layout.artifact.digest, &key).map_err(anyhow::Error::from)?;
    layout.write(&arguments.layout).map_err(anyhow::Error::from)?;
    console::say(format_args!("{} is signed by {}", layout.artifact.digest, key.public()));
    Ok(())
}
