//! The form that an answer has to have, and how an answer that has come is judged.

use serde_json::Value;

use crate::limits::{ANSWER_BYTES_MAX, REASON_BYTES_MAX};
use crate::schema;
use crate::syntax::Syntax;

/// What an answer has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// A JSON object.
    Object,
    /// A value of this schema.
    Schema(Value),
}

impl Form {
    /// What is wrong with a whole answer; `None`: nothing.
    #[must_use]
    pub fn check(&self, answer: &str) -> Option<String> {
        let value: Value = match serde_json::from_str(answer) {
            Ok(value) => value,
            Err(error) => return Some(format!("it is not JSON: {error}")),
        };
        match self {
            Self::Object if value.is_object() => None,
            Self::Object => Some("it is no JSON object".to_owned()),
            Self::Schema(schema) => schema::check(schema, &value),
        }
    }
}

/// An answer as it comes.
#[derive(Debug, Default)]
pub struct Answer {
    text: String,
    syntax: Syntax,
    /// What is wrong with it, once that is known.
    problem: Option<String>,
}

impl Answer {
    /// Takes more of the answer. Once it cannot become JSON any more, says with which byte of `more` that began.
    pub fn take(&mut self, more: &str) -> Result<(), usize> {
        if self.problem.is_some() {
            return Ok(());
        }
        if self.text.len() + more.len() > ANSWER_BYTES_MAX {
            self.problem = Some(format!("it has more than {ANSWER_BYTES_MAX} bytes"));
            let room = more.floor_char_boundary(ANSWER_BYTES_MAX - self.text.len());
            return Err(room);
        }
        self.syntax.read(more).inspect_err(|at| {
            let place = self.text.len() + at;
            self.problem = Some(format!("it stops being JSON at byte {place}"));
        })?;
        self.text.push_str(more);
        Ok(())
    }

    /// Judges the whole answer: what is wrong with it.
    pub fn judge(&mut self, form: &Form) -> Option<&str> {
        if self.problem.is_none() {
            self.problem = if self.syntax.is_complete() {
                form.check(&self.text)
            } else {
                Some("it ends before its JSON does".to_owned())
            };
        }
        if let Some(problem) = &mut self.problem {
            problem.truncate(problem.floor_char_boundary(REASON_BYTES_MAX));
        }
        self.problem.as_deref()
    }
}
