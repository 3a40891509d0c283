//! The text of a GBNF grammar, as llama.cpp's parser reads it (`src/llama-grammar.cpp`, `grammars/README.md`).

use std::collections::HashMap;

use crate::limits::{GRAMMAR_DEPTH_MAX, REPETITION_MAX, RULES_MAX};

/// A grammar: rules by number.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) bodies: Vec<Node>,
    pub(crate) root: usize,
}

/// What may stand in a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// One character of these ranges, ordered and apart.
    Character(Vec<(char, char)>),
    /// A rule, by number.
    Rule(usize),
    /// One after the other; none: the empty text.
    Sequence(Vec<Node>),
    /// One of them.
    Choice(Vec<Node>),
    /// So many times; `None`: as often as one likes.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// Reads a grammar. The error names the line.
pub(crate) fn parse(text: &str) -> Result<Rules, String> {
    let mut reader = Reader { text, place: 0, numbers: HashMap::new(), names: Vec::new(), bodies: Vec::new() };
    let parsed = reader.rules();
    parsed.map_err(|problem| format!("line {}: {problem}", reader.line()))?;
    let Reader { names, bodies, numbers, .. } = reader;
    let mut rules = Vec::with_capacity(bodies.len());
    for (name, body) in names.iter().zip(bodies) {
        rules.push(body.ok_or_else(|| format!("the rule `{name}` is used and not defined"))?);
    }
    let root = *numbers.get("root").ok_or("there is no rule `root`")?;
    Ok(Rules { bodies: rules, root })
}

struct Reader<'a> {
    text: &'a str,
    place: usize,
    numbers: HashMap<&'a str, usize>,
    names: Vec<String>,
    bodies: Vec<Option<Node>>,
}

impl<'a> Reader<'a> {
    fn rules(&mut self) -> Result<(), String> {
        self.space(true);
        while !self.rest().is_empty() {
            let name = self.name()?;
            self.space(false);
            if !self.take("::=") {
                return Err(format!("`::=` is expected after `{name}`"));
            }
            self.space(true);
            let number = self.number(name)?;
            let body = self.choice(0)?;
            if self.bodies[number].replace(body).is_some() {
                return Err(format!("the rule `{name}` is defined twice"));
            }
            if !self.rest().is_empty() && !self.rest().starts_with(['\n', '\r']) {
                return Err(format!("{} is not expected here", self.shown()));
            }
            self.space(true);
        }
        Ok(())
    }

    fn choice(&mut self, depth: usize) -> Result<Node, String> {
        if depth > GRAMMAR_DEPTH_MAX {
            return Err(format!("groups nest more than {GRAMMAR_DEPTH_MAX} deep"));
        }
        let mut options = vec![self.sequence(depth)?];
        loop {
            let before = self.place;
            self.space(true);
            if !self.take("|") {
                self.place = before;
                break;
            }
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut items: Vec<Node> = Vec::new();
        loop {
            self.space(depth > 0);
            let Some(next) = self.rest().chars().next() else { break };
            let item = match next {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.place += 1;
                    Node::Character(vec![('\0', char::MAX)])
                }
                '(' => {
                    self.place += 1;
                    let inner = self.choice(depth + 1)?;
                    self.space(true);
                    if !self.take(")") {
                        return Err("a group is never closed".to_owned());
                    }
                    inner
                }
                '<' | '!' => return Err("tokens (`<…>`) are this model's alone; write their text".to_owned()),
                _ if is_word(next) => {
                    let name = self.name()?;
                    Node::Rule(self.number(name)?)
                }
                _ => break,
            };
            items.push(self.repeated(item)?);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Sequence(items) })
    }

    fn repeated(&mut self, mut item: Node) -> Result<Node, String> {
        loop {
            let (least, most) = match self.rest().chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let end = self.rest().find('}').ok_or("a `{` is never closed")?;
                    let inner = &self.rest()[1..end];
                    let bounds = counts(inner).ok_or_else(|| {
                        format!("`{{{inner}}}` is no repetition: {{m}}, {{m,}} or {{m,n}}, up to {REPETITION_MAX}")
                    })?;
                    self.place += end;
                    bounds
                }
                _ => return Ok(item),
            };
            self.place += 1;
            item = Node::Repeat(Box::new(item), least, most);
        }
    }

    fn literal(&mut self) -> Result<Node, String> {
        self.place += 1;
        let mut characters = Vec::new();
        loop {
            match self.rest().chars().next() {
                None | Some('\n') => return Err("a text is never closed".to_owned()),
                Some('"') => break,
                Some(_) => {
                    let character = self.character()?;
                    characters.push(Node::Character(vec![(character, character)]));
                }
            }
        }
        self.place += 1;
        Ok(if characters.len() == 1 { characters.remove(0) } else { Node::Sequence(characters) })
    }

    fn class(&mut self) -> Result<Node, String> {
        self.place += 1;
        let is_negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.rest().starts_with(']') {
            if self.rest().is_empty() {
                return Err("a `[` is never closed".to_owned());
            }
            let first = self.character()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range {
                self.place += 1;
                self.character()?
            } else {
                first
            };
            if last < first {
                return Err(format!("the range {first:?} to {last:?} is empty"));
            }
            ranges.push((first, last));
        }
        self.place += 1;
        let ranges = tidied(ranges);
        let ranges = if is_negated { others(&ranges) } else { ranges };
        if ranges.is_empty() {
            return Err("a class without characters matches nothing".to_owned());
        }
        Ok(Node::Character(ranges))
    }

    /// A character of a text or a class, with llama.cpp's escapes.
    fn character(&mut self) -> Result<char, String> {
        let mut rest = self.rest().chars();
        let first = rest.next().ok_or("the text ends too early")?;
        self.place += first.len_utf8();
        if first != '\\' {
            return Ok(first);
        }
        let escape = rest.next().ok_or("the text ends in an escape")?;
        self.place += escape.len_utf8();
        let digits = match escape {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' | '^' | '/' => return Ok(escape),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(format!("`\\{escape}` is no escape")),
        };
        let text = self.rest().get(..digits).ok_or("an escape has too few digits")?;
        self.place += digits;
        let code = u32::from_str_radix(text, 16).ok().and_then(char::from_u32);
        code.ok_or_else(|| format!("`{text}` is no character"))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let rest = &self.text[self.place..];
        let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("a rule's name is expected, and there is {}", self.shown()));
        }
        self.place += end;
        Ok(&rest[..end])
    }

    fn number(&mut self, name: &'a str) -> Result<usize, String> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.names.len() == RULES_MAX {
            return Err(format!("there are more than {RULES_MAX} rules"));
        }
        self.numbers.insert(name, self.names.len());
        self.names.push(name.to_owned());
        self.bodies.push(None);
        Ok(self.names.len() - 1)
    }

    /// White space and comments.
    fn space(&mut self, also_lines: bool) {
        loop {
            let rest = self.rest();
            let is_space =
                |character| matches!(character, ' ' | '\t') || also_lines && matches!(character, '\r' | '\n');
            let length = match rest.chars().next() {
                Some('#') => rest.find(['\r', '\n']).unwrap_or(rest.len()),
                _ => rest.find(|character| !is_space(character)).unwrap_or(rest.len()),
            };
            if length == 0 {
                return;
            }
            self.place += length;
        }
    }

    fn take(&mut self, expected: &str) -> bool {
        let is_there = self.rest().starts_with(expected);
        self.place += if is_there { expected.len() } else { 0 };
        is_there
    }

    fn rest(&self) -> &'a str {
        &self.text[self.place..]
    }

    fn shown(&self) -> String {
        self.rest().chars().next().map_or("the end".to_owned(), |character| format!("{character:?}"))
    }

    fn line(&self) -> usize {
        1 + self.text[..self.place].matches('\n').count()
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// `m`, `m,` or `m,n`.
fn counts(text: &str) -> Option<(u32, Option<u32>)> {
    let count = |text: &str| text.trim().parse::<u32>().ok().filter(|&count| count <= REPETITION_MAX);
    match text.split_once(',') {
        None => count(text).map(|count| (count, Some(count))),
        Some((least, most)) if most.trim().is_empty() => Some((count(least)?, None)),
        Some((least, most)) => Some((count(least)?, Some(count(most)?))).filter(|(least, most)| Some(*least) <= *most),
    }
}

/// Ordered, and those that touch made one.
fn tidied(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut tidy: Vec<(char, char)> = Vec::new();
    for (first, last) in ranges {
        match tidy.last_mut() {
            Some(before) if first <= before.1 || next(before.1) == Some(first) => before.1 = before.1.max(last),
            _ => tidy.push((first, last)),
        }
    }
    tidy
}

/// Every character that is in none of the ranges.
fn others(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut others = Vec::new();
    let mut from = Some('\0');
    for &(first, last) in ranges {
        if let (Some(from), Some(before)) = (from, previous(first))
            && from <= before
        {
            others.push((from, before));
        }
        from = next(last);
    }
    others.extend(from.map(|from| (from, char::MAX)));
    others
}

fn next(character: char) -> Option<char> {
    (character..=char::MAX).nth(1)
}

fn previous(character: char) -> Option<char> {
    ('\0'..character).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, expected: &str) {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "{text:.80}: {error}");
    }

    fn body(text: &str) -> Node {
        let rules = parse(&format!("root ::= {text}")).unwrap_or_else(|error| panic!("{text:.80}: {error}"));
        rules.bodies[rules.root].clone()
    }

    fn one(character: char) -> Node {
        Node::Character(vec![(character, character)])
    }

    #[test]
    fn texts_classes_and_escapes_are_read() {
        assert_eq!(body(r#""a\n""#), Node::Sequence(vec![one('a'), one('\n')]));
        assert_eq!(body(r#""\x41\u00e9\U0001F642""#), Node::Sequence(vec![one('A'), one('é'), one('🙂')]));
        assert_eq!(body("[a-cb-f0]"), Node::Character(vec![('0', '0'), ('a', 'f')]));
        assert_eq!(body("[^b]"), Node::Character(vec![('\0', 'a'), ('c', char::MAX)]));
        assert_eq!(body(r"[\]a-]"), Node::Character(vec![('-', '-'), (']', ']'), ('a', 'a')]));
        assert_eq!(body("."), Node::Character(vec![('\0', char::MAX)]));
        assert_eq!(body(r#""""#), Node::Sequence(Vec::new()));
    }

    #[test]
    fn repetitions_and_groups_bind_as_in_llama_cpp() {
        let repeat = |node, least, most| Node::Repeat(Box::new(node), least, most);
        assert_eq!(body(r#""a"*"#), repeat(one('a'), 0, None));
        assert_eq!(body(r#""ab"{2,3}"#), repeat(Node::Sequence(vec![one('a'), one('b')]), 2, Some(3)));
        assert_eq!(
            body(r#"("a" | "b")+ "c""#),
            Node::Sequence(vec![repeat(Node::Choice(vec![one('a'), one('b')]), 1, None), one('c')])
        );
    }

    #[test]
    fn rules_may_go_on_in_groups_and_after_bars() {
        let rules =
            parse("# a comment\nroot ::= \"a\" | # here too\n  other\nother ::= (\n  \"b\"\n  \"c\"\n)\n").unwrap();
        assert_eq!(rules.bodies[0], Node::Choice(vec![one('a'), Node::Rule(1)]));
        assert_eq!(rules.bodies[1], Node::Sequence(vec![one('b'), one('c')]));
    }

    #[test]
    fn errors_name_the_line() {
        refused("root ::= \"a\"\nother = \"b\"", "line 2: `::=` is expected");
        refused("root ::= other", "`other` is used and not defined");
        refused("other ::= \"a\"", "no rule `root`");
        refused("root ::= \"a", "never closed");
        refused("root ::= (\"a\"", "a group is never closed");
        refused("root ::= [z-a]", "is empty");
        refused("root ::= \"a\"\nroot ::= \"b\"", "line 2: the rule `root` is defined twice");
        refused("root ::= \"a\"{3,2}", "no repetition");
        refused("root ::= \"a\"{100000}", "no repetition");
        refused("root ::= <[1]>", "tokens");
        refused(&format!("root ::= {}", "(".repeat(60_000)), "nest more than");
    }
}
