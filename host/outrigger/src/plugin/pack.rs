//! `outrigger plugin pack`: a plugin's folder as an OCI image layout.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use plugin::{Interfaces, Manifest, Package, is_plugin_name};
use registry::limits::{COMPONENT_BYTES_MAX, FILE_BYTES_MAX};
use registry::{Artifact, Contents, Digest, File, Layout, Signatures, is_version};

use crate::{Failure, console};

#[derive(Debug, Args)]
#[command(after_help = "\
What is packed: plugin.toml, the component and the schema that it names, and README.md. Standard output is the folder that was
written, an OCI image layout that `outrigger plugin sign` and `push` take, and that oras, skopeo and regctl read.")]
pub(super) struct Pack {
    /// The plugin's folder, in which `plugin.toml` names the component
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// Folder to write [default: NAME-VERSION.oci]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn pack(arguments: &Pack) -> Result<(), Failure> {
    let contents = read(&arguments.folder)?;
    let (name, version) = (&contents.name, &contents.version);
    let artifact = Artifact::pack(&contents).map_err(anyhow::Error::from)?;
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-{version}.oci")));
    let digest = artifact.digest.clone();
    let layout = Layout { artifact, signatures: Signatures::default(), version: version.clone() };
    layout.write(&output).map_err(anyhow::Error::from)?;
    console::say(format_args!("{name} {version} is {digest}"));
    console::print(std::iter::once(output.display().to_string()))
}

/// A plugin's files, read as the host would read them.
fn read(folder: &Path) -> anyhow::Result<Contents> {
    let attempt = || format!("cannot pack {}", folder.display());
    if !folder.is_dir() {
        return Err(anyhow!("it is no folder; a plugin is packed with its plugin.toml")).with_context(attempt);
    }
    let component_bytes_max = usize::try_from(COMPONENT_BYTES_MAX).unwrap_or(usize::MAX);
    let package = Package::read(folder, component_bytes_max).with_context(attempt)?;
    let manifest = check(&package).with_context(attempt)?;
    let interfaces = Interfaces::read(&package.component)
        .map_err(|why| anyhow!("{} {why}", package.source))
        .with_context(attempt)?;
    let mut files =
        vec![File { path: below(folder, Path::new(&package.source))?, bytes: package.component.to_vec().into() }];
    // The component is the first of them.
    let others = package.files.iter().skip(1).map(|file| file.path.clone());
    for path in others.chain(Some(folder.join("README.md")).filter(|path| path.is_file())) {
        let bytes = read_file(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push(File { path: below(folder, &path)?, bytes: bytes.into() });
    }
    let about = &manifest.about;
    Ok(Contents {
        name: about.name.clone(),
        version: about.version.clone(),
        description: about.description.clone(),
        license: about.license.clone(),
        imports: interfaces.imports,
        exports: interfaces.exports,
        files,
    })
}

/// What a plugin has to be for others to pull it, asked of what is packed and of what was pulled alike.
pub(super) fn check(package: &Package) -> anyhow::Result<&Manifest> {
    let manifest = package.manifest.as_deref().context("it has no plugin.toml")?;
    let about = &manifest.about;
    // They become the names of a folder and of a metric's label, and of the folder that is packed.
    if !is_plugin_name(&about.name) {
        return Err(anyhow!(
            "its name (`plugin.name`) is not 1 to 63 lower-case letters, digits and `-`, with a letter first"
        ));
    }
    if !is_version(&about.version) {
        return Err(anyhow!(
            "its version (`plugin.version`) is not 1 to 128 letters, digits, `.`, `_`, `+` and `-`, with a letter or digit first"
        ));
    }
    let actual = Digest::of(&package.component);
    match &about.sha256 {
        Some(meant) if !meant.eq_ignore_ascii_case(actual.hexadecimal()) => Err(anyhow!(
            "its plugin.toml belongs to another component: `plugin.sha256` is {meant}, and the component's is {}; correct it, or leave \
             it out",
            actual.hexadecimal()
        )),
        _ => Ok(manifest),
    }
}

fn below(folder: &Path, path: &Path) -> anyhow::Result<String> {
    let below = path.strip_prefix(folder).ok().and_then(Path::to_str);
    below.map(ToOwned::to_owned).with_context(|| format!("{} is not in {}", path.display(), folder.display()))
}

/// One byte more than may be, so that what is too long is seen to be.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
