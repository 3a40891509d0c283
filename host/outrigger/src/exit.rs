//! How the process ends, as whoever started it can tell. README.md and `serve --help` have the same table.

/// What was to be done could not be: the model, a plugin or the machine is why, or the engine broke off.
pub(crate) const FAILED: u8 = 1;
/// What was said cannot be meant; `clap`'s own code for wrong flags. Starting again does not help.
pub(crate) const USAGE: u8 = 2;
/// An address or a socket is not to be had.
pub(crate) const LISTEN: u8 = 3;
/// It was told to stop, and answers were broken off because the time for them was over.
pub(crate) const CUT_OFF: u8 = 4;
/// It was told to stop twice.
pub(crate) const SECOND_SIGNAL: u8 = 5;
