//! `outrigger plugin keygen`.

use std::path::PathBuf;

use clap::Args;
use registry::SecretKey;

use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
The file (PKCS #8 in PEM, as OpenSSL writes it) signs; keep it to yourself. Standard output is the half that others trust:

  trusted_keys = [\"ed25519:…\"]        # in the configuration of whoever pulls")]
pub(super) struct Keygen {
    /// File to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn keygen(arguments: &Keygen) -> Result<(), Failure> {
    let key = SecretKey::generate(&arguments.file).map_err(anyhow::Error::from)?;
    console::print(std::iter::once(key.public().to_string()))
}
