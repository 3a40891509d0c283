//! From rules over characters to rules over terminals.
//!
//! llguidance reads a text in two steps: a lexer takes the longest match of the terminals that may come next, and a
//! parser sees terminals only. GBNF knows no terminals, and no longest match. What no recursion goes through is regular
//! and becomes a terminal, as large as possible; a grammar without recursion is one terminal and exact. Where the longest
//! match of a terminal would take what belongs to its neighbour ([`super::overlap`]), it is taken apart again: a rule of
//! single characters means the same, and costs more per token.

use std::collections::{HashMap, HashSet};

use super::parse::{Node, Rules};

/// Rules over terminals.
#[derive(Debug)]
pub(crate) struct Lowered {
    /// By number; each is a node without recursion, in whose rules others are regular too.
    pub(crate) terminals: Vec<Node>,
    /// The rules that are left, the first one is where it starts.
    pub(crate) rules: Vec<Form>,
}

/// What may stand in a rule over terminals.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Terminal(usize),
    Rule(usize),
    Sequence(Vec<Form>),
    Choice(Vec<Form>),
    Repeat(Box<Form>, u32, Option<u32>),
}

/// Takes out what can never end; the error says that nothing is left.
pub(crate) fn prune(rules: &mut Rules) -> Result<(), String> {
    let mut ends = vec![false; rules.bodies.len()];
    loop {
        let before = ends.iter().filter(|&&ends| ends).count();
        for (number, body) in rules.bodies.iter().enumerate() {
            ends[number] = ends[number] || can_end(body, &ends);
        }
        if ends.iter().filter(|&&ends| ends).count() == before {
            break;
        }
    }
    if !ends[rules.root] {
        return Err("nothing matches it: every way through `root` goes on for ever".to_owned());
    }
    for body in &mut rules.bodies {
        keep_what_ends(body, &ends);
    }
    Ok(())
}

fn can_end(node: &Node, ends: &[bool]) -> bool {
    match node {
        Node::Character(_) => true,
        Node::Rule(rule) => ends[*rule],
        Node::Sequence(items) => items.iter().all(|item| can_end(item, ends)),
        Node::Choice(options) => options.iter().any(|option| can_end(option, ends)),
        Node::Repeat(item, least, _) => *least == 0 || can_end(item, ends),
    }
}

fn keep_what_ends(node: &mut Node, ends: &[bool]) {
    match node {
        Node::Character(_) | Node::Rule(_) => {}
        Node::Sequence(items) => {
            for item in items {
                keep_what_ends(item, ends);
            }
        }
        Node::Choice(options) => {
            options.retain(|option| can_end(option, ends));
            for option in options {
                keep_what_ends(option, ends);
            }
        }
        Node::Repeat(item, _, most) => {
            if can_end(item, ends) {
                keep_what_ends(item, ends);
            } else {
                *most = Some(0);
            }
        }
    }
}

/// Lowers the rules; the nodes of `apart` do not become terminals.
pub(crate) fn lower(rules: &Rules, apart: &HashSet<Node>) -> Lowered {
    let mut lowering = Lowering {
        rules,
        apart,
        is_regular: regular(rules),
        terminals: Vec::new(),
        numbers: HashMap::new(),
        lowered: Vec::new(),
        places: HashMap::new(),
    };
    let start = lowering.rule(rules.root);
    debug_assert_eq!(start, 0, "the root is lowered first");
    let mut next = 0;
    while next < lowering.lowered.len() {
        let Pending::Rule(number) = lowering.lowered[next] else { unreachable!("rules are lowered in order") };
        let form = lowering.form(&rules.bodies[number]);
        lowering.lowered[next] = Pending::Done(form);
        next += 1;
    }
    let rules = lowering.lowered.into_iter().map(|rule| match rule {
        Pending::Done(form) => form,
        Pending::Rule(_) => unreachable!("all rules were lowered"),
    });
    Lowered { rules: rules.collect(), terminals: lowering.terminals }
}

struct Lowering<'a> {
    rules: &'a Rules,
    apart: &'a HashSet<Node>,
    /// By rule: no recursion goes through it.
    is_regular: Vec<bool>,
    terminals: Vec<Node>,
    numbers: HashMap<Node, usize>,
    lowered: Vec<Pending>,
    /// By rule: its place in `lowered`.
    places: HashMap<usize, usize>,
}

enum Pending {
    Rule(usize),
    Done(Form),
}

impl Lowering<'_> {
    fn rule(&mut self, number: usize) -> usize {
        let place = self.lowered.len();
        *self.places.entry(number).or_insert_with(|| {
            self.lowered.push(Pending::Rule(number));
            place
        })
    }

    fn form(&mut self, node: &Node) -> Form {
        if self.is_terminal(node) {
            return Form::Terminal(self.terminal(node));
        }
        match node {
            Node::Character(_) => Form::Terminal(self.terminal(node)),
            Node::Rule(number) => Form::Rule(self.rule(*number)),
            Node::Choice(options) => {
                // Options that are regular are one terminal together.
                let (regular, rest): (Vec<&Node>, Vec<&Node>) =
                    options.iter().partition(|option| self.is_terminal(option));
                let mut forms: Vec<Form> = rest.into_iter().map(|option| self.form(option)).collect();
                let together = Node::Choice(regular.iter().map(|&option| option.clone()).collect());
                if regular.len() > 1 && self.is_terminal(&together) {
                    forms.push(Form::Terminal(self.terminal(&together)));
                } else {
                    forms.extend(regular.into_iter().map(|option| self.form(option)).collect::<Vec<_>>());
                }
                Form::Choice(forms)
            }
            Node::Sequence(items) => {
                let mut forms = Vec::new();
                let runs: Vec<&[Node]> = items.chunk_by(|a, b| self.is_terminal(a) && self.is_terminal(b)).collect();
                for run in runs {
                    let together = Node::Sequence(run.to_vec());
                    if run.len() > 1 && self.is_terminal(&together) {
                        forms.push(Form::Terminal(self.terminal(&together)));
                    } else {
                        forms.extend(run.iter().map(|item| self.form(item)).collect::<Vec<_>>());
                    }
                }
                Form::Sequence(forms)
            }
            Node::Repeat(item, least, most) => Form::Repeat(Box::new(self.form(item)), *least, *most),
        }
    }

    /// Whether a node is regular and may be a terminal.
    fn is_terminal(&self, node: &Node) -> bool {
        !self.apart.contains(node) && is_regular(node, &self.is_regular) && !self.is_apart_within(node)
    }

    /// A rule that stands for a node that is apart is apart itself.
    fn is_apart_within(&self, node: &Node) -> bool {
        match node {
            Node::Rule(rule) => self.apart.contains(&self.rules.bodies[*rule]),
            _ => false,
        }
    }

    fn terminal(&mut self, node: &Node) -> usize {
        if let Some(&number) = self.numbers.get(node) {
            return number;
        }
        self.numbers.insert(node.clone(), self.terminals.len());
        self.terminals.push(node.clone());
        self.terminals.len() - 1
    }
}

fn is_regular(node: &Node, rules: &[bool]) -> bool {
    match node {
        Node::Character(_) => true,
        Node::Rule(rule) => rules[*rule],
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().all(|node| is_regular(node, rules)),
        Node::Repeat(item, ..) => is_regular(item, rules),
    }
}

/// By rule: whether it reaches no rule that reaches itself. Without a stack: rules whose rules are all regular are, until
/// none is added.
fn regular(rules: &Rules) -> Vec<bool> {
    let mut known = vec![false; rules.bodies.len()];
    loop {
        let mut changed = false;
        for (number, body) in rules.bodies.iter().enumerate() {
            if !known[number] && is_regular(body, &known) {
                known[number] = true;
                changed = true;
            }
        }
        if !changed {
            return known;
        }
    }
}
