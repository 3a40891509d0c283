//! Arrays and objects with a bound: what is beyond it is counted, so that a refusal can say how much there is, and not kept.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Reads an object's members, and counts them: what is more than `most` is not kept.
pub(super) struct Members<'f> {
    pub(super) most: usize,
    /// The name that stands twice, where one does.
    pub(super) twice: &'f mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = (Vec<(String, &'de RawValue)>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = (Vec<(String, &'de RawValue)>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut names) = (Vec::new(), HashSet::new());
        while members.len() < self.most
            && let Some((name, raw)) = map.next_entry::<String, &RawValue>()?
        {
            if !names.insert(name.clone()) {
                *self.twice = Some(name);
                return Err(A::Error::custom("a name stands twice"));
            }
            members.push((name, raw));
        }
        let mut count = members.len();
        while count >= self.most && map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((members, count))
    }
}

/// Reads an array's items, and counts them: what is more than `most` is not kept.
pub(super) struct Items {
    pub(super) most: usize,
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = (Vec<&'de RawValue>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.most
            && let Some(raw) = seq.next_element()?
        {
            items.push(raw);
        }
        let mut count = items.len();
        while count >= self.most && seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}
