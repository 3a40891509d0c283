//! A plugin as an OCI artifact, as the Wasm OCI artifact layout of the CNCF has it: a configuration that names the component's
//! interfaces, the component as the first layer, and the other files of the plugin's folder as further layers.
//!
//! The same files make the same bytes: there are no dates in it, and no order but one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{RegistryError, shown};
use crate::limits::{
    COMPONENT_BYTES_MAX, CONFIG_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, MANIFEST_BYTES_MAX, PATH_BYTES_MAX,
};

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const COMPONENT_TYPE: &str = "application/wasm";
pub(crate) const TITLE: &str = "org.opencontainers.image.title";

/// What a plugin's folder holds, and what is said of it.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does, in a line.
    pub description: String,
    /// Its licence, as SPDX names it.
    pub license: Option<String>,
    /// The interfaces that the component imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The files, the component first.
    pub files: Vec<File>,
}

/// A file of a plugin's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is in the folder: parts with `/` between them, none of which is `.` or `..`.
    pub path: String,
    /// What is in it.
    pub bytes: Bytes,
}

/// A manifest, and the content that it names.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The manifest's digest: what stands for all of it.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Bytes,
    /// All that it names, by digest.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// Content, as manifests and indices name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        let (media_type, annotations) = (media_type.to_owned(), BTreeMap::new());
        Self { media_type, digest: Digest::of(bytes), size: bytes.len() as u64, annotations }
    }

    pub(crate) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// An OCI image manifest. What is not named here is passed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The configuration of an artifact, as the layout has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    /// Always the same: two builds of the same plugin are the same artifact.
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<&'a Digest>,
    component: Interfaces<'a>,
}

#[derive(Serialize)]
struct Interfaces<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

impl Artifact {
    /// Packs a plugin.
    pub fn pack(contents: &Contents) -> Result<Self, RegistryError> {
        let what = format!("{} {}", contents.name, contents.version);
        let refused = |why| RegistryError::Artifact { what: what.clone(), why };
        check_paths(contents.files.iter().map(|file| file.path.as_str())).map_err(refused)?;
        let mut layers = Vec::new();
        for (number, file) in contents.files.iter().enumerate() {
            let limit = if number == 0 { COMPONENT_BYTES_MAX } else { FILE_BYTES_MAX };
            let size = file.bytes.len() as u64;
            if size > limit {
                return Err(RegistryError::TooLarge { what: file.path.clone(), size, limit });
            }
            let media_type = if number == 0 { COMPONENT_TYPE } else { media_type(&file.path) };
            layers.push(Descriptor::of(media_type, &file.bytes).annotated(TITLE, &file.path));
        }
        let config = Config {
            created: "1970-01-01T00:00:00Z",
            architecture: "wasm",
            os: "wasip2",
            layer_digests: layers.iter().map(|layer| &layer.digest).collect(),
            component: Interfaces { exports: &contents.exports, imports: &contents.imports },
        };
        let config = json(&config);
        let said = [
            ("title", Some(&contents.name)),
            ("version", Some(&contents.version)),
            ("description", Some(&contents.description)),
            ("licenses", contents.license.as_ref()),
        ];
        let annotations = said
            .into_iter()
            .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?.clone())));
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: None,
            config: Descriptor::of(CONFIG_TYPE, &config),
            layers,
            subject: None,
            annotations: annotations.collect(),
        };
        let mut blobs = vec![(manifest.config.digest.clone(), config)];
        blobs.extend(
            manifest.layers.iter().zip(&contents.files).map(|(it, file)| (it.digest.clone(), file.bytes.clone())),
        );
        let manifest = json(&manifest);
        Ok(Self { digest: Digest::of(&manifest), manifest, blobs })
    }
}

pub(crate) fn json(value: &impl Serialize) -> Bytes {
    #[expect(clippy::expect_used, reason = "structs of texts and numbers")]
    let bytes = serde_json::to_vec(value).expect("JSON");
    bytes.into()
}

fn media_type(path: &str) -> &'static str {
    let is = |extension: &str| Path::new(path).extension().is_some_and(|it| it.eq_ignore_ascii_case(extension));
    match () {
        () if is("toml") => "application/toml",
        () if is("json") => "application/json",
        () if is("md") => "text/markdown",
        () => "application/octet-stream",
    }
}

/// Bytes that are what they are called, and what they say of the rest.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where each file goes, the component first.
    pub(crate) files: Vec<(String, Descriptor)>,
    /// All that the manifest names.
    pub(crate) blobs: Vec<Descriptor>,
}

impl Plan {
    /// Reads a manifest of somebody else's. Nothing is fetched or written before all of it is right.
    pub(crate) fn read(what: &str, manifest: &[u8]) -> Result<Self, RegistryError> {
        let refused = |why: String| RegistryError::Artifact { what: what.to_owned(), why };
        let manifest = parse(what, manifest)?;
        if manifest.config.media_type != CONFIG_TYPE {
            let found = shown(&manifest.config.media_type);
            return Err(refused(format!("its configuration is `{found}`, and a component's is `{CONFIG_TYPE}`")));
        }
        if manifest.config.size > CONFIG_BYTES_MAX {
            let what = format!("the configuration of {what}");
            return Err(RegistryError::TooLarge { what, size: manifest.config.size, limit: CONFIG_BYTES_MAX });
        }
        if manifest.layers.first().is_none_or(|first| first.media_type != COMPONENT_TYPE) {
            return Err(refused(format!("its first layer is not `{COMPONENT_TYPE}`")));
        }
        let titles = manifest.layers.iter().map(|layer| layer.annotations.get(TITLE).map(String::as_str));
        let titles: Option<Vec<&str>> = titles.collect();
        let Some(titles) = titles else {
            return Err(refused(format!("a layer does not say which file it is (`{TITLE}`)")));
        };
        check_paths(titles.iter().copied()).map_err(refused)?;
        for (number, (layer, title)) in manifest.layers.iter().zip(&titles).enumerate() {
            let limit = if number == 0 { COMPONENT_BYTES_MAX } else { FILE_BYTES_MAX };
            if layer.size > limit {
                return Err(RegistryError::TooLarge { what: format!("{title} of {what}"), size: layer.size, limit });
            }
        }
        let files = titles.iter().map(ToString::to_string).zip(manifest.layers.iter().cloned()).collect();
        Ok(Self { files, blobs: std::iter::once(manifest.config.clone()).chain(manifest.layers).collect() })
    }
}

/// A manifest, whatever it is of.
pub(crate) fn parse(what: &str, manifest: &[u8]) -> Result<Manifest, RegistryError> {
    let refused = |why: String| RegistryError::Artifact { what: what.to_owned(), why };
    if manifest.len() > MANIFEST_BYTES_MAX {
        let (size, limit) = (manifest.len() as u64, MANIFEST_BYTES_MAX as u64);
        return Err(RegistryError::TooLarge { what: format!("the manifest of {what}"), size, limit });
    }
    let parsed: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| refused(format!("its manifest is none ({})", shown(&error.to_string()))))?;
    if parsed.schema_version != 2 || !matches!(parsed.media_type.as_str(), "" | MANIFEST_TYPE) {
        let found = shown(&parsed.media_type);
        return Err(refused(format!(
            "its manifest is `{found}`, version {}, and not an image's",
            parsed.schema_version
        )));
    }
    Ok(parsed)
}

/// The one manifest of a plugin's own is `plugin.toml`; a path leads below the folder and nowhere else, on any system.
fn check_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for path in paths {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/' | b'+');
        let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
            && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if path.is_empty() || path.len() > PATH_BYTES_MAX || !path.bytes().all(is_plain) || !is_below {
            let path = shown(path);
            return Err(format!(
                "`{path}` is no path of a file in a plugin's folder (letters, digits, `.`, `-`, `_`, `+`, `/`)"
            ));
        }
        let folded = path.to_ascii_lowercase();
        let is_inside = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        if seen.iter().any(|it: &String| *it == folded || is_inside(it, &folded) || is_inside(&folded, it)) {
            return Err(format!("`{path}` is there twice"));
        }
        seen.insert(folded);
        if seen.len() > FILES_MAX {
            return Err(format!("it has more than {FILES_MAX} files"));
        }
    }
    if seen.contains("plugin.toml") { Ok(()) } else { Err("there is no `plugin.toml` in it".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &'static [u8]) -> File {
        File { path: path.to_owned(), bytes: Bytes::from_static(bytes) }
    }

    fn contents() -> Contents {
        Contents {
            name: "mask".to_owned(),
            version: "1.4.0".to_owned(),
            description: "Masks.".to_owned(),
            license: None,
            imports: vec!["outrigger:plugin/log@0.1.0".to_owned()],
            exports: vec!["outrigger:plugin/lifecycle@0.1.0".to_owned()],
            files: vec![file("mask.wasm", b"\0asm"), file("plugin.toml", b"[plugin]"), file("README.md", b"# mask")],
        }
    }

    /// What a hostile registry could write.
    fn check(change: impl Fn(&mut serde_json::Value), why: &str) {
        let artifact = Artifact::pack(&contents()).expect("it packs");
        let mut manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest).expect("JSON");
        change(&mut manifest);
        let error = Plan::read("x/mask:1", manifest.to_string().as_bytes()).expect_err("refused").to_string();
        assert!(error.contains(why), "{error} does not say {why}");
    }

    #[test]
    fn the_same_files_make_the_same_bytes_and_come_out_as_they_were() {
        let artifact = Artifact::pack(&contents()).expect("it packs");
        assert_eq!(artifact.digest, Artifact::pack(&contents()).expect("it packs").digest);
        // If this changes, everybody's digests do.
        let manifest = String::from_utf8(artifact.manifest.to_vec()).expect("JSON");
        assert!(manifest.starts_with(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.wasm.config.v0+json","#), "{manifest}");
        let config = String::from_utf8(artifact.blobs[0].1.to_vec()).expect("JSON");
        assert!(config.contains(r#""os":"wasip2","layerDigests":["sha256:"#), "{config}");
        let plan = Plan::read("mask", &artifact.manifest).expect("a plugin");
        assert_eq!(
            plan.blobs.iter().map(|it| &it.digest).collect::<Vec<_>>(),
            artifact.blobs.iter().map(|it| &it.0).collect::<Vec<_>>()
        );
        assert_eq!(
            plan.files.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(),
            ["mask.wasm", "plugin.toml", "README.md"]
        );
    }

    #[test]
    fn a_manifest_that_lies_or_leads_out_of_the_folder_is_refused() {
        check(|it| it["schemaVersion"] = 1.into(), "version 1");
        check(|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into(), "and not an image's");
        check(
            |it| it["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into(),
            "a component's is",
        );
        check(|it| it["layers"] = serde_json::json!([]), "first layer");
        check(|it| it["layers"][0]["mediaType"] = "application/gzip".into(), "first layer");
        check(|it| it["layers"][0]["size"] = (65_u64 << 20).into(), "67108864 is the most");
        check(|it| it["layers"][1]["size"] = u64::MAX.into(), "262144 is the most");
        check(|it| it["config"]["size"] = u64::MAX.into(), "262144 is the most");
        check(|it| it["layers"][0]["digest"] = "sha256:../../etc/passwd".into(), "64 lower-case");
        check(|it| it["layers"][0]["annotations"] = serde_json::json!({}), "which file it is");
        for path in [
            "../x",
            "/etc/x",
            "a/../b",
            "a//b",
            ".ssh/x",
            "a\\..\\b",
            "c:x",
            "",
            "x\u{1b}[2J",
            "plugin.toml/x",
            "PLUGIN.toml",
        ] {
            check(
                |it| it["layers"][0]["annotations"][TITLE] = path.into(),
                if path.to_lowercase().starts_with("plugin") { "twice" } else { "no path" },
            );
        }
        check(|it| it["layers"][1]["annotations"][TITLE] = "other.toml".into(), "no `plugin.toml`");
        let many: Vec<_> = (0..9).map(|number| serde_json::json!({"mediaType": "application/wasm", "size": 1, "digest": Digest::of(b"").to_string(), "annotations": {TITLE: format!("f{number}")}})).collect();
        check(|it| it["layers"] = many.clone().into(), "more than 8 files");
        // What is wrong may be long, and somebody's who is not believed.
        let long = format!("\u{1b}{}", "x".repeat(40_000));
        check(|it| it["schemaVersion"] = long.as_str().into(), "its manifest is none");
        let manifest = serde_json::json!({ "schemaVersion": long });
        let error = Plan::read("x", manifest.to_string().as_bytes()).expect_err("a text").to_string();
        assert!(error.len() < 1_000 && !error.contains('\u{1b}'), "{} bytes", error.len());
        let error = Plan::read("x", &vec![b' '; MANIFEST_BYTES_MAX + 1]).expect_err("too large").to_string();
        assert!(error.contains("65537 bytes or more"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_manifest_breaks_the_reader(bytes: Vec<u8>) {
            let _ = Plan::read("x", &bytes);
        }
    }
}
