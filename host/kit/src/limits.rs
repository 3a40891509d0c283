//! Every limit of this crate, with unit and reason.

/// Bytes of a file with cases: some hundred of them.
pub(crate) const CASE_FILE_BYTES_MAX: u64 = 4 << 20;

/// Bytes of a case's answer: it is shown to the plugin hundreds of times.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How often a case's request may be sent before the one that counts.
pub(crate) const TIMES_MAX: u32 = 1_000;

/// Places at which an answer is cut in two; of a longer one so many are taken, evenly.
pub(crate) const SINGLE_CUTS_MAX: usize = 500;

/// Beginnings of an answer that are taken for answers that were cut short.
pub(crate) const PREFIXES_MAX: usize = 200;

/// Pieces of an answer that is written in turns with another one; the rest comes in one.
pub(crate) const PIECES_BESIDE_MAX: usize = 200;

/// Ways by chance to cut an answer.
pub const RANDOM_CHUNKINGS: u32 = 200;

/// Runs that are spent to find fewer cuts which show the same failure.
pub(crate) const SHRINK_RUNS_MAX: usize = 300;

/// Lines of a difference that are shown.
pub(crate) const DIFF_LINES_MAX: usize = 40;

/// Tokens that an answer under control may have beyond those that the model would write: what never lets it end is cut.
pub(crate) const TOKENS_BEYOND_MAX: usize = 1024;

/// Tokens of a real model's vocabulary that are named where a step is shown; of more, it is told how many.
pub(crate) const TOKENS_SHOWN_MAX: usize = 12;

/// The gates of a small Rust plugin, in microseconds (design/plugins.md, "Gates").
pub mod gates {
    /// Making an instance, `init` included, and dropping it.
    pub const INSTANTIATE_US: f64 = 25.0;
    /// A whole request of 64 pushes.
    pub const REQUEST_US: f64 = 200.0;
    /// One push.
    pub const PUSH_US: f64 = 1.0;
}
