//! Masks what identifies or unlocks: in answers, and in requests if configured.

#[cfg(target_arch = "wasm32")]
mod component;

use outrigger_plugin::types::{Part, Request};

/// Most bytes that the filter leaves unconsumed; the host's default cap.
pub const HOLDBACK_BYTES_MAX: u32 = 4096;

/// The plugin's `[config]` table.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Mask messages of requests too; needs the operator's `modify` grant.
    pub request: bool,
}

/// Finds and masks.
#[derive(Debug)]
pub struct Redactor {
    config: Config,
}

/// What became of a window.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes disposed of.
    pub consumed: usize,
    /// What goes out in their place; `None`: they go as they are.
    pub instead: Option<String>,
}

impl Redactor {
    /// Checks the configuration.
    pub fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config })
    }

    /// Masks the end of a stream.
    pub fn window(&self, window: &str, last: bool) -> Pushed {
        let consumed = if last { window.len() } else { window.rfind(char::is_whitespace).unwrap_or(0) };
        let masked = mask(&window[..consumed]);
        Pushed { consumed, instead: (masked != window[..consumed]).then_some(masked) }
    }

    /// The request with its texts masked, and how many were; `None` when nothing was.
    pub fn request(&self, mut request: Request) -> Option<(Request, usize)> {
        if !self.config.request {
            return None;
        }
        let mut masked = 0;
        for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
            if let Part::Text(text) = part {
                let new = mask(text);
                masked += usize::from(new != *text);
                *text = new;
            }
        }
        (masked > 0).then_some((request, masked))
    }
}

fn mask(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| if word.trim().contains('@') && word.len() > 2 { word.replace(word.trim(), "[email]") } else { word.to_owned() })
        .collect()
}
