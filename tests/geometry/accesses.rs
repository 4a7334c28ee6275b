//! The accesses to workgroup memory that stand in a kernel's text.

use std::collections::HashMap;
use std::rc::Rc;

use crate::expression::{Expression, Moment, Names, parsed};

/// A kernel's accesses, and the size of its workgroups.
pub struct Accesses {
    /// Invocations of a workgroup.
    pub lanes: u32,
    /// In the order of the text.
    pub all: Vec<Access>,
}

/// One access, as it stands in the text.
pub struct Access {
    /// The variable and the index.
    pub text: String,
    /// Bytes of an element of the variable.
    pub bytes: u32,
    /// Bytes of the element's scalars.
    pub scalar: u32,
    /// Which element an invocation accesses; for a matrix, where its first row begins.
    pub index: Rc<Expression>,
    /// For a matrix: rows, and elements from one row to the next.
    pub matrix: Option<(u32, u32)>,
}

/// Reads every access of a kernel's text.
///
/// # Panics
/// If an index is not understood: then this reader has to learn what the shader does.
pub fn accesses(source: &str) -> Accesses {
    let text: String = source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut reader = Reader { text: &text, ..Reader::default() };
    reader.scopes.push(Names::new());
    reader.read();
    let size = between(&text, text.find("@workgroup_size").expect("an entry point"), '(', ')');
    let lanes = reader.resolved(size).expect("a size of constants").at(Moment::default());
    Accesses { lanes, all: reader.found }
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    scopes: Vec<Names>,
    /// The names that the next block will know: a loop's variable, a function's parameters.
    pending: Names,
    aliases: HashMap<&'a str, &'a str>,
    /// The variables in workgroup memory, with the bytes of an element and of its scalars.
    memory: HashMap<&'a str, (u32, u32)>,
    /// Blocks that are never entered: where they begin, and where the text goes on.
    dead: HashMap<usize, usize>,
    found: Vec<Access>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        let mut at = 0;
        while at < self.text.len() {
            if let Some(&end) = self.dead.get(&at) {
                at = end;
                continue;
            }
            let rest = &self.text[at..];
            let word = rest.split(|c: char| !is_of_name(c)).next().unwrap_or_default();
            at += match word {
                "alias" => self.alias(rest),
                "fn" => self.parameters(at),
                "for" => self.header(at),
                "if" => self.condition(at),
                "let" | "var" | "const" => self.definition(rest),
                "" => self.mark(rest),
                name => {
                    if let Some(&(bytes, scalar)) = self.memory.get(name).filter(|_| rest[name.len()..].starts_with('[')) {
                        self.access(at, name, [bytes, scalar]);
                    }
                    name.len()
                }
            };
        }
    }

    /// `alias NAME = TYPE;`
    fn alias(&mut self, rest: &'a str) -> usize {
        let (name, kind) = rest["alias ".len()..].split_once(" = ").expect("an alias");
        self.aliases.insert(name, kind.split(';').next().unwrap_or_default());
        "alias ".len()
    }

    /// A function's parameters are what its callers share, but for the invocation's own numbers.
    fn parameters(&mut self, at: usize) -> usize {
        let inside = between(self.text, at, '(', ')');
        for parameter in inside.split(',').filter_map(|one| one.rsplit_once(": ")) {
            let name = parameter.0.split_whitespace().last().unwrap_or_default();
            let value = if name == "lane" { Expression::Lane } else { Expression::Number(0) };
            self.pending.insert(name.to_owned(), Some(Rc::new(value)));
        }
        // A kernel for any size of subgroups: those of 32.
        let size = self.resolved("SUBGROUP_SIZE").unwrap_or_else(|| Rc::new(Expression::Number(32)));
        self.pending.insert("lane.index".to_owned(), Some(Rc::new(Expression::Lane)));
        self.pending.insert("lane.size".to_owned(), Some(Rc::clone(&size)));
        for (name, operator) in [("lane.subgroup", "/"), ("lane.place", "%")] {
            let own = Expression::joined(operator, Rc::new(Expression::Lane), Rc::clone(&size));
            self.pending.insert(name.to_owned(), Some(own));
        }
        self.text[at..].find('(').map_or(2, |open| open + inside.len() + 2)
    }

    /// `for (var NAME = START; ...; NAME++)`
    fn header(&mut self, at: usize) -> usize {
        let inside = between(self.text, at, '(', ')');
        let mut parts = inside.split(';');
        let (name, start) = parts.next().and_then(|first| first.strip_prefix("var ")?.split_once(" = ")).expect("a loop with a variable");
        let step = parts.nth(1).expect("a loop with a step").trim().trim_start_matches(name).trim();
        let step = if step == "++" { "1u" } else { step.trim_start_matches("+= ") };
        let (start, step) = (self.resolved(start), if step.starts_with("*=") { None } else { self.resolved(step) });
        let value = start.map(|start| match step {
            Some(step) => Expression::joined("+", start, Expression::joined("*", Rc::new(Expression::Round), step)),
            None => start,
        });
        self.pending.insert(name.to_owned(), value);
        self.text[at..].find('(').map_or(3, |open| open + inside.len() + 2)
    }

    /// `if CONDITION { .. } else { .. }`, where a kernel's constants may decide which block is entered.
    fn condition(&mut self, at: usize) -> usize {
        let open = |from: usize| self.text[from..].find('{').map(|brace| from + brace);
        let close = |open: usize| open + between(self.text, open, '{', '}').len() + 2;
        let first = open(at).expect("a block");
        let text = self.text[at + "if".len()..first].trim();
        let (text, wanted) = text.strip_prefix('!').map_or((text, true), |text| (text, false));
        // What a parameter decides is not the kernel's.
        let decided = self.resolved(text).filter(|_| !text.contains('.')).and_then(|condition| condition.constant());
        let Some(entered) = decided.map(|value| (value != 0) == wanted) else { return "if".len() };
        let end = close(first);
        let other = self.text[end..].trim_start().starts_with("else {").then(|| open(end)).flatten();
        if !entered {
            self.dead.insert(first, end);
        } else if let Some(other) = other {
            self.dead.insert(other, close(other));
        }
        "if".len()
    }

    /// `let NAME = VALUE;`, and the like. What stands in the value is read next.
    fn definition(&mut self, rest: &'a str) -> usize {
        let statement = rest.split(';').next().unwrap_or_default();
        if let Some(declared) = statement.strip_prefix("var<workgroup> ") {
            let (name, kind) = declared.split_once(": array<").expect("workgroup memory is in arrays");
            let kind =
                if kind.contains(">,") { &kind[..=kind.find(">,").unwrap_or(0)] } else { kind.split(',').next().unwrap_or_default() };
            self.memory.insert(name, self.sizes(kind));
            return statement.len();
        }
        let Some((head, value)) = statement.split_once(" = ") else { return statement.len() };
        let name = head.split([' ', ':']).nth(1).unwrap_or_default();
        let value = self.resolved(value);
        self.scopes.last_mut().expect("a scope").insert(name.to_owned(), value);
        head.len() + " = ".len()
    }

    /// Bytes of a type, and of its scalars.
    fn sizes(&self, kind: &str) -> (u32, u32) {
        let kind = self.aliases.get(kind).copied().unwrap_or(kind);
        if let Some((head, inner)) = kind.split_once('<') {
            let (_, scalar) = self.sizes(inner.trim_end_matches('>'));
            return (head.strip_prefix("vec").map_or(1, |width| width.parse().expect("a vector's width")) * scalar, scalar);
        }
        let scalar = if kind == "f16" { 2 } else { 4 };
        assert!(["f16", "f32", "u32"].contains(&kind), "workgroup memory of {kind}");
        (scalar, scalar)
    }

    fn mark(&mut self, rest: &str) -> usize {
        match rest.chars().next() {
            Some('{') => self.scopes.push(std::mem::take(&mut self.pending)),
            Some('}') => drop(self.scopes.pop()),
            _ => {}
        }
        rest.chars().next().map_or(1, char::len_utf8)
    }

    fn access(&mut self, at: usize, name: &str, [bytes, scalar]: [u32; 2]) {
        let index = between(self.text, at, '[', ']');
        let text = format!("{name}[{index}]");
        let Some(resolved) = self.resolved(index) else { panic!("{text}: the index is not understood") };
        let statement = self.text[..at].rsplit([';', '{', '}']).next().unwrap_or_default();
        let matrix = (statement.contains("coop")).then(|| {
            let behind = self.text[at + text.len()..].strip_prefix(", ").expect("a matrix has a stride");
            let number = |text: &str| self.resolved(text).map(|value| value.at(Moment::default()));
            let stride = behind.split(')').next().and_then(number);
            (number("SIDE").expect("a side"), stride.expect("a stride of constants"))
        });
        self.found.push(Access { text, bytes, scalar, index: resolved, matrix });
    }

    fn resolved(&self, text: &str) -> Option<Rc<Expression>> {
        let mut names = Names::new();
        for scope in self.scopes.iter().chain([&self.pending]) {
            names.extend(scope.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        parsed(text, &names)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What stands between a bracket, the first behind `at`, and the one that closes it.
fn between(text: &str, at: usize, open: char, close: char) -> &str {
    let start = at + text[at..].find(open).expect("a bracket") + 1;
    let mut depth = 1;
    let end = text[start..].find(|c| {
        depth += i32::from(c == open) - i32::from(c == close);
        depth == 0
    });
    &text[start..start + end.expect("a bracket that is closed")]
}

#[test]
fn accesses_are_read_with_the_names_of_their_place() {
    let text = "alias F = f16;
const PITCH: u32 = 2u * 4u; // stride[0]
const SIDE: u32 = 8u;
var<workgroup> tile: array<vec4<F>, 64>;
@compute @workgroup_size(PITCH * 4u)
fn main(@builtin(local_invocation_index) lane: u32) {
    let at = lane / 2u;
    for (var i = lane; i < 64u; i += 32u) {
        let at = i * PITCH;
        tile[at + 1u] = vec4<F>(0.0);
    }
    if SIDE == 8u {
    } else {
        tile[lane] = vec4<F>(0.0);
    }
    if !(SIDE == 8u) {
        tile[lane] = vec4<F>(0.0);
    }
    let m = coopLoad<Left>(&tile[at], PITCH);
}
";
    let Accesses { lanes, all } = accesses(text);
    assert_eq!((lanes, all.len()), (32, 2));
    assert_eq!((all[0].text.as_str(), all[0].bytes, all[0].scalar, all[0].matrix), ("tile[at + 1u]", 8, 2, None));
    assert_eq!(all[0].index.at(Moment { lane: 3, round: 1 }), (3 + 32) * 8 + 1);
    assert_eq!((all[1].index.at(Moment { lane: 5, round: 0 }), all[1].matrix), (2, Some((8, 8))));
}
