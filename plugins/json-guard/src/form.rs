//! The form that an answer has to have, and how an answer that has come is judged.

use serde_json::Value;

use crate::limits::{ANSWER_BYTES_MAX, CHECK_STEPS_MIN, REASON_BYTES_MAX};
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
    /// Looks at a whole answer.
    #[must_use]
    pub fn check(&self, answer: &str) -> Judgement {
        let value: Value = match serde_json::from_str(answer) {
            Ok(value) => value,
            Err(error) => return Judgement::Invalid(format!("it is not JSON: {error}")),
        };
        match self {
            Self::Object if value.is_object() => Judgement::Valid,
            Self::Object => Judgement::Invalid("it is no JSON object".to_owned()),
            Self::Schema(schema) => schema::check(schema, &value, CHECK_STEPS_MIN + answer.len() / 2),
        }
    }
}

/// What is to be said of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It has the form.
    Valid,
    /// It has not, and this is why.
    Invalid(String),
    /// It is not known, and this is why.
    NotChecked(&'static str),
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

    /// Judges the whole answer.
    pub fn judge(&mut self, form: &Form) -> Judgement {
        let judgement = match &self.problem {
            Some(problem) => Judgement::Invalid(problem.clone()),
            None if self.syntax.is_complete() => form.check(&self.text),
            None => Judgement::Invalid("it ends before its JSON does".to_owned()),
        };
        match judgement {
            Judgement::Invalid(mut problem) => {
                problem.truncate(problem.floor_char_boundary(REASON_BYTES_MAX));
                Judgement::Invalid(problem)
            }
            other => other,
        }
    }
}
