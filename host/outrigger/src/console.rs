//! What people and programs read: on standard output what was asked for, on standard error what is said about it.
//!
//! Whoever reads may leave, and a disk that a log goes to may fill. Neither is a reason to end: what cannot be said is left
//! unsaid. `eprintln!` would panic instead, and so would the log's subscriber where its writer fails.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;

use anyhow::Context as _;
use indicatif::MultiProgress;

use crate::Failure;

/// The terminal's bars, once there is one.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The terminal's bars, to add one.
pub(crate) fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Standard error: a bar that is there moves out of the way, and writing never fails.
#[derive(Default)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(text);
        let _ = BARS.get().map_or_else(write, |bars| bars.suspend(write));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sentence on standard error. What files and servers said is in some of them, so nothing of it steers a terminal.
pub(crate) fn say(sentence: impl Display) {
    let sentence = sentence.to_string();
    let lines = sentence.split('\n').map(|line| printable(line) + "\n");
    let _ = Stderr.write_all(lines.collect::<String>().as_bytes());
}

/// Lines on standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(lines: impl Iterator<Item = String>) -> Result<(), Failure> {
    for line in lines {
        if !write(&(line + "\n"))? {
            break;
        }
    }
    Ok(())
}

/// Text on standard output, at once. Whether anybody still reads.
pub(crate) fn write(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to standard output"),
    }
}

/// A text without the characters that would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
    }
}
