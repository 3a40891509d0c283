//! `outrigger plugin pull`: the only command that fetches plugins. A host that serves reads folders and asks no registry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use plugin::Package;
use registry::limits::COMPONENT_BYTES_MAX;
use registry::{Digest, Layout, PublicKey, Pulled, Reference, Staged, Trust};

use super::ConfigArguments;
use super::registry_login::{RegistryArguments, block_on};
use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
Where keys are trusted, by `trusted_keys` or --key, one of them must have signed the plugin. Without keys the reference must
name a digest. A key says whose a plugin is; only a digest says which version it is, and a registry may answer a tag with an
older one. Standard output is the plugin's folder, which is there as a whole or not at all.")]
pub(super) struct Pull {
    /// A reference, such as ghcr.io/acme/mask:1.4.0 or ghcr.io/acme/mask@sha256:…, or the folder that `plugin pack` wrote
    #[arg(value_name = "REF|LAYOUT")]
    from: String,

    /// Folder of plugins: this one becomes a folder in it, named like the plugin
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    into: PathBuf,

    /// A key to trust, as ed25519:…; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,

    /// Take whatever the registry has where no key is trusted and no digest named
    #[arg(long)]
    allow_unsigned: bool,

    #[command(flatten)]
    config: ConfigArguments,

    #[command(flatten)]
    registry: RegistryArguments,
}

pub(super) fn pull(arguments: &Pull) -> Result<(), Failure> {
    let said = arguments.config.read().map_err(Failure::usage)?;
    let keys = said.trusted_keys.iter().chain(&arguments.keys).map(|key| key.parse());
    let keys = keys.collect::<Result<Vec<PublicKey>, _>>().map_err(|error| Failure::usage(error.into()))?;
    let trust = Trust { keys, allow_unsigned: arguments.allow_unsigned };
    let local = Path::new(&arguments.from);
    let pulled = if Layout::is_at(local) {
        Layout::read(local).and_then(|layout| layout.pull(local, &trust))
    } else {
        let reference: Reference = arguments.from.parse().map_err(|error| Failure::usage(anyhow::Error::new(error)))?;
        let registries = arguments.registry.registries(said.ca_files)?;
        block_on(registries.pull(&reference, &trust))?
    };
    let pulled = pulled.map_err(anyhow::Error::from)?;
    let (folder, name) = publish(&pulled, &arguments.into)?;
    let signed = match &pulled.signer {
        Some(key) => format!("signed by {key}"),
        None => "not signed by a trusted key".to_owned(),
    };
    console::say(format_args!("{} is {}, {signed}; use it as", arguments.from, pulled.digest));
    let component = pulled.files.first().map(|file| Digest::of(&file.bytes));
    let sha256 = component.as_ref().map_or("", Digest::hexadecimal);
    let from = folder.display();
    console::say(format_args!("\n[[plugin]]\nname = \"{name}\"\nfrom = \"{from}\"\nsha256 = \"{sha256}\"\n"));
    console::print(std::iter::once(folder.display().to_string()))
}

/// Puts the plugin where it belongs, once the host's own reader has read it.
fn publish(pulled: &Pulled, into: &Path) -> anyhow::Result<(PathBuf, String)> {
    let staged = Staged::new(into)?;
    staged.write(&pulled.files)?;
    let attempt = || format!("{} is no plugin that can be used; nothing was kept", pulled.digest);
    let package = Package::read(&staged.path(), usize::try_from(COMPONENT_BYTES_MAX)?).with_context(attempt)?;
    let name = package.manifest.map(|manifest| manifest.about.name.clone()).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // It becomes the name of a folder.
    if name.is_empty() || name.len() > 63 || name.starts_with('-') || !name.bytes().all(is_plain) {
        return Err(anyhow!("its name is not 1 to 63 lower-case letters, digits and `-`")).with_context(attempt);
    }
    if pulled.files.first().is_none_or(|file| *file.bytes != *package.component) {
        return Err(anyhow!("its plugin.toml names another component than its first layer")).with_context(attempt);
    }
    let folder = into.join(&name);
    staged.publish(&folder)?;
    Ok((folder, name))
}
