//! What the parts of an answer are.

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Text of the answer.
    Content(String),
    /// What the model thought before it answered.
    Reasoning(String),
    /// A call of this function begins.
    CallStart(String),
    /// More of its arguments, as the model wrote them.
    Arguments(String),
    /// More of its arguments, in other words than the model's: as JSON what it wrote otherwise.
    Written(String),
    /// The call is whole.
    CallEnd,
    /// What is for parsers alone: marks, and the white space around them. All but this and `Written` together are what the
    /// model wrote.
    Syntax(String),
}
