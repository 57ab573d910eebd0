//! A bundle: an ES module joined with all that it imports, so that a page asks for one file. Each module
//! in it keeps a scope of its own, and one that throws takes down only those that import from it, as
//! when the browser loads them one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Reports what a module throws as the browser would, and goes on.
const PRELUDE: &str = "const part = (run) => {\n\
    try { return run(); } catch (error) { setTimeout(() => { throw error; }); }\n\
    };\n";

/// The bundles by name: one for every module that no other imports. The modules are given by file name,
/// without comments, a statement a line.
///
/// # Panics
///
/// At an import or export of a form that none of ours has, and at modules that import each other.
pub fn all(modules: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_imported = |name: &str| {
        let specifier = format!("'./{name}'");
        modules.values().any(|module| module.contains(&specifier))
    };
    let entries = modules.keys().filter(|name| !is_imported(name));
    entries
        .map(|name| {
            let imports = modules[name]
                .lines()
                .any(|line| line.starts_with("import "));
            let bundle = if imports {
                let mut bundle = Bundle {
                    modules,
                    text: PRELUDE.to_owned(),
                    begun: Vec::new(),
                    done: Vec::new(),
                };
                bundle.add(name);
                bundle.text
            } else {
                modules[name].clone()
            };
            (name.clone(), bundle)
        })
        .collect()
}

struct Bundle<'a> {
    modules: &'a BTreeMap<String, String>,
    text: String,
    begun: Vec<String>,
    done: Vec<String>,
}

impl Bundle<'_> {
    /// Adds a module behind those it imports, in the order in which it names them.
    fn add(&mut self, name: &str) {
        if self.done.iter().any(|done| done == name) {
            return;
        }
        assert!(
            !self.begun.iter().any(|begun| begun == name),
            "{name} imports itself, by way of others"
        );
        self.begun.push(name.to_owned());
        let module = &self.modules[name];
        let mut body = String::new();
        let mut exports = Vec::new();
        for line in module.lines() {
            if let Some(import) = line.strip_prefix("import ") {
                let (names, from) = import_of(import)
                    .unwrap_or_else(|| panic!("{name}: an import of another form: {line}"));
                self.add(from);
                if let Some(names) = names {
                    let names = names.replace(" as ", ": ");
                    writeln!(body, "const {names} = {};", variable(from)).expect("a string");
                }
            } else if let Some(declaration) = line.strip_prefix("export ") {
                let names = exports_of(declaration)
                    .unwrap_or_else(|| panic!("{name}: an export of another form: {line}"));
                exports.extend(names);
                body += declaration;
                body.push('\n');
            } else {
                body += line;
                body.push('\n');
            }
        }
        if !exports.is_empty() {
            let variable = variable(name);
            write!(self.text, "const {variable} = ").expect("a string");
            writeln!(body, "return {{ {} }};", exports.join(", ")).expect("a string");
        }
        if !body.is_empty() {
            self.text += &format!("part(() => {{\n{body}}});\n");
        }
        self.done.push(name.to_owned());
    }
}

/// `{ a, b as c } from './file.js';` or `'./file.js';`: the names in braces, and the file.
fn import_of(import: &str) -> Option<(Option<&str>, &str)> {
    let (names, from) = match import.split_once(" from ") {
        Some((names, from)) => (Some(names), from),
        None => (None, import),
    };
    let is_list = names.is_none_or(|names| names.starts_with('{') && names.ends_with('}'));
    let file = from.strip_prefix("'./")?.strip_suffix("';")?;
    is_list.then_some((names, file))
}

/// The names that a declaration of functions or constants declares.
fn exports_of(declaration: &str) -> Option<Vec<&str>> {
    let function = declaration.strip_prefix("async ").unwrap_or(declaration);
    if let Some(function) = function.strip_prefix("function ") {
        return Some(vec![function.split_once('(')?.0]);
    }
    let (names, _) = declaration.strip_prefix("const ")?.split_once(" = ")?;
    match names.strip_prefix("{ ") {
        Some(names) => Some(names.strip_suffix(" }")?.split(", ").collect()),
        None => Some(vec![names]),
    }
}

/// The variable that holds what a module exports.
fn variable(name: &str) -> String {
    format!("${}", name.trim_end_matches(".js"))
}
