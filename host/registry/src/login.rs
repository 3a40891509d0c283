//! Who we are to a registry: a user's name and password, out of a file.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;

use crate::error::RegistryError;
use crate::limits::SECRET_FILE_BYTES_MAX;

/// A user's name and password. They are shown nowhere.
pub struct Login(HeaderValue);

impl Login {
    /// Reads `USER:PASSWORD` from a file: a command line is for everybody to read.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let failed = |source| RegistryError::File { what: format!("read the login {}", path.display()), source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.split_once(':').is_none_or(|(user, password)| user.is_empty() || password.is_empty()) {
            let what = format!("the login in {}", path.display());
            return Err(RegistryError::Key { what, why: "the file holds USER:PASSWORD on one line" });
        }
        let header = sensitive(&format!("Basic {}", BASE64.encode(text)));
        header.map(Self).ok_or_else(|| RegistryError::Key { what: "the login".to_owned(), why: "it is too long" })
    }

    /// The `Authorization` of a request.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// A header that logs do not show; `None` where the text cannot be one.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}
