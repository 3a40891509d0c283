use super::*;
use crate::allocation::peak_bytes;
use crate::gguf::TensorType;
use crate::gguf::written::Written;

/// Three shards as `gguf-split` writes them: the metadata in the first, what tells them apart in each.
fn shards() -> [Written; 3] {
    [0, 1, 2].map(|number| {
        let shard = if number == 0 { Written::of("llama").number("llama.block_count", 3) } else { Written::default() };
        shard.number("split.no", number).number("split.count", 3).number("split.tensors.count", 3).tensor(
            &format!("blk.{number}.ffn_up.weight"),
            0,
            &[8, 8],
        )
    })
}

fn save(shards: &[Written]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<_> = (1..=3).map(|number| folder.path().join(shard::name("m-Q4_K_M", number, 3))).collect();
    shards.iter().zip(&paths).for_each(|(shard, path)| shard.save(path));
    (folder, paths)
}

fn check_refused(shards: &[Written], expected: &str) {
    let (folder, paths) = save(shards);
    let error = Model::open(&paths[0]).expect_err("no whole model");
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    let shown = format!("{error}{source}").replace(&folder.path().display().to_string(), "");
    assert_eq!(shown, expected);
}

// X2
#[test]
fn any_shard_leads_to_the_whole_model() {
    let (_folder, paths) = save(&shards());
    for path in &paths {
        let model = Model::open(path).expect("a model");
        assert_eq!(model.shards, paths);
        assert_eq!(model.header.architecture(), Some("llama"));
        assert_eq!((model.header.tensor_count, model.header.tensor_bytes), (3, 3 * 256));
        assert_eq!(model.header.tensors[2].name, "blk.2.ffn_up.weight");
        assert_eq!(model.header.tensors[2].kind, TensorType::F32);
        let sizes: u64 = paths.iter().map(|path| path.metadata().expect("a shard").len()).sum();
        assert_eq!(model.header.file_bytes, sizes);
    }
}

#[test]
fn a_file_alone_is_a_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m-00001-of-00002.gguf");
    Written::of("llama").save(&path);
    assert_eq!(Model::open(&path).expect("a model").shards, [path]);
}

#[test]
fn what_is_missing_or_does_not_belong_is_named() {
    check_refused(
        &shards()[..2],
        "the model is split, and its shard /m-Q4_K_M-00003-of-00003.gguf cannot be used: cannot read \
         /m-Q4_K_M-00003-of-00003.gguf",
    );
    let [first, second, third] = shards();
    check_refused(
        &[first.clone(), third.clone(), second.clone()],
        "the model is split, and its shard /m-Q4_K_M-00002-of-00003.gguf cannot be used: its header says that it is \
         shard 3 of 3, and its name that it is 2 of 3; the file is damaged or hostile",
    );
    check_refused(
        &[first.clone(), second.clone(), third.clone().tensor("rope_freqs.weight", 0, &[4])],
        "the shards hold 4 tensors together, and 3 are announced; the file is damaged or hostile",
    );
    check_refused(
        &[first.clone(), second.clone(), third.text("general.architecture", "gemma3")],
        "a shard is of architecture `gemma3`, and the first of `llama`; the file is damaged or hostile",
    );
    let twin =
        Written::default().number("split.no", 2).number("split.count", 3).tensor("blk.1.ffn_up.weight", 0, &[8, 8]);
    check_refused(
        &[first, second, twin],
        "tensor `blk.1.ffn_up.weight` stands in two shards; the file is damaged or hostile",
    );
}

#[test]
fn a_shard_under_another_name_says_what_it_was_called() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["m.gguf", "m-00001-of-00002.gguf"] {
        let path = folder.path().join(name);
        shards()[0].save(&path);
        assert_eq!(
            Model::open(&path).expect_err("no shard").to_string(),
            "the file is one of 3 shards of a model, and its name is not NAME-00001-of-00003.gguf or the like; name it as \
             it was published, with the others beside it"
        );
    }
}

#[test]
fn an_absurd_number_of_shards_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m-00001-of-99999.gguf");
    Written::default().number("split.count", 99_999).save(&path);
    assert_eq!(
        Model::open(&path).expect_err("too many").to_string(),
        "the number of shards is 99999, and 4096 is the most that is accepted; the file is damaged or hostile"
    );
}

/// What each shard may say, all of them together may not.
#[test]
fn the_metadata_of_many_shards_is_not_kept() {
    const SHARDS: u32 = 24;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |number| folder.path().join(shard::name("m", number, SHARDS));
    let long = "x".repeat(1 << 20);
    for number in 1..=SHARDS {
        let shard = Written::of("llama").number("split.no", number - 1).number("split.count", SHARDS);
        shard.text("a.long.one", &long).save(&path(number));
    }
    let peak = peak_bytes(|| drop(Model::open(&path(1)).expect("a model")));
    assert!(peak < 4 << 20, "{peak} bytes were held for {SHARDS} shards of 1 MiB");
}

#[test]
fn the_tensors_of_all_shards_are_counted_together() {
    let header = || Header { tensor_count: 40_000, ..shards()[0].header() };
    let mut whole = header();
    assert_eq!(
        join(&mut whole, header()).expect_err("too many").to_string(),
        "the number of tensors of all shards is 80000, and 65536 is the most that is accepted; the file is damaged or \
         hostile"
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.gguf");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    assert!(matches!(Model::open(&path), Err(GgufError::Io { .. })));
}
