//! Lines in the host's log, with the plugin's name. At most 64 KiB per request and 4 KiB per line unless the operator
//! says otherwise.

#[cfg(target_arch = "wasm32")]
use crate::bindings::outrigger::plugin::log as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double as host;

pub use crate::bindings::outrigger::plugin::log::Level;

/// Whether anybody would see a line of this level: ask before a text is put together for one.
#[must_use]
pub fn enabled(level: Level) -> bool {
    host::enabled(level)
}

/// A line with fields.
pub fn log(level: Level, message: &str, fields: &[(String, String)]) {
    host::log(level, message, fields);
}

/// A line that helps to find a mistake, seldom looked at.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// A line about something worth knowing.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// A line about something that the operator should change.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// A line about something that is broken.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}

fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    if enabled(level) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        log(level, message, &fields);
    }
}
