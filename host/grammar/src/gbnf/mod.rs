//! GBNF, llama.cpp's grammars, as Lark that means the same.

mod lower;
mod overlap;
mod parse;

use std::collections::HashSet;
use std::fmt::Write as _;

use lower::{Form, Lowered};
use parse::{Node, Rules};

/// How often terminals are taken apart and looked at again. Each round is for terminals that only the round before made;
/// real grammars take one or two.
const ROUNDS_MAX: usize = 64;
/// Nesting of groups in the Lark that is written; llguidance reads 30.
const GROUPS_MAX: usize = 12;

/// The grammar in Lark. The error says what is wrong with it, and where.
pub(crate) fn lark(text: &str) -> Result<String, String> {
    let mut rules = parse::parse(text)?;
    lower::prune(&mut rules)?;
    let lowered = without_overlaps(&rules)?;
    Ok(Writer::write(&rules, &lowered))
}

fn without_overlaps(rules: &Rules) -> Result<Lowered, String> {
    let mut apart = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let lowered = lower::lower(rules, &apart);
        // One terminal is the whole grammar: nothing comes after it.
        if let [Form::Terminal(_)] = lowered.rules.as_slice() {
            return Ok(lowered);
        }
        let greedy = overlap::greedy(rules, &lowered)?;
        if greedy.is_empty() {
            return Ok(lowered);
        }
        apart.extend(greedy.into_iter().map(|number| lowered.terminals[number].clone()));
    }
    Err("its parts overlap in too many ways; make it simpler".to_owned())
}

/// A class of characters as a regular expression, in which no character needs an escape of its own.
fn class(ranges: &[(char, char)]) -> String {
    let mut class = "[".to_owned();
    for &(first, last) in ranges {
        let (first, last) = (u32::from(first), u32::from(last));
        let _ = if first == last {
            write!(class, "\\x{{{first:x}}}")
        } else {
            write!(class, "\\x{{{first:x}}}-\\x{{{last:x}}}")
        };
    }
    class.push(']');
    class
}

/// Writes Lark: `r0`, … are rules, `T0`, … terminals, `R0`, … the rules that terminals are made of, `h0` and `H0`, … what
/// would nest too deep.
struct Writer {
    lark: String,
    /// Rules that terminals are made of, and whether they are written.
    parts: Vec<bool>,
    todo: Vec<usize>,
    /// What would nest too deep, by number.
    hoisted: usize,
}

impl Writer {
    fn write(rules: &Rules, lowered: &Lowered) -> String {
        let parts = vec![false; rules.bodies.len()];
        let mut writer = Self { lark: "start: r0\n".to_owned(), parts, todo: Vec::new(), hoisted: 0 };
        for (number, form) in lowered.rules.iter().enumerate() {
            let body = writer.form(form, 0);
            let _ = writeln!(writer.lark, "r{number}: {body}");
        }
        for (number, node) in lowered.terminals.iter().enumerate() {
            let body = writer.node(node, 0);
            let _ = writeln!(writer.lark, "T{number}: {body}");
        }
        while let Some(number) = writer.todo.pop() {
            let body = writer.node(&rules.bodies[number], 0);
            let _ = writeln!(writer.lark, "R{number}: {body}");
        }
        writer.lark
    }

    fn form(&mut self, form: &Form, depth: usize) -> String {
        match form {
            Form::Terminal(number) => format!("T{number}"),
            Form::Rule(number) => format!("r{number}"),
            Form::Sequence(items) => {
                let items = items.iter().map(|item| self.form(item, depth + 1)).collect::<Vec<_>>();
                self.group(sequence(&items), depth, 'h')
            }
            Form::Choice(options) => {
                let options = options.iter().map(|option| self.form(option, depth + 1)).collect::<Vec<_>>();
                self.group(options.join(" | "), depth, 'h')
            }
            Form::Repeat(item, least, most) => {
                let item = self.form(item, depth + 1);
                self.repeat(&item, *least, *most, depth, 'h')
            }
        }
    }

    fn node(&mut self, node: &Node, depth: usize) -> String {
        match node {
            Node::Character(ranges) => format!("/{}/", class(ranges)),
            Node::Rule(number) => {
                if !std::mem::replace(&mut self.parts[*number], true) {
                    self.todo.push(*number);
                }
                format!("R{number}")
            }
            Node::Sequence(items) => {
                let items = items.iter().map(|item| self.node(item, depth + 1)).collect::<Vec<_>>();
                self.group(sequence(&items), depth, 'H')
            }
            Node::Choice(options) => {
                let options = options.iter().map(|option| self.node(option, depth + 1)).collect::<Vec<_>>();
                self.group(options.join(" | "), depth, 'H')
            }
            Node::Repeat(item, least, most) => {
                let item = self.node(item, depth + 1);
                self.repeat(&item, *least, *most, depth, 'H')
            }
        }
    }

    fn repeat(&mut self, item: &str, least: u32, most: Option<u32>, depth: usize, kind: char) -> String {
        let body = match (least, most) {
            (_, Some(0)) => "\"\"".to_owned(),
            (0, None) => format!("{item}*"),
            (1, None) => format!("{item}+"),
            (least, None) => format!("{item}{{{least},}}"),
            (least, Some(most)) => format!("{item}{{{least},{most}}}"),
        };
        self.group(body, depth, kind)
    }

    /// In brackets, unless it is the whole body.
    fn group(&mut self, body: String, depth: usize, kind: char) -> String {
        if depth == 0 {
            return body;
        }
        if !depth.is_multiple_of(GROUPS_MAX) {
            return format!("({body})");
        }
        let name = format!("{kind}{}", self.hoisted);
        self.hoisted += 1;
        let _ = writeln!(self.lark, "{name}: {body}");
        name
    }
}

fn sequence(items: &[String]) -> String {
    if items.is_empty() { "\"\"".to_owned() } else { items.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(lark(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn without_recursion_it_is_one_terminal() {
        check(
            "root ::= item (\",\" item)*\nitem ::= [a-z]+",
            "start: r0\nr0: T0\nT0: R1 ((/[\\x{2c}]/ R1)*)\nR1: /[\\x{61}-\\x{7a}]/+\n",
        );
    }

    #[test]
    fn around_recursion_terminals_are_as_large_as_they_can_be() {
        check(
            "root ::= \"(\" root \")\" | \"ab\" \"c\"?",
            "start: r0\nr0: (T0 r0 T1) | T2\nT0: /[\\x{28}]/\nT1: /[\\x{29}]/\n\
             T2: (/[\\x{61}]/ /[\\x{62}]/) (/[\\x{63}]/{0,1})\n",
        );
    }

    #[test]
    fn a_terminal_that_would_eat_what_follows_is_taken_apart() {
        // The longest match of `[a-z]*` would take the `x` too, and the answer could never end.
        check(
            "root ::= \"(\" root \")\" | [a-z]* more\nmore ::= \"x\" (root | \"!\")",
            "start: r0\nr0: (T0 r0 T1) | ((T2*) r1)\nr1: T3 (r0 | T4)\nT0: /[\\x{28}]/\nT1: /[\\x{29}]/\n\
             T2: /[\\x{61}-\\x{7a}]/\nT3: /[\\x{78}]/\nT4: /[\\x{21}]/\n",
        );
    }

    #[test]
    fn what_never_ends_is_refused() {
        let error = lark("root ::= \"a\" root").unwrap_err();
        assert!(error.contains("nothing matches it"), "{error}");
        check("root ::= \"a\" root2 | \"b\"\nroot2 ::= \"c\" root2", "start: r0\nr0: T0\nT0: /[\\x{62}]/\n");
    }
}
