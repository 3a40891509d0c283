//! Any listing and any choice: whole sets of files that the listing holds, or an error that is not endless.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{FileChoice, HubReference, RepositoryPath, select};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    // The first line is what a person would write behind `acme/tiny`.
    let Ok(reference) = HubReference::parse(&format!("acme/tiny{}", lines.next().unwrap_or_default())) else { return };
    let paths: Vec<RepositoryPath> = lines.filter_map(|line| RepositoryPath::parse(line).ok()).collect();
    match select(paths.iter(), &reference.choice) {
        Ok(selection) => {
            assert!(!selection.files.is_empty());
            assert!(selection.files.iter().all(|file| paths.contains(file)));
            if let FileChoice::File(path) = &reference.choice {
                assert!(selection.files.contains(path));
            }
            // Any of them stands for all.
            for file in [&selection.files[0], &selection.files[selection.files.len() - 1]] {
                let again = select(paths.iter(), &FileChoice::File(file.clone())).expect("the same set");
                assert_eq!(again.files, selection.files);
            }
        }
        Err(error) => assert!(error.to_string().len() < 200_000),
    }
});
