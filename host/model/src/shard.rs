//! Names of the files that a split model consists of.

/// One file of several that hold a model together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Counted from 1.
    pub(crate) number: u32,
    /// How many there are.
    pub(crate) count: u32,
}

/// What precedes shard number and extension, and the shard that the name says it is. The form is llama.cpp's
/// `%s-%05d-of-%05d.gguf`, to the letter.
pub(crate) fn split(name: &str) -> Option<(&str, Shard)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let shard = Shard { number: five_digits(number)?, count: five_digits(count)? };
    // Numbers that count nothing are part of an ordinary name.
    (shard.number > 0 && shard.number <= shard.count).then_some((stem, shard))
}

fn five_digits(digits: &str) -> Option<u32> {
    let is_number = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// The name of a shard, counted from 1.
pub(crate) fn name(stem: &str, number: u32, count: u32) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}
