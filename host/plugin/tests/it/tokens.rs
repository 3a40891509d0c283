//! Filters that want to see tokens do; nobody else costs anything.

use inference::{ChosenToken, Finish, Stage, Token, Usage};

use crate::house::{House, chat, guest_for, renderer};

fn filter(name: &str, config: &str) -> plugin::PluginSpec {
    guest_for(&[Stage::Postprocess], name, config)
}

fn tokens(numbers: &[u32]) -> Vec<ChosenToken> {
    numbers.iter().map(|&number| ChosenToken { token: Token(number), logprob: -0.5 }).collect()
}

#[tokio::test]
async fn a_filter_sees_each_token_once_with_the_text_that_is_shown_next() {
    let wanting = r#"{"want-tokens": true, "behaviour": "note-tokens", "min-bytes": 2}"#;
    let house = House::of(vec![
        renderer(),
        filter("wanting", wanting),
        filter("not-wanting", r#"{"behaviour": "note-tokens"}"#),
        filter("blind", r#"{"want-tokens": true, "behaviour": "want-nothing"}"#),
    ]);
    let mut run = house.begin();
    let prepared = run.prepare(chat("Hello")).await.expect("they behave");
    assert!(prepared.wants_tokens);
    for (text, numbers) in [("a", &[1][..]), ("b", &[2, 3]), ("cd", &[4])] {
        run.push(text.to_owned(), tokens(numbers), false).await.expect("they behave");
    }
    run.push(String::new(), Vec::new(), true).await.expect("they behave");
    let notes = run.finish(Finish::Stop, Usage::default()).await.expect("they behave");
    let note = |window: &str, said: &str| (format!("Channel::Content {window}"), said.to_owned());
    let expected = [
        note("ab", "1:-0.5 2:-0.5 3:-0.5"),
        note("ab", ""),
        note("cd", "4:-0.5"),
        note("cd", ""),
        note("", ""),
        note("", ""),
    ];
    assert_eq!(notes, expected);
}

#[tokio::test]
async fn nobody_asks_for_tokens_that_nobody_wants() {
    let house = House::of(vec![renderer(), filter("filter", "{}")]);
    assert!(!house.begin().prepare(chat("Hello")).await.expect("it behaves").wants_tokens);
}
