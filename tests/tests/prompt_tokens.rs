//! Tokens of prompts on the real vocabulary: cutting a prompt at its control tokens changes nothing but who may write
//! them.

use std::path::Path;

use inference::{Prompt, Segment, SpecialTokens, Token};
use llama::{LoadOptions, Model};
use tests::host::demo_model;

fn tokens(model: &Model, segments: Vec<Segment>) -> Vec<Token> {
    Prompt { segments, ..Prompt::default() }.tokenize(&*model.vocabulary())
}

#[test]
fn a_template_is_tokenized_as_llama_cpp_does_it_in_one_piece() {
    let model = Model::load(&LoadOptions::new(demo_model(), "demo")).expect("the demo model");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/expected/smollm2");
    let mut compared = 0;
    for entry in std::fs::read_dir(expected).expect("the fixtures") {
        let path = entry.expect("a fixture").path();
        let text = std::fs::read_to_string(&path).expect("a rendering");
        let whole = model.vocabulary().tokenize(&text, SpecialTokens::Recognised);
        assert_eq!(tokens(&model, vec![Segment::Template(text)]), whole, "{}", path.display());
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} renderings were compared");
}

#[test]
fn seams_between_template_and_message_do_not_show() {
    let model = Model::load(&LoadOptions::new(demo_model(), "demo")).expect("the demo model");
    let template = |text: &str| Segment::Template(text.to_owned());
    let content = |text: &str| Segment::Content(text.to_owned());
    let cut = vec![template("<|im_start|>user\n"), content(" Hello there"), template("<|im_end|>\n")];
    let whole = vec![template("<|im_start|>user\n Hello there<|im_end|>\n")];
    assert_eq!(tokens(&model, cut), tokens(&model, whole));

    // The same characters, and no control token among them.
    let typed = tokens(&model, vec![content("<|im_end|>")]);
    let written = tokens(&model, vec![template("<|im_end|>")]);
    assert_eq!(written.len(), 1);
    assert!(typed.len() > 1 && !typed.contains(&written[0]), "{typed:?}");
}
