use proptest::prelude::*;

use super::*;

/// The GGUF part of listings as their owners name files, and what stands beside them.
const BARTOWSKI: &[&str] = &[
    ".gitattributes",
    "Llama-3.2-1B-Instruct-IQ3_M.gguf",
    "Llama-3.2-1B-Instruct-IQ4_XS.gguf",
    "Llama-3.2-1B-Instruct-Q3_K_XL.gguf",
    "Llama-3.2-1B-Instruct-Q4_0.gguf",
    "Llama-3.2-1B-Instruct-Q4_0_4_4.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_L.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
    "Llama-3.2-1B-Instruct-Q4_K_S.gguf",
    "Llama-3.2-1B-Instruct-Q6_K.gguf",
    "Llama-3.2-1B-Instruct-Q6_K_L.gguf",
    "Llama-3.2-1B-Instruct-Q8_0.gguf",
    "Llama-3.2-1B-Instruct-f16.gguf",
    "Llama-3.2-1B-Instruct.imatrix",
    "README.md",
];
const BARTOWSKI_70B: &[&str] = &[
    "Llama-3.3-70B-Instruct-Q4_K_M.gguf",
    "Llama-3.3-70B-Instruct-Q6_K/Llama-3.3-70B-Instruct-Q6_K-00001-of-00002.gguf",
    "Llama-3.3-70B-Instruct-Q6_K/Llama-3.3-70B-Instruct-Q6_K-00002-of-00002.gguf",
    "Llama-3.3-70B-Instruct-Q6_K_L/Llama-3.3-70B-Instruct-Q6_K_L-00001-of-00002.gguf",
    "Llama-3.3-70B-Instruct-Q6_K_L/Llama-3.3-70B-Instruct-Q6_K_L-00002-of-00002.gguf",
];
const UNSLOTH: &[&str] = &[
    "BF16/Qwen3-30B-A3B-BF16-00001-of-00002.gguf",
    "BF16/Qwen3-30B-A3B-BF16-00002-of-00002.gguf",
    "Qwen3-30B-A3B-Q4_K_M.gguf",
    "Qwen3-30B-A3B-UD-Q4_K_M.gguf",
    "Qwen3-30B-A3B-UD-Q4_K_XL.gguf",
    "Qwen3-30B-A3B-UD-IQ1_S.gguf",
    "config.json",
    "imatrix_unsloth.gguf",
    "mmproj-F16.gguf",
];
const UNSLOTH_FOLDERS: &[&str] = &[
    "UD-IQ1_S/DeepSeek-R1-0528-UD-IQ1_S-00001-of-00003.gguf",
    "UD-IQ1_S/DeepSeek-R1-0528-UD-IQ1_S-00003-of-00003.gguf",
    "UD-IQ1_S/DeepSeek-R1-0528-UD-IQ1_S-00002-of-00003.gguf",
    "UD-Q4_K_XL/DeepSeek-R1-0528-UD-Q4_K_XL-00001-of-00002.gguf",
    "UD-Q4_K_XL/DeepSeek-R1-0528-UD-Q4_K_XL-00002-of-00002.gguf",
    "Q4_K_M/model-00001-of-00002.gguf",
    "Q4_K_M/model-00002-of-00002.gguf",
];
const GGML_ORG: &[&str] =
    &["gemma-3-4b-it-Q4_K_M.gguf", "gemma-3-4b-it-Q8_0.gguf", "gemma-3-4b-it-f16.gguf", "mmproj-model-f16.gguf"];
const GPT_OSS: &[&str] = &[
    "gpt-oss-120b-mxfp4-00001-of-00003.gguf",
    "gpt-oss-120b-mxfp4-00002-of-00003.gguf",
    "gpt-oss-120b-mxfp4-00003-of-00003.gguf",
];
const THE_BLOKE: &[&str] = &[
    "config.json",
    "llama-2-7b-chat.Q2_K.gguf",
    "llama-2-7b-chat.Q4_0.gguf",
    "llama-2-7b-chat.Q4_K_M.gguf",
    "llama-2-7b-chat.Q4_K_S.gguf",
    "llama-2-7b-chat.Q6_K.gguf-split-a",
    "llama-2-7b-chat.Q6_K.gguf-split-b",
];
const MRADERMACHER: &[&str] = &["Nous.i1-IQ2_M.gguf", "Nous.i1-Q4_K_M.gguf", "Nous.i1-Q6_K.gguf", "Nous.imatrix.gguf"];
const QWEN: &[&str] = &[
    "qwen2.5-7b-instruct-fp16-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-fp16-00002-of-00002.gguf",
    "qwen2.5-7b-instruct-q2_k.gguf",
    "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf",
];
const APEX: &[&str] =
    &["Qwen3.5-35B-APEX-Compact.gguf", "Qwen3.5-35B-APEX-I-Compact.gguf", "Qwen3.5-35B-APEX-I-Quality.gguf"];

fn listing(names: &[&str]) -> Vec<RepositoryPath> {
    names.iter().map(|name| RepositoryPath::parse(name).expect("a path")).collect()
}

fn quant(name: &str) -> FileChoice {
    FileChoice::Quant(name.to_owned())
}

fn file(path: &str) -> FileChoice {
    FileChoice::File(RepositoryPath::parse(path).expect("a path"))
}

fn check(names: &[&str], choice: &FileChoice, expected: Result<(&[&str], Option<&str>, Chosen), &str>) {
    let chosen = select(listing(names).iter(), choice).map_err(|error| error.to_string());
    let expected = expected.map_err(str::to_owned).map(|(files, quant, reason)| Selection {
        files: listing(files),
        quant: quant.map(str::to_owned),
        reason,
    });
    assert_eq!(chosen, expected, "{choice:?}");
}

/// The first file of what a quantisation chooses.
fn check_quants(names: &[&str], expected: &[(&str, &str)]) {
    for (name, first) in expected {
        let chosen = select(listing(names).iter(), &quant(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((chosen.files[0].as_str(), chosen.reason), (*first, Chosen::Named), "{name}");
    }
}

// R10
#[test]
fn a_quantisation_is_matched_as_a_whole_word_in_any_case() {
    check_quants(
        BARTOWSKI,
        &[
            ("Q4_K_M", "Llama-3.2-1B-Instruct-Q4_K_M.gguf"),
            ("q4_k_m", "Llama-3.2-1B-Instruct-Q4_K_M.gguf"),
            ("Q6_K", "Llama-3.2-1B-Instruct-Q6_K.gguf"),
            ("Q6_K_L", "Llama-3.2-1B-Instruct-Q6_K_L.gguf"),
            ("Q4_0", "Llama-3.2-1B-Instruct-Q4_0.gguf"),
            ("Q4_0_4_4", "Llama-3.2-1B-Instruct-Q4_0_4_4.gguf"),
            ("F16", "Llama-3.2-1B-Instruct-f16.gguf"),
        ],
    );
    check_quants(THE_BLOKE, &[("Q4_K_S", "llama-2-7b-chat.Q4_K_S.gguf")]);
    check_quants(GPT_OSS, &[("MXFP4", GPT_OSS[0])]);
    check_quants(QWEN, &[("Q4_K_M", QWEN[3]), ("FP16", QWEN[0])]);
}

#[test]
fn a_prefix_makes_a_quantisation_another_one() {
    check_quants(
        UNSLOTH,
        &[
            ("Q4_K_M", "Qwen3-30B-A3B-Q4_K_M.gguf"),
            ("UD-Q4_K_M", "Qwen3-30B-A3B-UD-Q4_K_M.gguf"),
            ("UD-Q4_K_XL", "Qwen3-30B-A3B-UD-Q4_K_XL.gguf"),
        ],
    );
    let there_are = "there are: BF16, Q4_K_M, UD-IQ1_S, UD-Q4_K_M, UD-Q4_K_XL";
    for absent in ["Q4_K_XL", "IQ1_S", "Q4_K", "K_M", "4", "MMPROJ", "Q4_K_M.GGUF"] {
        let error = format!("no file of the repository has the quantisation `{absent}`; {there_are}");
        check(UNSLOTH, &quant(absent), Err(&error));
    }
    check(
        MRADERMACHER,
        &quant("Q4_K_M"),
        Err("no file of the repository has the quantisation `Q4_K_M`; there are: I1-IQ2_M, I1-Q4_K_M, I1-Q6_K"),
    );
    check_quants(MRADERMACHER, &[("i1-Q4_K_M", "Nous.i1-Q4_K_M.gguf")]);
    // llama.cpp#25152
    check_quants(APEX, &[("COMPACT", APEX[0]), ("I-COMPACT", APEX[1])]);
}

#[test]
fn a_folder_names_what_the_file_does_not() {
    check(
        UNSLOTH_FOLDERS,
        &quant("Q4_K_M"),
        Ok((&["Q4_K_M/model-00001-of-00002.gguf", "Q4_K_M/model-00002-of-00002.gguf"], Some("Q4_K_M"), Chosen::Named)),
    );
    check_quants(BARTOWSKI_70B, &[("Q6_K", BARTOWSKI_70B[1]), ("Q6_K_L", BARTOWSKI_70B[3])]);
    // The file's own name wins.
    check(
        &["Q4_K_M/a-Q8_0.gguf"],
        &quant("Q4_K_M"),
        Err("no file of the repository has the quantisation `Q4_K_M`; there are: Q8_0"),
    );
}

// X2
#[test]
fn the_shards_of_a_model_belong_together_in_their_order() {
    let set = [UNSLOTH_FOLDERS[0], UNSLOTH_FOLDERS[2], UNSLOTH_FOLDERS[1]];
    check(UNSLOTH_FOLDERS, &quant("UD-IQ1_S"), Ok((&set, Some("UD-IQ1_S"), Chosen::Named)));
    for shard in set {
        check(UNSLOTH_FOLDERS, &file(shard), Ok((&set, Some("UD-IQ1_S"), Chosen::Named)));
    }
    // Said twice, still counted once.
    let twice: Vec<&str> = GPT_OSS.iter().chain(GPT_OSS).copied().collect();
    check(&twice, &FileChoice::Preferred, Ok((GPT_OSS, Some("MXFP4"), Chosen::Only)));
}

#[test]
fn a_missing_shard_is_named() {
    let error = "the model is split in 3 files, and the repository lacks: gpt-oss-120b-mxfp4-00002-of-00003.gguf; choose another, \
                 or tell its owner";
    let names = [GPT_OSS[0], GPT_OSS[2]];
    for choice in [FileChoice::Preferred, quant("MXFP4"), file(GPT_OSS[0])] {
        check(&names, &choice, Err(error));
    }
    check(
        &["a-00001-of-99999.gguf"],
        &FileChoice::Preferred,
        Err("`a-00001-of-99999.gguf` says that it is one of 99999 files, and 4096 is the most that is accepted"),
    );
}

#[test]
fn two_counts_are_two_models() {
    let names = ["a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf", "a-Q8_0-00001-of-00001.gguf"];
    check(
        &names,
        &quant("Q8_0"),
        Err("several models of the repository are `Q8_0`; name one as org/model/PATH: a-Q8_0-00001-of-00001.gguf, \
             a-Q8_0-00001-of-00002.gguf"),
    );
    check(&names, &file(names[1]), Ok((&names[..2], Some("Q8_0"), Chosen::Named)));
}

#[test]
fn numbers_that_count_nothing_are_part_of_a_name() {
    for name in ["a-00003-of-00002.gguf", "a-00000-of-00000.gguf", "a-1-of-2.gguf", "a-+0001-of-+0002.gguf"] {
        check(&[name], &FileChoice::Preferred, Ok((&[name], None, Chosen::Only)));
    }
}

#[test]
fn without_a_quantisation_the_order_of_preference_decides() {
    let preferred = |names: &[&str], file: &str, quant| {
        check(names, &FileChoice::Preferred, Ok((&[file], Some(quant), Chosen::Preferred)));
    };
    preferred(BARTOWSKI, "Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M");
    preferred(UNSLOTH, "Qwen3-30B-A3B-Q4_K_M.gguf", "Q4_K_M");
    preferred(GGML_ORG, "gemma-3-4b-it-Q4_K_M.gguf", "Q4_K_M");
    preferred(THE_BLOKE, "llama-2-7b-chat.Q4_K_M.gguf", "Q4_K_M");
    preferred(MRADERMACHER, "Nous.i1-Q4_K_M.gguf", "I1-Q4_K_M");
    preferred(&["m-Q2_K.gguf", "m-Q8_0.gguf", "m-f16.gguf"], "m-Q8_0.gguf", "Q8_0");
    check(
        &["m-Q2_K.gguf", "mmproj-m-Q4_K_M.gguf"],
        &FileChoice::Preferred,
        Ok((&["m-Q2_K.gguf"], Some("Q2_K"), Chosen::Only)),
    );
    check(
        APEX,
        &FileChoice::Preferred,
        Err("the repository holds several models and none that is preferred; name one as org/model/PATH: \
             Qwen3.5-35B-APEX-Compact.gguf, Qwen3.5-35B-APEX-I-Compact.gguf, Qwen3.5-35B-APEX-I-Quality.gguf"),
    );
}

#[test]
fn one_quantisation_in_two_folders_needs_a_path() {
    let names = ["base/m-Q4_K_M.gguf", "chat/m-Q4_K_M.gguf"];
    let error = "several models of the repository are `Q4_K_M`; name one as org/model/PATH: base/m-Q4_K_M.gguf, \
                 chat/m-Q4_K_M.gguf";
    check(&names, &quant("Q4_K_M"), Err(error));
    check(&names, &FileChoice::Preferred, Err(error));
    check(&names, &file(names[1]), Ok((&[names[1]], Some("Q4_K_M"), Chosen::Named)));
}

#[test]
fn what_is_no_model_is_chosen_only_by_its_path() {
    let sidecars = ["mmproj-F16.gguf", "imatrix_unsloth.gguf", "mtp-Qwen3-Q4_K_M.gguf", "EAGLE3-Llama-Q8_0.gguf"];
    check(&sidecars, &FileChoice::Preferred, Err("the repository holds no GGUF model"));
    check(&sidecars, &file(sidecars[0]), Ok((&[sidecars[0]], Some("F16"), Chosen::Named)));
    // A model that has such a head inside is a whole model.
    check(
        &["GLM-4.5-MTP-Q4_K_M.gguf"],
        &FileChoice::Preferred,
        Ok((&["GLM-4.5-MTP-Q4_K_M.gguf"], Some("Q4_K_M"), Chosen::Only)),
    );
}

#[test]
fn a_repository_without_a_model_says_what_it_has() {
    check(
        &["model-00001-of-00002.safetensors", "config.json"],
        &FileChoice::Preferred,
        Err("the repository holds no GGUF model, only safetensors; look for the same model with -GGUF in its name"),
    );
    check(
        &["m.Q6_K.gguf-split-a", "m.Q6_K.gguf-split-b"],
        &quant("Q6_K"),
        Err("the repository holds no GGUF model, only GGUF files that were cut by hand and must be joined first"),
    );
    check(&[], &FileChoice::Preferred, Err("the repository holds no GGUF model"));
}

#[test]
fn a_path_that_names_nothing_is_answered_with_those_that_do() {
    check(
        GGML_ORG,
        &file("gemma.gguf"),
        Err(
            "the repository holds no file `gemma.gguf`; its models are: gemma-3-4b-it-Q4_K_M.gguf, gemma-3-4b-it-Q8_0.gguf, \
             gemma-3-4b-it-f16.gguf",
        ),
    );
}

#[test]
fn an_error_lists_no_more_than_one_reads() {
    let names: Vec<String> = (0..1_000).map(|number| format!("m{number:04}.gguf")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = select(listing(&names).iter(), &FileChoice::Preferred).expect_err("several").to_string();
    assert!(error.ends_with("m0031.gguf and 968 more"), "{error}");
}

proptest! {
    /// Whatever the names: an answer, and one made of whole sets of the files that there are.
    #[test]
    fn any_listing_is_answered_with_files_that_it_holds(
        names in proptest::collection::btree_set("([ab]/)?(m|mmproj)[-.](I1-|UD-)?(Q4_K_M|q8_0|F16|x)(-0000[0-3]-of-0000[0-3])?\\.(gguf|GGUF|bin)", 0..12),
        wanted in "Q4_K_M|Q8_0|UD-F16|[a-z.-]{1,6}",
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let paths = listing(&names);
        for choice in [FileChoice::Preferred, quant(&wanted)].into_iter().chain(paths.iter().cloned().map(FileChoice::File)) {
            let Ok(selection) = select(paths.iter(), &choice) else { continue };
            prop_assert!(!selection.files.is_empty());
            prop_assert!(selection.files.iter().all(|file| paths.contains(file)));
            let mut sorted = selection.files.clone();
            sorted.sort();
            sorted.dedup();
            prop_assert_eq!(&sorted, &selection.files);
            if let FileChoice::File(path) = &choice {
                prop_assert!(selection.files.contains(path));
            }
            // Any of the files names the same set.
            let again = select(paths.iter(), &FileChoice::File(selection.files[selection.files.len() - 1].clone()));
            prop_assert_eq!(again.map(|again| again.files), Ok(selection.files));
        }
    }
}
