//! `outrigger plugin push`.

use std::path::PathBuf;

use clap::Args;
use registry::{Layout, Reference};

use super::registry_login::{RegistryArguments, block_on};
use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
Standard output is the reference by digest: what others should pull. Signatures that others put on the same plugin stay. A registry
is asked over https, one on this machine over http.")]
pub(super) struct Push {
    /// What `outrigger plugin pack` wrote
    #[arg(value_name = "LAYOUT")]
    layout: PathBuf,

    /// Where to, such as ghcr.io/acme/mask:1.4.0
    #[arg(value_name = "REF")]
    reference: String,

    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) fn push(arguments: &Push) -> Result<(), Failure> {
    let reference: Reference =
        arguments.reference.parse().map_err(|error| Failure::usage(anyhow::Error::new(error)))?;
    let Layout { artifact, signatures, .. } = Layout::read(&arguments.layout).map_err(anyhow::Error::from)?;
    let registries = arguments.registry.registries(None)?;
    let count = block_on(registries.push(&reference, &artifact, &signatures))?.map_err(anyhow::Error::from)?;
    let signed = match count {
        0 => "; nobody signed it".to_owned(),
        count => format!(" with {count} signature{}", if count == 1 { "" } else { "s" }),
    };
    console::say(format_args!("pushed {reference}{signed}"));
    console::print(std::iter::once(reference.pinned(&artifact.digest).to_string()))
}
