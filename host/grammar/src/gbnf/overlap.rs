//! Where a lexer's longest match would take what belongs to the next terminal.
//!
//! A terminal may have been read to its end where another one, or itself, can still go on. If what may follow it goes on
//! with the same byte, the lexer goes on, and texts that the grammar has are never written; the worst of it is an answer
//! that cannot end any more. Such a terminal has to be taken apart.

use std::collections::HashSet;

use llguidance::derivre::{ExprRef, Regex, RegexAst, RegexBuilder, StateID};

use super::lower::{Form, Lowered};
use super::parse::{Node, Rules};
use crate::limits::LEXER_FUEL_MAX;

/// Steps that looking for overlaps may take: about half a second.
const STEPS_MAX: usize = 20_000_000;

/// A set of bytes.
type Bytes = [bool; 256];

/// The terminals that go on where another one ends and its successor goes on in the same way. The error is for people.
pub(crate) fn greedy(rules: &Rules, lowered: &Lowered) -> Result<Vec<usize>, String> {
    let mut automata = automata(rules, &lowered.terminals)?;
    let follow = Follow::of(lowered, &mut automata);
    let mut steps = 0;
    let mut greedy = Vec::new();
    for (number, node) in lowered.terminals.iter().enumerate() {
        // A single character never goes on.
        if matches!(node, Node::Character(_)) {
            continue;
        }
        for ended in 0..lowered.terminals.len() {
            if goes_on(&mut automata, number, ended, &follow.terminals[ended], &mut steps) {
                greedy.push(number);
                break;
            }
            if steps > STEPS_MAX {
                return Err("its parts overlap in too many ways; make its repetitions smaller".to_owned());
            }
        }
    }
    Ok(greedy)
}

/// Whether terminal `longer` can go on, with one of the bytes that follow `ended`, where `ended` has been read.
fn goes_on(automata: &mut [Regex], longer: usize, ended: usize, follow: &Bytes, steps: &mut usize) -> bool {
    let start = (automata[longer].initial_state(), automata[ended].initial_state());
    // The start is seen when something was read and it is reached again, as in a repetition.
    let (mut seen, mut todo) = (HashSet::new(), vec![(start, true)]);
    while let Some(((long, end), is_empty)) = todo.pop() {
        *steps += 256;
        if *steps > STEPS_MAX {
            return false;
        }
        // Where nothing was read nothing has ended: a terminal that may be empty is optional in the parser.
        let has_ended = !is_empty && automata[ended].is_accepting(end);
        for byte in 0..=u8::MAX {
            let next_long = automata[longer].transition(long, byte);
            if next_long == StateID::DEAD {
                continue;
            }
            if has_ended && follow[usize::from(byte)] {
                return true;
            }
            let next_end = automata[ended].transition(end, byte);
            if next_end != StateID::DEAD && seen.insert((next_long, next_end)) {
                todo.push(((next_long, next_end), false));
            }
        }
    }
    false
}

/// What may come next, by place in the grammar.
struct Follow {
    terminals: Vec<Bytes>,
}

impl Follow {
    fn of(lowered: &Lowered, automata: &mut [Regex]) -> Self {
        let first: Vec<First> = automata.iter_mut().map(First::of_terminal).collect();
        let mut rules = vec![First::NOTHING; lowered.rules.len()];
        while fixed(&mut rules, |number, rules| First::of(&lowered.rules[number], &first, rules)) {}

        let mut follow = Walk {
            first: &first,
            rules: &rules,
            of_terminal: vec![[false; 256]; automata.len()],
            of_rule: vec![[false; 256]; lowered.rules.len()],
            changed: true,
        };
        while std::mem::take(&mut follow.changed) {
            for (number, form) in lowered.rules.iter().enumerate() {
                let after = follow.of_rule[number];
                follow.walk(form, &after);
            }
        }
        Self { terminals: follow.of_terminal }
    }
}

/// One round towards a fixed point; whether anything changed.
fn fixed(rules: &mut [First], mut of: impl FnMut(usize, &[First]) -> First) -> bool {
    let mut changed = false;
    for number in 0..rules.len() {
        let new = of(number, rules);
        changed |= new != rules[number];
        rules[number] = new;
    }
    changed
}

/// What a text may begin with, and whether it may be empty.
#[derive(Clone, PartialEq, Eq)]
struct First {
    bytes: Bytes,
    empty: bool,
}

impl First {
    const NOTHING: Self = Self { bytes: [false; 256], empty: false };
    const EMPTY: Self = Self { bytes: [false; 256], empty: true };

    fn of_terminal(automaton: &mut Regex) -> Self {
        let start = automaton.initial_state();
        let mut bytes = [false; 256];
        for byte in 0..=u8::MAX {
            bytes[usize::from(byte)] = automaton.transition(start, byte) != StateID::DEAD;
        }
        Self { bytes, empty: automaton.is_accepting(start) }
    }

    fn of(form: &Form, terminals: &[Self], rules: &[Self]) -> Self {
        match form {
            Form::Terminal(number) => terminals[*number].clone(),
            Form::Rule(number) => rules[*number].clone(),
            Form::Sequence(items) => {
                items.iter().rev().fold(Self::EMPTY, |after, item| Self::of(item, terminals, rules).then(&after))
            }
            Form::Choice(options) => options.iter().fold(Self::NOTHING, |mut all, option| {
                let one = Self::of(option, terminals, rules);
                add(&mut all.bytes, &one.bytes);
                all.empty |= one.empty;
                all
            }),
            Form::Repeat(_, _, Some(0)) => Self::EMPTY,
            Form::Repeat(item, least, _) => {
                let mut one = Self::of(item, terminals, rules);
                one.empty |= *least == 0;
                one
            }
        }
    }

    /// This, and then something that begins like `after`.
    fn then(mut self, after: &Self) -> Self {
        if self.empty {
            add(&mut self.bytes, &after.bytes);
            self.empty = after.empty;
        }
        self
    }
}

struct Walk<'a> {
    first: &'a [First],
    rules: &'a [First],
    of_terminal: Vec<Bytes>,
    of_rule: Vec<Bytes>,
    changed: bool,
}

impl Walk<'_> {
    fn walk(&mut self, form: &Form, after: &Bytes) {
        match form {
            Form::Terminal(number) => self.changed |= add(&mut self.of_terminal[*number], after),
            Form::Rule(number) => self.changed |= add(&mut self.of_rule[*number], after),
            Form::Sequence(items) => {
                let mut after = *after;
                for item in items.iter().rev() {
                    self.walk(item, &after);
                    let first = First::of(item, self.first, self.rules);
                    if first.empty {
                        add(&mut after, &first.bytes);
                    } else {
                        after = first.bytes;
                    }
                }
            }
            Form::Choice(options) => options.iter().for_each(|option| self.walk(option, after)),
            Form::Repeat(_, _, Some(0)) => {}
            Form::Repeat(item, _, most) => {
                let mut after = *after;
                if *most != Some(1) {
                    add(&mut after, &First::of(item, self.first, self.rules).bytes);
                }
                self.walk(item, &after);
            }
        }
    }
}

/// Whether `all` grew.
fn add(all: &mut Bytes, more: &Bytes) -> bool {
    let mut grew = false;
    for (one, more) in all.iter_mut().zip(more) {
        grew |= *more && !*one;
        *one |= *more;
    }
    grew
}

/// The terminals as automata, whose states are computed when they are asked for.
fn automata(rules: &Rules, terminals: &[Node]) -> Result<Vec<Regex>, String> {
    let mut builder = Expressions { builder: RegexBuilder::new(), rules, built: vec![None; rules.bodies.len()] };
    let built = terminals.iter().map(|node| {
        let expression = builder.of(node)?;
        builder.builder.to_regex_limited(expression, LEXER_FUEL_MAX).map_err(|error| error.to_string())
    });
    built.collect()
}

struct Expressions<'a> {
    builder: RegexBuilder,
    rules: &'a Rules,
    /// By rule.
    built: Vec<Option<ExprRef>>,
}

impl Expressions<'_> {
    fn of(&mut self, node: &Node) -> Result<ExprRef, String> {
        let ast = match node {
            Node::Character(ranges) => RegexAst::Regex(super::class(ranges)),
            Node::Rule(number) => {
                if let Some(built) = self.built[*number] {
                    return Ok(built);
                }
                let rules = self.rules;
                let built = self.of(&rules.bodies[*number])?;
                self.built[*number] = Some(built);
                return Ok(built);
            }
            Node::Sequence(items) => RegexAst::Concat(self.all(items)?),
            Node::Choice(options) => RegexAst::Or(self.all(options)?),
            Node::Repeat(item, least, most) => {
                let item = RegexAst::ExprRef(self.of(item)?);
                RegexAst::Repeat(Box::new(item), *least, most.unwrap_or(u32::MAX))
            }
        };
        self.builder.mk(&ast).map_err(|error| error.to_string())
    }

    fn all(&mut self, nodes: &[Node]) -> Result<Vec<RegexAst>, String> {
        nodes.iter().map(|node| Ok(RegexAst::ExprRef(self.of(node)?))).collect()
    }
}
