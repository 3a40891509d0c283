//! What is looked for and what stands in its place.

use std::collections::BTreeMap;

use outrigger_plugin::types::{Part, Request};
use serde_json::{Map, Value};

use crate::config::{Config, Kind};
use crate::limits::SHAPES_MAX;
use crate::place::{Place, Verdict, goes_on};
use crate::shape::Shape;
use crate::stream::Stream;
use crate::{email, iban, keys, numbers};

/// The configured finders.
#[derive(Debug)]
pub struct Redactor {
    config: Config,
    shapes: Vec<Shape>,
    /// Names of all kinds: those of the configuration, then the shapes'.
    names: Vec<String>,
    replacements: Vec<String>,
}

impl Redactor {
    /// Checks the configuration; the error says what is wrong with it.
    pub fn new(config: Config) -> Result<Self, String> {
        if config.shapes.len() > SHAPES_MAX {
            return Err(format!("{} shapes are configured; at most {SHAPES_MAX} may be", config.shapes.len()));
        }
        let shapes = config.shapes.iter().map(Shape::parse).collect::<Result<Vec<Shape>, String>>()?;
        let names: Vec<String> = config
            .kinds
            .iter()
            .map(|kind| kind.name().to_owned())
            .chain(shapes.iter().map(|shape| shape.kind.clone()))
            .collect();
        let replacements = names.iter().map(|name| config.replacement.replace("{kind}", name)).collect();
        Ok(Self { config, shapes, names, replacements })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A text with everything masked, and how much that was.
    #[must_use]
    pub fn mask(&self, text: &str) -> (Option<String>, usize) {
        let mut stream = Stream::default();
        let masked = stream.push(self, text, true).instead;
        (masked, stream.counts().iter().sum())
    }

    fn mask_in(&self, text: &mut String) -> usize {
        match self.mask(text) {
            (Some(masked), places) => {
                *text = masked;
                places
            }
            (None, _) => 0,
        }
    }

    /// Masks the strings, member names and numbers of a value, which stays JSON: a number that is masked becomes a string.
    fn mask_json(&self, value: &mut Value) -> usize {
        match value {
            Value::String(text) => self.mask_in(text),
            Value::Number(number) => match self.mask(&number.to_string()) {
                (Some(masked), places) if places > 0 => {
                    *value = masked.into();
                    places
                }
                _ => 0,
            },
            Value::Array(items) => items.iter_mut().map(|item| self.mask_json(item)).sum(),
            Value::Object(members) => {
                let places: usize = members.values_mut().map(|member| self.mask_json(member)).sum();
                places + self.mask_names(members)
            }
            Value::Null | Value::Bool(_) => 0,
        }
    }

    /// Names that become the same are numbered, so that no member is lost.
    fn mask_names(&self, members: &mut Map<String, Value>) -> usize {
        let places: usize = members.keys().map(|name| self.mask(name).1).sum();
        if places > 0 {
            let mut counts = BTreeMap::<String, usize>::new();
            for (name, member) in std::mem::take(members) {
                let masked = self.mask(&name).0.unwrap_or(name);
                let count = counts.entry(masked.clone()).or_insert(1);
                let mut free = masked.clone();
                while members.contains_key(&free) {
                    *count += 1;
                    free = format!("{masked} {count}");
                }
                members.insert(free, member);
            }
        }
        places
    }

    /// The request with its texts, tool results, arguments of earlier calls and names of speakers masked, and how many places that
    /// were; `None` when nothing was, or when requests are left alone.
    #[must_use]
    pub fn request(&self, mut request: Request) -> Option<(Request, usize)> {
        if !self.config.request {
            return None;
        }
        let names = request.messages.iter_mut().filter_map(|message| message.name.as_mut());
        let mut count = names.map(|name| self.mask_in(name)).sum::<usize>();
        for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
            match part {
                Part::Text(text) => count += self.mask_in(text),
                Part::ToolResult(result) => count += self.mask_in(&mut result.content),
                Part::ToolCall(call) => match serde_json::from_str(&call.arguments_json) {
                    Ok(mut arguments) => {
                        let places = self.mask_json(&mut arguments);
                        if places > 0 {
                            call.arguments_json = arguments.to_string();
                            count += places;
                        }
                    }
                    // A model's slip; no template reads it as anything but text.
                    Err(_) => count += self.mask_in(&mut call.arguments_json),
                },
                Part::Media(_) | Part::Other(_) => {}
            }
        }
        count += request.inputs.iter_mut().map(|text| self.mask_in(text)).sum::<usize>();
        (count > 0).then_some((request, count))
    }

    /// What stands at a place: the longest match of any kind. More text decides as long as it decides for one of them.
    /// `no_email` counts the bytes from here on in which no address begins, as far as that is known.
    pub(crate) fn find(&self, place: &Place<'_>, no_email: &mut usize) -> (Verdict, usize) {
        if self.shapes.is_empty() && !place.rest.starts_with(may_begin) {
            return (Verdict::No, 0);
        }
        let known = self.config.kinds.iter().map(|kind| match kind {
            Kind::Email if *no_email > 0 => Verdict::No,
            Kind::Email => {
                let found = email::find(place);
                *no_email = found.ruled_out;
                found.verdict
            }
            Kind::Phone => numbers::find_phone(place),
            Kind::Card => numbers::find_card(place),
            Kind::Iban => iban::find(place),
            Kind::Key => keys::find(place),
        });
        let mut best = (Verdict::No, 0);
        for (which, verdict) in known.chain(self.shapes.iter().map(|shape| shape.find(place))).enumerate() {
            best = match (best.0, verdict) {
                (_, Verdict::More) => return (Verdict::More, which),
                (Verdict::No, found @ Verdict::Match { .. }) => (found, which),
                (Verdict::Match { length: longest, .. }, found @ Verdict::Match { length, .. }) if length > longest => {
                    (found, which)
                }
                _ => best,
            };
        }
        best
    }

    /// Bytes in which nothing can begin: the rest of a word that holds no address.
    pub(crate) fn skippable(&self, place: &Place<'_>, no_email: usize) -> usize {
        if !self.shapes.is_empty() || place.begins_word() {
            return 0;
        }
        let rest = &place.rest[..no_email];
        rest.find(|character: char| !character.is_alphabetic()).unwrap_or(rest.len())
    }

    /// Names of all kinds, in the order that counts are given in.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn replacement(&self, which: usize) -> &str {
        &self.replacements[which]
    }
}

/// Whether anything but an own shape can begin with this character.
fn may_begin(character: char) -> bool {
    goes_on(character) || matches!(character, '.' | '_' | '%' | '+' | '-' | '(')
}
