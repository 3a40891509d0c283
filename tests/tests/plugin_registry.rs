//! Plugins packed, signed, pushed and pulled: by the binary, and with a real registry.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;
use tests::host::{Host, PATIENCE, command};
use tests::markov::Markov;

/// Exit code, standard output and standard error of `outrigger plugin …` in a folder.
fn plugin(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = command();
    command.arg("plugin").args(arguments).current_dir(folder).env("XDG_CACHE_HOME", folder);
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim_end().to_owned();
    (output.status.code().expect("it ended"), text(output.stdout), text(output.stderr))
}

/// What such a command prints when all is well.
fn printed(folder: &Path, arguments: &[&str]) -> String {
    let (code, printed, errors) = plugin(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    printed
}

/// A folder with `mask/`, a plugin that counts, and `key.pem` with the key that signs it.
fn authored() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mask = folder.path().join("mask");
    fs::create_dir_all(mask.join("build")).expect("a folder");
    fs::write(mask.join("build/mask.wasm"), bundled::STOP_WORDS).expect("a component");
    let manifest = "[plugin]\nname = \"mask\"\nversion = \"1.4.0\"\ndescription = \"Ends answers.\"\ncomponent = \"build/mask.wasm\"\n";
    fs::write(mask.join("plugin.toml"), manifest).expect("a manifest");
    fs::write(mask.join("README.md"), "# mask\n").expect("a README");
    let key = printed(folder.path(), &["keygen", "key.pem"]);
    (folder, key)
}

/// Debian's `docker-registry`, on a port of its own. Dropping it ends the process.
struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let host = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '{host}'}}\n",
            folder.join("registry").display()
        );
        let path = folder.join("registry.yml");
        fs::write(&path, config).expect("a configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry, which tests/run.sh --full installs");
        let (registry, begun) = (Self { child, host }, Instant::now());
        while TcpStream::connect(&registry.host).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the registry does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn what_was_pushed_to_a_real_registry_is_pulled_and_served() {
    let (folder, key) = authored();
    let path = folder.path();
    let registry = Registry::start(path);
    let reference = format!("{}/acme/mask:1.4.0", registry.host);
    assert_eq!(printed(path, &["pack", "mask"]), "mask-1.4.0.oci");
    printed(path, &["push", "mask-1.4.0.oci", &reference]);
    let (code, _, errors) = plugin(path, &["pull", &reference, "--key", &key]);
    assert!(code == 1 && errors.contains("is not signed") && !path.join("plugins/mask").exists(), "{errors}");

    printed(path, &["sign", "mask-1.4.0.oci", "--key", "key.pem"]);
    let pinned = printed(path, &["push", "mask-1.4.0.oci", &reference]);
    assert_eq!(printed(path, &["pull", &reference, "--key", &key]), "plugins/mask");
    // Again, in place of what is there; and by digest, as the push said.
    assert_eq!(printed(path, &["pull", &pinned, "--key", &key]), "plugins/mask");
    assert_eq!(printed(path, &["pull", &pinned, "--into", "others"]), "others/mask");
    for file in ["plugin.toml", "README.md", "build/mask.wasm"] {
        let read = |folder: &str| fs::read(path.join(folder).join(file)).expect("a file");
        assert!(read("mask") == read("plugins/mask") && read("mask") == read("others/mask"), "{file}");
    }
    let here = fs::read_dir(path.join("plugins")).expect("a folder").count();
    assert_eq!(here, 1, "nothing but the plugin is left");

    let (code, _, errors) = plugin(path, &["pull", &reference]);
    assert!(code == 1 && errors.contains("nothing says that") && errors.contains(&pinned), "{errors}");
    let other = printed(path, &["keygen", "other.pem"]);
    let (code, _, errors) = plugin(path, &["pull", &pinned, "--key", &other]);
    assert!(code == 1 && errors.contains("no valid signature of a trusted key"), "{errors}");
    let (code, _, errors) = plugin(path, &["pull", &format!("{}/acme/none:1", registry.host), "--allow-unsigned"]);
    assert!(
        code == 1 && errors.contains("answered the request for the manifest") && errors.contains("404"),
        "{errors}"
    );

    // The host is told of the folder and knows nothing of the registry.
    drop(registry);
    let model = path.join("tiny.gguf");
    Markov::default().context_length(2048).chain(&["one ", "two ", "three"]).write(&model).expect("a model");
    let config = path.join("outrigger.toml");
    let text = format!(
        "trusted_keys = [\"{key}\"]\n[[plugin]]\nname = \"mask\"\nfrom = '{}'\nconfig = {{ phrases = [\"two\"] }}\n",
        path.join("plugins/mask").display()
    );
    fs::write(&config, text).expect("a configuration");
    let host = Host::serve(&model, &["--config", &config.display().to_string()]);
    let reply = host.chat(&json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "temperature": 0}));
    assert!(reply.status == 200 && !reply.content().contains("three"), "{}", reply.text);
}

#[test]
fn a_packed_plugin_is_pulled_from_its_folder_on_the_word_of_its_key() {
    let (folder, key) = authored();
    let path = folder.path();
    printed(path, &["pack", "mask", "--output", "one.oci"]);
    printed(path, &["pack", "mask", "--output", "two.oci"]);
    let index = |name: &str| fs::read(path.join(name).join("index.json")).expect("an index");
    assert!(index("one.oci") == index("two.oci"), "the same files make the same bytes");

    let config = path.join("outrigger.toml");
    fs::write(&config, format!("trusted_keys = [\"{key}\"]\n")).expect("a configuration");
    let pull = ["pull", "one.oci", "--config", "outrigger.toml"];
    let (code, _, errors) = plugin(path, &pull);
    assert!(code == 1 && errors.contains("is not signed, and only what a trusted key signed"), "{errors}");
    printed(path, &["sign", "one.oci", "--key", "key.pem"]);
    let (code, pulled, told) = plugin(path, &pull);
    assert_eq!((code, pulled.as_str()), (0, "plugins/mask"), "{told}");
    // What it says is what is to be written.
    let (_, toml) = told.split_once("use it as\n").expect("lines to write");
    fs::write(&config, toml).expect("a configuration");
    assert!(printed(path, &["check", "mask", "--config", "outrigger.toml"]).contains("It loads."));

    // A bit of the component.
    let blobs = fs::read_dir(path.join("one.oci/blobs/sha256")).expect("blobs");
    let largest = blobs.map(|it| it.expect("a file").path()).max_by_key(|it| fs::metadata(it).expect("a file").len());
    let largest = largest.expect("a component");
    let mut bytes = fs::read(&largest).expect("a component");
    bytes[100] ^= 1;
    fs::write(&largest, bytes).expect("written");
    let (code, _, errors) = plugin(path, &["pull", "one.oci", "--key", &key]);
    assert!(code == 1 && errors.contains("is not what it should be"), "{errors}");

    for (arguments, code_expected, said) in [
        (&["pull", "mask", "--key", &key][..], 2, "is no reference of a plugin"),
        (&["pull", "two.oci", "--key", "ed25519:AAAA"], 2, "a key has 32 bytes"),
        (&["pack", "mask/build"], 1, "is a folder without a `plugin.toml`"),
        (&["pack", "mask", "--output", "mask"], 1, "it is not an OCI image layout of this plugin"),
        (&["keygen", "key.pem"], 1, "File exists"),
        (&["sign", "two.oci", "--key", "mask/README.md"], 1, "outrigger plugin keygen"),
        // The author's own folder has the name of what is pulled.
        (&["pull", "two.oci", "--into", "."], 1, "`plugin pull` did not make it; nothing was changed; say --replace"),
    ] {
        let (code, _, errors) = plugin(path, arguments);
        assert!(code == code_expected && errors.contains(said), "{arguments:?} {code}: {errors}");
    }
    assert!(path.join("mask/plugin.toml").exists(), "nothing that is no layout is replaced");
}

#[test]
fn a_pulled_plugin_takes_the_place_of_its_own_and_of_nothing_else() {
    let (folder, key) = authored();
    let path = folder.path();
    let other = printed(path, &["keygen", "other.pem"]);
    for (output, signer) in [("mine.oci", "key.pem"), ("theirs.oci", "other.pem")] {
        printed(path, &["pack", "mask", "--output", output]);
        printed(path, &["sign", output, "--key", signer]);
    }
    let pull =
        |from: &str, more: &[&str]| plugin(path, &[&["pull", from, "--key", &key, "--key", &other][..], more].concat());
    for _ in 0..2 {
        assert_eq!(pull("mine.oci", &[]).0, 0, "once, and once more in its own place");
    }
    // Whoever signs, and is trusted too, may not take over what the other's plugin is granted.
    let (code, _, errors) = pull("theirs.oci", &[]);
    assert!(code == 1 && errors.contains(&format!("none of its signers signed this one ({key})")), "{errors}");
    assert_eq!(pull("theirs.oci", &["--replace"]).0, 0, "the user said so");
    // What somebody changed is theirs.
    let readme = path.join("plugins/mask/README.md");
    fs::write(&readme, "# mine\n").expect("written");
    let (code, _, errors) = pull("theirs.oci", &[]);
    assert!(code == 1 && errors.contains("its README.md was changed since it was pulled"), "{errors}");
    assert_eq!(fs::read_to_string(&readme).expect("there"), "# mine\n");
    assert_eq!(pull("theirs.oci", &["--replace"]).0, 0, "the user said so");

    // A folder that has nothing to do with plugins, and the name that an author chose.
    fs::create_dir(path.join("src")).expect("a folder");
    fs::write(path.join("src/main.rs"), "").expect("a file");
    let manifest = fs::read_to_string(path.join("mask/plugin.toml")).expect("a manifest");
    let packed = |name: &str, manifest: String| {
        fs::write(path.join("mask/plugin.toml"), manifest).expect("written");
        plugin(path, &["pack", "mask", "--output", name])
    };
    assert_eq!(packed("src.oci", manifest.replace("\"mask\"", "\"src\"")).0, 0);
    for told in [&["--into", "."][..], &["--into", ".", "--replace"]] {
        let (code, _, errors) = plugin(path, &[&["pull", "src.oci"][..], told].concat());
        assert!(code == 1 && errors.contains("nothing was changed") && path.join("src/main.rs").exists(), "{errors}");
    }
    let (code, _, errors) = packed("mine.oci", manifest.replace("\"mask\"", "\"src\""));
    assert!(code == 1 && errors.contains("remove it"), "another plugin's layout stays: {errors}");
    // What could not be pulled is not packed.
    for (change, said) in [
        (manifest.replace("\"mask\"", "\"../../mask\""), "its name (`plugin.name`)"),
        (manifest.replace("1.4.0", "../1.4.0"), "its version (`plugin.version`)"),
        (manifest.replace("component =", "sha256 = \"00\"\ncomponent ="), "belongs to another component"),
    ] {
        let (code, _, errors) = packed("wrong.oci", change);
        assert!(code == 1 && errors.contains(said) && !path.join("wrong.oci").exists(), "{errors}");
    }
}
