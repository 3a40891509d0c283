//! `outrigger plugin pull`: the only command that fetches plugins. A host that serves reads folders and asks no registry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use plugin::Package;
use registry::limits::COMPONENT_BYTES_MAX;
use registry::{Digest, Layout, PublicKey, Pulled, Receipt, Reference, Said, Staged, Trust};

use super::registry_login::{RegistryArguments, block_on};
use super::{ConfigArguments, pack};
use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
Where keys are trusted, by `trusted_keys` or --key, one of them must have signed the plugin. Without keys the reference must
name a digest. A key says whose a plugin is; only a digest says which version it is. A version that is older than the tag says is
refused. A folder that is there is replaced if it was pulled from the same repository, a key that signed it signed this one too,
nobody changed it since, and it is no newer version than this one; unless the version that is meant was named, or --replace. Standard output is the plugin's folder, which is there as a whole or not at all.")]
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

    /// Replace a plugin's folder of the same name, whoever made it
    #[arg(long)]
    replace: bool,

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
    let (pulled, reference) = if Layout::is_at(local) {
        (Layout::read(local).and_then(|layout| layout.pull(local, &trust)), None)
    } else {
        let reference: Reference = arguments.from.parse().map_err(|error| Failure::usage(anyhow::Error::new(error)))?;
        let registries = arguments.registry.registries(said.ca_files)?;
        (block_on(registries.pull(&reference, &trust))?, Some(reference))
    };
    let pulled = pulled.map_err(anyhow::Error::from)?;
    let Published { folder, name, version } = publish(&pulled, reference.as_ref(), arguments)?;
    let signed = match pulled.signers.as_slice() {
        [] => "not signed by a trusted key".to_owned(),
        keys => format!("signed by {}", keys.iter().map(PublicKey::to_string).collect::<Vec<_>>().join(" and ")),
    };
    console::say(format_args!("{} is {name} {version}, {}, {signed}; use it as", arguments.from, pulled.digest));
    let component = pulled.files.first().map(|file| Digest::of(&file.bytes));
    let sha256 = component.as_ref().map_or("", Digest::hexadecimal);
    let from = folder.display();
    console::say(format_args!("\n[[plugin]]\nname = \"{name}\"\nfrom = \"{from}\"\nsha256 = \"{sha256}\"\n"));
    console::print(std::iter::once(folder.display().to_string()))
}

struct Published {
    folder: PathBuf,
    name: String,
    version: String,
}

/// Puts the plugin where it belongs, once the host's own reader has read it. `reference`: where it came from; `None`: from a folder.
fn publish(pulled: &Pulled, reference: Option<&Reference>, arguments: &Pull) -> anyhow::Result<Published> {
    let staged = Staged::new(&arguments.into)?;
    staged.write(&pulled.files)?;
    let attempt = || format!("{} is no plugin that can be used; nothing was kept", pulled.digest);
    let package = Package::read(&staged.path(), usize::try_from(COMPONENT_BYTES_MAX)?).with_context(attempt)?;
    let about = &pack::check(&package).with_context(attempt)?.about;
    let (name, version) = (about.name.clone(), about.version.clone());
    reference.map_or(Ok(()), |reference| reference.check_version(&version, &pulled.digest))?;
    if pulled.files.first().is_none_or(|file| *file.bytes != *package.component) {
        return Err(anyhow!("its plugin.toml names another component than its first layer")).with_context(attempt);
    }
    // Wherever a folder lay, and whatever its name: versions have different ones.
    let from = reference.map_or_else(|| "a folder that was packed".to_owned(), Reference::place);
    let receipt = Receipt::new(from, pulled, &version);
    receipt.write(&staged.path())?;
    let folder = arguments.into.join(&name);
    // The name is the author's choice, and somebody else's work may have it.
    let said = match reference {
        _ if arguments.replace => Said::Replace,
        Some(reference) if !reference.names(&version) => Said::Nothing,
        _ => Said::Version,
    };
    receipt.check(&folder, said)?;
    staged.publish(&folder)?;
    Ok(Published { folder, name, version })
}
