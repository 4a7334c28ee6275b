//! Values of WGSL's u32 expressions that depend on the invocation and on the round of a loop.

use std::collections::HashMap;
use std::rc::Rc;

/// Who evaluates an expression, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// The invocation's index in its workgroup.
    pub lane: u32,
    /// How many rounds every enclosing loop has ended.
    pub round: u32,
}

/// An expression whose names are resolved. A comparison is 1 or 0.
#[derive(Debug)]
pub enum Expression {
    Number(u32),
    Lane,
    Round,
    Call(String, Vec<Rc<Expression>>),
}

/// What names mean; `None` for a value that is no u32 expression.
pub type Names = HashMap<String, Option<Rc<Expression>>>;

impl Expression {
    /// Joins two expressions by an operator.
    pub fn joined(operator: &str, left: Rc<Self>, right: Rc<Self>) -> Rc<Self> {
        Rc::new(Self::Call(operator.to_owned(), vec![left, right]))
    }

    /// The value, if it is the same at every moment.
    pub fn constant(&self) -> Option<u32> {
        let varies = match self {
            Self::Number(_) => false,
            Self::Lane | Self::Round => true,
            Self::Call(_, operands) => operands.iter().any(|operand| operand.constant().is_none()),
        };
        (!varies).then(|| self.at(Moment::default()))
    }

    /// The value at a moment.
    ///
    /// # Panics
    /// If a function is not known here.
    pub fn at(&self, moment: Moment) -> u32 {
        match self {
            Self::Number(value) => *value,
            Self::Lane => moment.lane,
            Self::Round => moment.round,
            Self::Call(name, operands) => {
                let values: Vec<u32> = operands.iter().map(|operand| operand.at(moment)).collect();
                match (name.as_str(), values.as_slice()) {
                    ("+", [a, b]) => a.wrapping_add(*b),
                    ("-", [a, b]) => a.wrapping_sub(*b),
                    ("*", [a, b]) => a.wrapping_mul(*b),
                    ("/", [a, b]) => a / b,
                    ("%", [a, b]) => a % b,
                    ("^", [a, b]) => a ^ b,
                    ("==", [a, b]) => u32::from(a == b),
                    ("<", [a, b]) => u32::from(a < b),
                    (">", [a, b]) => u32::from(a > b),
                    ("min", [a, b]) => *a.min(b),
                    ("max", [a, b]) => *a.max(b),
                    ("select", [no, yes, condition]) => *if *condition == 0 { no } else { yes },
                    _ => panic!("no rule for {name} of {} values", values.len()),
                }
            }
        }
    }
}

/// Reads an expression. `None` if it is something else than a u32 expression of literals and of names with a meaning.
pub fn parsed(text: &str, names: &Names) -> Option<Rc<Expression>> {
    let mut reader = Reader { rest: text.trim(), names };
    let found = reader.operation(0)?;
    reader.rest.is_empty().then_some(found)
}

struct Reader<'a> {
    rest: &'a str,
    names: &'a Names,
}

/// Operators by how tightly they bind, loosest first.
const OPERATORS: [&[&str]; 4] = [&["==", "<", ">"], &["^"], &["+", "-"], &["*", "/", "%"]];

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    fn operation(&mut self, level: usize) -> Option<Rc<Expression>> {
        let Some(operators) = OPERATORS.get(level) else { return self.atom() };
        let mut left = self.operation(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.take(operator)) {
            left = Expression::joined(operator, left, self.operation(level + 1)?);
        }
        Some(left)
    }

    fn atom(&mut self) -> Option<Rc<Expression>> {
        if self.take("(") {
            let inner = self.operation(0)?;
            return self.take(")").then_some(inner);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if self.take("(") {
            let mut operands = vec![self.operation(0)?];
            while self.take(",") {
                operands.push(self.operation(0)?);
            }
            let known = ["min", "max", "select"].contains(&word);
            return (self.take(")") && known).then(|| Rc::new(Expression::Call(word.to_owned(), operands)));
        }
        if let Ok(number) = word.strip_suffix('u').unwrap_or(word).parse() {
            return Some(Rc::new(Expression::Number(number)));
        }
        // What all invocations of a workgroup share moves an access as a whole, and changes no conflict.
        if ["params.", "group."].iter().any(|owner| word.starts_with(owner)) {
            return Some(Rc::new(Expression::Number(0)));
        }
        match word {
            "true" | "false" => Some(Rc::new(Expression::Number(u32::from(word == "true")))),
            _ => self.names.get(word).cloned().flatten(),
        }
    }
}

#[test]
fn expressions_follow_the_usual_order() {
    let names = Names::from([("lane".to_owned(), Some(Rc::new(Expression::Lane))), ("four".to_owned(), None)]);
    let at = |text: &str, lane| parsed(text, &names).map(|found| found.at(Moment { lane, round: 0 }));
    assert_eq!(at("lane / 4u % 2u * 8u + (lane - 1u) * 3u", 7), Some(8 + 18));
    assert_eq!(at("select(4u, 8u, lane % 8u == 0u)", 8), Some(8));
    assert_eq!(at("(lane + 1u) ^ (lane % 4u)", 6), Some(7 ^ 2));
    assert_eq!(at("min(params.first + lane, 3u)", 9), Some(3));
    for text in ["lane[0]", "four + 1u", "other", "vec4<f32>(1.0)", "f(lane)", ""] {
        assert_eq!(at(text, 0), None, "{text}");
    }
}
