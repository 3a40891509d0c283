//! Which requests a fault hits.

use std::fmt;
use std::sync::Arc;

use crate::request::{Origin, Seen, percent_decode};

/// Which requests a fault hits.
#[derive(Clone)]
pub struct Match {
    origin: Option<Origin>,
    method: Option<&'static str>,
    text: String,
    also: Vec<Predicate>,
}

type Predicate = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;

impl Match {
    /// Every request to either origin.
    #[must_use]
    pub fn any() -> Self {
        Self { origin: None, method: None, text: String::new(), also: Vec::new() }
    }

    /// Requests of any method to the hub whose path (decoded or not) contains `text`, or that ask for such a file.
    #[must_use]
    pub fn hub(text: &str) -> Self {
        Self { origin: Some(Origin::Hub), text: text.to_owned(), ..Self::any() }
    }

    /// As `hub`, GET only.
    #[must_use]
    pub fn hub_get(text: &str) -> Self {
        Self { method: Some("GET"), ..Self::hub(text) }
    }

    /// Requests of any method to the CDN for a file whose name contains `text`.
    #[must_use]
    pub fn cdn(text: &str) -> Self {
        Self { origin: Some(Origin::Cdn), ..Self::hub(text) }
    }

    /// As `cdn`, GET only.
    #[must_use]
    pub fn cdn_get(text: &str) -> Self {
        Self { method: Some("GET"), ..Self::cdn(text) }
    }

    /// Only those of them for which `condition` holds.
    #[must_use]
    pub fn and(mut self, condition: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        self.also.push(Arc::new(condition));
        self
    }

    pub(crate) fn fits(&self, seen: &Seen) -> bool {
        self.origin.is_none_or(|origin| origin == seen.origin)
            && self.method.is_none_or(|method| method == seen.method)
            && (seen.path.contains(&self.text)
                || percent_decode(&seen.path).contains(&self.text)
                || seen.file.as_ref().is_some_and(|file| file.contains(&self.text)))
            && self.also.iter().all(|condition| condition(seen))
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:?} *{}*", self.origin, self.method, self.text)
    }
}
