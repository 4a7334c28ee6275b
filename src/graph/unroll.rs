//! Unrolls loops in a kernel's text.
//!
//! Some drivers keep a private array in slow memory if a loop's variable indexes it, and do not unroll the loops that
//! naga writes: on an NVIDIA H200 a product by cooperative matrices ran three times slower that way. So a shader marks
//! the loops over its private arrays, by `// unroll` at the end of the line of `for`. Each round of such a loop becomes
//! a block in which the variable is a constant:
//!
//! ```text
//! for (var i = 0u; i < ROWS; i++) { // unroll      { const i = 0u; sums[i] = 0.0; }
//!     sums[i] = 0.0;                          ->   { const i = 1u; sums[i] = 0.0; }
//! }
//! ```
//!
//! Start, bound and step are u32 expressions of literals, of the text's own constants (`const NAME: u32 = ...;` at the
//! begin of a line), and of the variables of enclosing unrolled loops. A marked loop that reads otherwise stays a loop;
//! it means the same. The body must not `break` or `continue` the marked loop.

use std::collections::HashMap;

const MARK: &str = "{ // unroll\n";

/// The values of constants, by their names.
type Names<'a> = HashMap<&'a str, u32>;

/// Returns the text with every marked loop unrolled.
pub(super) fn unrolled(text: &str) -> String {
    if text.contains(MARK) { expanded(text, &constants(text)) } else { text.to_owned() }
}

fn constants(text: &str) -> Names<'_> {
    let mut names = Names::new();
    for line in text.lines() {
        let Some((name, rest)) = line.strip_prefix("const ").and_then(|rest| rest.split_once(": u32 = ")) else { continue };
        if let Some(value) = rest.split(';').next().and_then(|value| evaluated(value, &names)) {
            names.insert(name, value);
        }
    }
    names
}

fn expanded(text: &str, names: &Names<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(mark) = rest.find(MARK) {
        let (line, body) = (rest[..mark].rfind('\n').map_or(0, |end| end + 1), mark + MARK.len());
        let rounds = rounds(rest[line..mark].trim(), names);
        let Some((variable, values, end)) = rounds.zip(closing(&rest[body..])).map(|((name, values), end)| (name, values, body + end))
        else {
            out += &rest[..body];
            rest = &rest[body..];
            continue;
        };
        out += &rest[..line];
        for value in values {
            let mut inner = names.clone();
            inner.insert(variable, value);
            out += &format!("{{ const {variable} = {value}u;\n{}}}\n", expanded(&rest[body..end], &inner));
        }
        rest = &rest[end + 1..];
    }
    out + rest
}

/// The index of the brace that closes a body.
fn closing(body: &str) -> Option<usize> {
    let mut depth = 1;
    body.char_indices().find_map(|(at, c)| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        (depth == 0).then_some(at)
    })
}

/// Returns the variable of `for (var NAME = START; NAME < BOUND; NAME += STEP)` and its value in each round.
fn rounds<'a>(header: &'a str, names: &Names<'_>) -> Option<(&'a str, Vec<u32>)> {
    let mut parts = header.strip_prefix("for (var ")?.strip_suffix(')')?.split("; ");
    let (name, start) = parts.next()?.split_once(" = ")?;
    let bound = parts.next()?.strip_prefix(name)?.strip_prefix(" < ")?;
    let step = match parts.next()?.strip_prefix(name)? {
        "++" => 1,
        step => evaluated(step.strip_prefix(" += ")?, names)?,
    };
    let values = evaluated(start, names)?..evaluated(bound, names)?;
    (step > 0).then(|| (name, values.step_by(step as usize).collect()))
}

/// The value of an expression of `+ - * / %`, parentheses, literals and names.
fn evaluated(text: &str, names: &Names<'_>) -> Option<u32> {
    let mut reader = Reader { rest: text.trim(), names };
    let value = reader.sum()?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
    names: &'a Names<'a>,
}

impl Reader<'_> {
    /// Reads one of these characters, and the spaces behind it.
    fn take(&mut self, of: &[char]) -> Option<char> {
        let found = self.rest.chars().next().filter(|c| of.contains(c))?;
        self.rest = self.rest[1..].trim_start();
        Some(found)
    }

    fn sum(&mut self) -> Option<u32> {
        let mut value = self.product()?;
        while let Some(operator) = self.take(&['+', '-']) {
            let other = self.product()?;
            value = if operator == '+' { value.checked_add(other)? } else { value.checked_sub(other)? };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<u32> {
        let mut value = self.atom()?;
        while let Some(operator) = self.take(&['*', '/', '%']) {
            let other = self.atom()?;
            value = match operator {
                '*' => value.checked_mul(other)?,
                '/' => value.checked_div(other)?,
                _ => value.checked_rem(other)?,
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<u32> {
        if self.take(&['(']).is_some() {
            let value = self.sum()?;
            return self.take(&[')']).map(|_| value);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let literal = || word.strip_suffix('u').unwrap_or(word).parse().ok();
        self.names.get(word).copied().or_else(literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_become_blocks_with_a_constant() {
        let text = "const N: u32 = 6u;\nconst HALF: u32 = N / (1u + 1u);\nfn f() {\n    for (var i = 1u; i < HALF; i++) { // unroll\n        y[i] = { 1 };\n    }\n    z();\n}\n";
        let want = "const N: u32 = 6u;\nconst HALF: u32 = N / (1u + 1u);\nfn f() {\n{ const i = 1u;\n        y[i] = { 1 };\n    }\n{ const i = 2u;\n        y[i] = { 1 };\n    }\n\n    z();\n}\n";
        assert_eq!(unrolled(text), want);
    }

    #[test]
    fn inner_loops_see_outer_variables() {
        let text = "for (var i = 0u; i < 3u; i += 2u) { // unroll\nfor (var j = i; j < i + 2u; j++) { // unroll\nf(i, j);\n}\n}\n";
        let lines: Vec<String> = unrolled(text).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let inner = |j: u32| vec![format!("{{ const j = {j}u;"), "f(i, j);".to_owned(), "}".to_owned()];
        let outer = |i: u32| [vec![format!("{{ const i = {i}u;")], inner(i), inner(i + 1), vec!["}".to_owned()]].concat();
        assert_eq!(lines, [outer(0), outer(2)].concat());
    }

    #[test]
    fn loops_that_are_not_understood_stay() {
        for text in [
            "for (var i = lane; i < 4u; i++) { // unroll\nf(i);\n}\n",
            "for (var i = 0u; i <= 4u; i++) { // unroll\nf(i);\n}\n",
            "for (var i = 0u; i < 1u - 2u; i++) { // unroll\nf(i);\n}\n",
            "for (var i = 0u; i < 4u / 0u; i++) { // unroll\nf(i);\n}\n",
            "for (var i = 0u; i < 4u; i += 0u) { // unroll\nf(i);\n}\n",
            "for (var i = 0u; i < 4u; i++) { // unroll\nf(i);\n",
            "for (var i = 0u; i < 2u; i++) {\nf(i);\n}\n",
        ] {
            assert_eq!(unrolled(text), text);
        }
        let some = "for (var i = lane; i < 4u; i++) { // unroll\nfor (var j = 0u; j < 1u; j++) { // unroll\nf(i);\n}\n}\n";
        assert_eq!(unrolled(some), "for (var i = lane; i < 4u; i++) { // unroll\n{ const j = 0u;\nf(i);\n}\n\n}\n");
    }

    #[test]
    fn expressions_follow_the_usual_order() {
        let names = Names::from([("A", 7), ("B_2", 3)]);
        for (text, want) in
            [("A - B_2 * 2u", Some(1)), ("(A + 1u) / 2u % B_2", Some(1)), ("A B_2", None), ("", None), ("(A", None), ("X", None)]
        {
            assert_eq!(evaluated(text, &names), want, "{text}");
        }
    }
}
