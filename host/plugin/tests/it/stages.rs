//! What the stages do when everybody behaves.

use inference::{Finish, PipelineError, Prompt, Role, Segment, Stage};
use plugin::{Modify, PluginSpec};

use crate::house::{House, chat, guest, guest_for, renderer};

#[tokio::test]
async fn a_request_goes_all_the_way() {
    let house = House::told(r#"{"behaviour": "note"}"#);
    let prepared = house.prepare().await.expect("the guest behaves");
    let expected = Prompt {
        segments: vec![Segment::Template("<|Role::User|>".to_owned()), Segment::Content("Hello".to_owned())],
        stop: vec!["<|end|>".to_owned()],
        prefix: String::new(),
    };
    assert_eq!((prepared.request, prepared.prompt), (chat("Hello"), expected));

    let answer = house.answer(&["Hel", "lo", ""]).await.expect("the guest behaves");
    let notes = [("seen", "yes"), ("end", "Finish::Stop")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((answer.content.as_str(), answer.notes.as_slice()), ("Hello", notes.as_slice()));
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\"", "outcome=\"ok\""], 2).await;
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
}
