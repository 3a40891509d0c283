use std::fs;

use super::*;

const MANIFEST: &str = "[plugin]\nname = \"mask\"\nversion = \"1.0.0\"\ndescription = \"Masks.\"\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn paths(package: &Package) -> Vec<PathBuf> {
    package.files.iter().map(|file| file.path.clone()).collect()
}

fn name(package: &Package) -> Option<&str> {
    package.manifest.as_ref().map(|manifest| manifest.about.name.as_str())
}

#[test]
fn a_component_has_its_manifest_beside_it() {
    let folder = folder(&[("mask.wasm", "wasm"), ("mask.plugin.toml", MANIFEST), ("bare.wasm", "bare")]);
    let path = folder.path().join("mask.wasm");
    let package = Package::read(&path, 100).expect("it can be read");
    assert_eq!((&*package.component, name(&package)), (b"wasm".as_slice(), Some("mask")));
    assert_eq!(paths(&package), [path, folder.path().join("mask.plugin.toml")]);

    let bare = Package::read(&folder.path().join("bare.wasm"), 100).expect("it can be read");
    assert_eq!(name(&bare), None);
    assert_eq!(bare.files.len(), 2, "a manifest that appears is a change");
}

#[test]
fn a_folder_names_its_component() {
    let manifest = format!("{MANIFEST}component = \"target/mask.wasm\"\n[config]\nschema = \"schema.json\"\n");
    let folder = folder(&[("plugin.toml", &manifest), ("target/mask.wasm", "wasm"), ("schema.json", "{}")]);
    let package = Package::read(folder.path(), 100).expect("it can be read");
    assert_eq!((&*package.component, name(&package)), (b"wasm".as_slice(), Some("mask")));
    let names = ["target/mask.wasm", "plugin.toml", "schema.json"].map(|name| folder.path().join(name));
    assert_eq!(paths(&package), names);
}

/// Whoever waits for a plugin that cannot be used to be mended looks at these.
#[test]
fn what_cannot_be_read_is_watched_all_the_same() {
    let check = |files: &[(&str, &str)], path: &str, expected: &[&str]| {
        let folder = folder(files);
        let mut watched = Vec::new();
        Package::read_watched(&folder.path().join(path), 100, &mut watched).expect_err("it cannot be used");
        let seen = watched.iter().map(|file| file.path.strip_prefix(folder.path()).expect("in it").to_owned());
        assert_eq!(seen.collect::<Vec<_>>(), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
    };
    let schema = format!("{MANIFEST}component = \"mask.wasm\"\n[config]\nschema = \"schema.json\"\n");
    check(&[("new/plugin.toml", &schema), ("new/schema.json", "{")], "new", &["new/plugin.toml", "new/schema.json"]);
    check(&[("new/plugin.toml", &schema)], "new", &["new/plugin.toml", "new/schema.json"]);
    let component = format!("{MANIFEST}component = \"mask.wasm\"\n");
    check(&[("new/plugin.toml", &component)], "new", &["new/plugin.toml", "new/mask.wasm"]);
    check(&[("mask.plugin.toml", "?"), ("mask.wasm", "")], "mask.wasm", &["mask.wasm", "mask.plugin.toml"]);
    check(&[], "new", &["new", "new.plugin.toml"]);
}

#[test]
fn a_file_that_changed_is_told_apart() {
    let folder = folder(&[("mask.wasm", "wasm")]);
    let package = Package::read(&folder.path().join("mask.wasm"), 100).expect("it can be read");
    let changed = || package.files.iter().map(FileStamp::is_outdated).collect::<Vec<_>>();
    assert_eq!(changed(), [false, false]);
    fs::write(folder.path().join("mask.plugin.toml"), MANIFEST).expect("a file");
    assert_eq!(changed(), [false, true], "it is there now");
    fs::write(folder.path().join("new.wasm"), "wasm").expect("a file");
    fs::rename(folder.path().join("new.wasm"), folder.path().join("mask.wasm")).expect("replaced");
    assert_eq!(changed(), [true, true], "another file with the same text");
    fs::remove_file(folder.path().join("mask.wasm")).expect("removed");
    assert_eq!(changed(), [true, true]);
}

fn check_refused(folder: &Path, expected: &str) {
    let error = Package::read(folder, 100).expect_err("it cannot be used");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    assert_eq!(text.replace(&folder.display().to_string(), "DIR"), expected);
}

#[test]
fn a_folder_that_is_no_plugin() {
    let hint = "name the component's file, or write one with `component = \"FILE.wasm\"`";
    check_refused(folder(&[]).path(), &format!("DIR is a folder without a `plugin.toml`; {hint}"));
    check_refused(
        folder(&[("plugin.toml", MANIFEST)]).path(),
        "DIR/plugin.toml does not name the component; write `component = \"FILE.wasm\"` under [plugin]",
    );
    for outside in ["/etc/passwd", "../mask.wasm", "a/../../b"] {
        let manifest = format!("{MANIFEST}component = \"{outside}\"\n");
        let expected = format!(
            "the manifest DIR/plugin.toml cannot be used: `plugin.component` names `{outside}`; only a file in the manifest's \
             folder or below can be named"
        );
        check_refused(folder(&[("plugin.toml", &manifest)]).path(), &expected);
    }
    let manifest = format!("{MANIFEST}[config]\nschema = \"../secret.json\"\n");
    check_refused(
        folder(&[("plugin.toml", &manifest)]).path(),
        "the manifest DIR/plugin.toml cannot be used: `config.schema` names `../secret.json`; only a file in the manifest's \
         folder or below can be named",
    );
}

/// None of these may be waited for or read to its end.
#[test]
fn only_a_bounded_part_of_a_regular_file_is_read() {
    let folder = folder(&[("large.wasm", &"x".repeat(1_000))]);
    let large = Package::read(&folder.path().join("large.wasm"), 100).expect("it can be read");
    assert_eq!(large.component.len(), 101);

    let refuse = |path: &Path| match Package::read(path, 100).expect_err("no regular file") {
        PackageError::Read { source, .. } => source.to_string(),
        other => panic!("{other}"),
    };
    assert_eq!(refuse(Path::new("/dev/zero")), "it is not a regular file");
    let pipe = folder.path().join("pipe.wasm");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    assert_eq!(refuse(&pipe), "it is not a regular file");
    assert!(refuse(&folder.path().join("none.wasm")).contains("No such file"));
}
