//! Finds which module of a crate uses which, from the sources, and the import circles among the modules.

use std::collections::{BTreeMap, BTreeSet};

/// The segments of a module's path: `src/gpu/context.rs` is `["gpu", "context"]`, and `src/lib.rs` is empty.
type Module = Vec<String>;

/// A path as the code writes it: `super::context::Context`.
type Name = Vec<String>;

/// The names in one source file.
#[derive(Default)]
struct Source {
    /// The full path of each imported name.
    imports: BTreeMap<String, Name>,
    /// The names that the code mentions, including imports but not re-exports.
    mentions: BTreeSet<Name>,
}

/// The modules of one crate.
pub struct Crate(BTreeMap<Module, Source>);

impl Crate {
    /// Reads the modules of a crate. `files` gives each source's path below `src/`, and its code without unit tests.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(files.into_iter().map(|(path, code)| (module(path), Source::read(code))).collect())
    }

    /// Returns the sets of modules that use each other, directly or through other modules of the set.
    ///
    /// A module uses another if it mentions an item that the other defines. A re-export does not count as a use: code
    /// that mentions the re-exported item uses the module that defines it. Method calls name no module, so they are not
    /// seen.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let uses = |module| self.0[module].mentions.iter().filter_map(move |name| self.home(module, name)).collect();
        let uses: BTreeMap<&Module, BTreeSet<&Module>> = self.0.keys().map(|module| (module, uses(module))).collect();
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = uses.keys().map(|module| (*module, reached(module, &uses))).collect();
        let circle =
            |module: &&Module| reach[*module].iter().filter(|other| reach[**other].contains(module)).map(|m| m.join("::")).collect();
        let circles: BTreeSet<Vec<String>> = reach.keys().map(circle).filter(|circle: &Vec<String>| circle.len() > 1).collect();
        circles.into_iter().collect()
    }

    /// Returns the names of the crate `other` that modules mention, each with the module: `use meddino::ct::Size;` in
    /// `src/app.rs` gives `app` and `ct::Size`.
    pub fn names_of(&self, other: &str) -> Vec<(String, String)> {
        let names = |(module, source): (&Module, &Source)| {
            let found = source.mentions.iter().filter(|name| name[0] == other).map(|name| name[1..].join("::"));
            found.map(|name| (module.join("::"), name)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(names).collect()
    }

    /// Returns the module that defines `name` as `module` sees it, if it is an item of this crate.
    fn home(&self, module: &Module, name: &[String]) -> Option<&Module> {
        let (first, rest) = name.split_first()?;
        match first.as_str() {
            "crate" => self.home_below(&Module::new(), rest),
            "self" => self.home_below(module, rest),
            "super" => {
                let parent = module[..module.len().checked_sub(1)?].to_vec();
                if rest.first().is_some_and(|next| next == "super") { self.home(&parent, rest) } else { self.home_below(&parent, rest) }
            }
            _ if self.child(module, first).is_some() || self.0[module].imports.contains_key(first) => self.home_below(module, name),
            _ => None,
        }
    }

    /// Returns the module that defines the item `name` of `module`.
    fn home_below(&self, module: &Module, name: &[String]) -> Option<&Module> {
        let (first, rest) = name.split_first()?;
        let import = self.0.get(module)?.imports.get(first).map(|import| [import, rest].concat());
        match (self.child(module, first), import) {
            // In `mod plan; pub use plan::plan;` the name alone is the function.
            (Some(child), Some(import)) if rest.is_empty() && import[0] == *first => self.home_below(&child, &import[1..]),
            (Some(child), _) => self.home_below(&child, rest),
            // In `use glob::glob;` the name belongs to another crate.
            (None, Some(import)) if import[0] == *first => None,
            (None, Some(import)) => self.home(module, &import),
            (None, None) => self.0.get_key_value(module).map(|(module, _)| module),
        }
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let child = [&module[..], &[name.to_owned()]].concat();
        self.0.contains_key(&child).then_some(child)
    }
}

/// Returns every module that `module` uses, directly or through others.
fn reached<'a>(module: &'a Module, uses: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeSet<&'a Module> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![module]);
    while let Some(module) = next.pop() {
        next.extend(uses[module].iter().filter(|used| reached.insert(**used)));
    }
    reached
}

fn module(path: &str) -> Module {
    let mut segments: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    segments.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    segments
}

impl Source {
    fn read(code: &str) -> Self {
        let (tokens, mut source, mut at) = (tokens(code), Self::default(), 0);
        // The open braces, and whether each opens a module within the file.
        let mut braces = Vec::new();
        while at < tokens.len() {
            let token = |at: usize| tokens.get(at).map_or("", String::as_str);
            let [before, next] = [at.wrapping_sub(1), at + 1].map(token);
            let inner = braces.iter().filter(|is_module| **is_module).count();
            if token(at) == "use" && next != "<" {
                let end = at + tokens[at..].iter().position(|token| token == ";").expect("an import ends with a semicolon");
                for (alias, name) in imports(&tokens[at + 1..end], &[]) {
                    if before != "pub" && before != ")" {
                        source.mentions.insert(outside(inner, name.clone()));
                    }
                    if inner == 0 {
                        source.imports.insert(alias, name);
                    }
                }
                at = end;
            } else if is_name(token(at)) {
                let path = 1 + 2 * tokens[at + 1..].chunks_exact(2).take_while(|pair| pair[0] == "::" && is_name(&pair[1])).count();
                let name: Name = tokens[at..at + path].iter().step_by(2).cloned().collect();
                // A single lower-case name may be a variable, unless it is called.
                let is_item = name.len() > 1 || name[0].starts_with(char::is_uppercase) || next == "(";
                if is_item && before != "." && before != "::" {
                    source.mentions.insert(outside(inner, name));
                }
                at += path;
            } else {
                match token(at) {
                    "{" => braces.push(token(at.wrapping_sub(2)) == "mod"),
                    "}" => drop(braces.pop()),
                    _ => {}
                }
                at += 1;
            }
        }
        source
    }
}

/// Returns the path at the top of a file of `name`, which appears within `inner` nested modules.
fn outside(inner: usize, mut name: Name) -> Name {
    let up = name.iter().take(inner).take_while(|segment| *segment == "super").count();
    name.drain(..up);
    if up > 0 && name.first().is_some_and(|first| first != "super") {
        name.insert(0, "self".to_owned());
    }
    name
}

/// Returns the names that the import tree `a::{b, c as d}` brings in, each with its full path.
fn imports(tree: &[String], prefix: &[String]) -> Vec<(String, Name)> {
    let mut found = Vec::new();
    for branch in split_at_commas(tree) {
        let end = branch.iter().position(|token| token == "{" || token == "as").unwrap_or(branch.len());
        let mut name = [prefix, &branch[..end]].concat();
        name.retain(|token| token != "::");
        if branch.get(end).is_some_and(|token| token == "{") {
            found.extend(imports(&branch[end + 1..branch.len() - 1], &name));
            continue;
        }
        if name.len() > 1 {
            name.pop_if(|last| last == "self");
        }
        let alias = branch.get(end + 1).or(name.last()).expect("an import has a name").clone();
        found.push((alias, name));
    }
    found
}

/// Returns the parts of `tree` between commas outside braces.
fn split_at_commas(tree: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let is_comma = |token: &String| {
        depth += i32::from(token == "{") - i32::from(token == "}");
        depth == 0 && token == ","
    };
    tree.split(is_comma).filter(|branch| !branch.is_empty()).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits code into names, `::` and other single characters. Comments, strings and character literals are dropped.
fn tokens(code: &str) -> Vec<String> {
    let (chars, mut tokens, mut at): (Vec<char>, Vec<String>, usize) = (code.chars().collect(), Vec::new(), 0);
    let has = |at: usize, text: &str| text.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let past = |from: usize, text: &str| (from..chars.len()).find(|at| has(*at, text)).map_or(chars.len(), |at| at + text.chars().count());
    while at < chars.len() {
        let rest = &chars[at..];
        let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
        if has(at, "//") {
            at = past(at, "\n");
        } else if has(at, "/*") {
            at = past(at, "*/");
        } else if rest[0] == 'r' && rest.get(1 + hashes) == Some(&'"') {
            at = past(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        } else if rest[0] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if has(at, "'\\") {
            at = past(at + 3, "'");
        } else if rest[0] == '\'' && rest.get(2) == Some(&'\'') {
            at += 3;
        } else if rest[0] == '\'' {
            // A lifetime is not a name.
            at += 1 + rest[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        } else {
            let len = if has(at, "::") { 2 } else { word.max(1) };
            if !rest[0].is_whitespace() {
                tokens.push(rest[..len].iter().collect());
            }
            at += len;
        }
    }
    tokens
}

#[test]
fn a_planted_circle_is_found() {
    let files = [
        ("lib.rs", "pub mod room;\npub use room::low::Shared;"),
        ("room/mod.rs", "mod high;\nmod low;\npub mod mutual;\npub use high::run;\npub use low::{Shared, self as bottom};\n"),
        ("room/low.rs", "/* super::high::run */ pub struct Shared; const TEXT: &str = \"super::high::run()\";"),
        ("room/high.rs", "use super::Shared; pub fn run(_: Shared) {}"),
        ("room/mutual/mod.rs", "mod child;\npub struct Item;\nfn f() { child::work(); }"),
        ("room/mutual/child.rs", "pub fn work() -> super::Item { super::super::run(crate::Shared); super::Item }"),
    ];
    assert_eq!(Crate::new(files).circles(), [["room::mutual", "room::mutual::child"]]);
    let planted = files
        .map(|(path, code)| (path, if path == "room/low.rs" { "pub struct Shared; fn f() { crate::room::run(Shared) }" } else { code }));
    assert_eq!(Crate::new(planted).circles(), [["room::high", "room::low"], ["room::mutual", "room::mutual::child"]]);
}

#[test]
fn names_of_another_crate_are_found_in_imports_and_in_code() {
    let code = "use other::{a::{B, self}, C as D};\nfn f() -> other::gpu::Run { other::graph::plan(B, third::x()) }";
    let names = Crate::new([("app.rs", code)]).names_of("other");
    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["C", "a", "a::B", "gpu::Run", "graph::plan"]);
}
