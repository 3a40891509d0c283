//! Ends an answer where it says one of the operator's phrases.
//!
//! What may become a phrase is held back, and nothing else; so the phrase never reaches the client, wherever the tokens
//! fall, and the slot is free as soon as it is complete.

mod config;
mod limits;

pub use config::{ChannelName, Config, Reason};
use limits::{HOLDBACK_BYTES_MAX, PHRASE_BYTES_MAX, PHRASES_MAX};
use outrigger_plugin::prelude::*;

/// The plugin.
#[derive(Debug)]
pub struct StopWords {
    config: Config,
    window: MatchWindow,
}

impl Plugin for StopWords {
    fn new(cx: &Context) -> Result<Self> {
        let config: Config = cx.config()?;
        check(&config)?;
        let mut window = MatchWindow::new(config.phrases.iter().cloned());
        if config.ignore_case {
            window = window.ignoring_case();
        }
        if config.whole_words {
            window = window.whole_words();
        }
        Ok(Self { config, window })
    }
}

impl Postprocess for StopWords {
    type Filter = ();

    fn open(&mut self, _call: &Call, _choice: u32) -> Result<((), Profile)> {
        let channels: Vec<Channel> = self.config.channels.iter().copied().map(channel).collect();
        Ok(((), Profile { max_holdback: HOLDBACK_BYTES_MAX, ..Profile::of(channels) }))
    }

    fn push(&mut self, _filter: &mut (), chunk: &Chunk) -> Result<Output> {
        Ok(match self.window.find_in(chunk) {
            Found::Nothing { free } => Output::pass_first(free),
            Found::Match { place, which } => {
                let end = if self.config.keep { place.end } else { place.start };
                let reason = match self.config.reason {
                    Reason::Stop => Finish::Stop,
                    Reason::Filtered => Finish::Filtered,
                };
                Output::pass_first(end).and_stop(reason).note("stop-words", self.config.phrases[which].clone())
            }
        })
    }
}

fn check(config: &Config) -> Result<()> {
    if config.phrases.len() > PHRASES_MAX {
        return Err(format!("{} phrases are configured; at most {PHRASES_MAX} may be", config.phrases.len()).into());
    }
    match config.phrases.iter().find(|phrase| phrase.is_empty() || phrase.len() > PHRASE_BYTES_MAX) {
        Some(phrase) => {
            let length = phrase.len();
            Err(format!("a phrase has {length} bytes; it may have 1 to {PHRASE_BYTES_MAX}").into())
        }
        None => Ok(()),
    }
}

fn channel(name: ChannelName) -> Channel {
    match name {
        ChannelName::Content => Channel::Content,
        ChannelName::Reasoning => Channel::Reasoning,
        ChannelName::ToolArguments => Channel::ToolArguments,
    }
}

outrigger_plugin::export!(StopWords: Postprocess);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing::{self, Sent};

    use super::*;

    #[track_caller]
    fn check(config: &str, text: &str, expected: &str, stop: Option<Finish>) {
        let Sent { text: sent, stop: stopped, .. } =
            testing::every_chunking(|| testing::plugin::<StopWords>(config), text);
        assert_eq!((sent.as_str(), stopped), (expected, stop), "{text:?} with {config}");
    }

    #[test]
    fn marks_of_templates_end_an_answer_without_any_configuration() {
        check("{}", "Paris.<|im_end|>\n<|im_start|>user", "Paris.", Some(Finish::Stop));
        check("{}", "a < b and b <| c", "a < b and b <| c", None);
    }

    #[test]
    fn a_phrase_is_dropped_or_kept() {
        check(r#"{"phrases": ["THE END"]}"#, "So it was. THE END. Or was it?", "So it was. ", Some(Finish::Stop));
        let keeps = r#"{"phrases": ["THE END"], "keep": true}"#;
        check(keeps, "So it was. THE END. Or was it?", "So it was. THE END", Some(Finish::Stop));
    }

    #[test]
    fn the_client_can_be_told_of_a_filter() {
        check(r#"{"phrases": ["secret"], "reason": "filtered"}"#, "a secret", "a ", Some(Finish::Filtered));
    }

    #[test]
    fn case_and_words() {
        let config = r#"{"phrases": ["Übung"], "ignore_case": true, "whole_words": true}"#;
        check(config, "Fahrübungen, dann die ÜBUNG!", "Fahrübungen, dann die ", Some(Finish::Stop));
        check(config, "Vorübung", "Vorübung", None);
    }

    #[test]
    fn the_phrase_is_noted() {
        let sent = testing::stream(&mut testing::plugin::<StopWords>("{}").unwrap(), &["x</s>"]).unwrap();
        assert_eq!(sent.notes, [("stop-words".to_owned(), "</s>".to_owned())]);
    }

    #[test]
    fn other_channels_are_left_alone() {
        let plugin = || testing::plugin::<StopWords>("{}");
        assert_eq!(testing::every_chunking_of(plugin, Channel::Reasoning, "hm</s>").stop, None);
        let both = || testing::plugin::<StopWords>(r#"{"channels": ["content", "reasoning"]}"#);
        assert_eq!(testing::every_chunking_of(both, Channel::Reasoning, "hm</s>").stop, Some(Finish::Stop));
    }

    #[test]
    fn a_wrong_configuration_is_refused_in_words() {
        for (config, words) in [
            (r#"{"phrase": "x"}"#, "`phrase`"),
            (r#"{"phrases": [""]}"#, "1 to 1024"),
            (r#"{"reason": "length"}"#, "`length`"),
        ] {
            let error = format!("{:?}", testing::plugin::<StopWords>(config).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        let many = format!(r#"{{"phrases": [{}]}}"#, vec![r#""x""#; 257].join(","));
        assert!(testing::plugin::<StopWords>(&many).is_err());
    }
}
