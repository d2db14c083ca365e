//! The order of the house, read from the sources as text: imports only go down the map in each `lib.rs`, every file says what
//! it is, nothing half-done is left, and nothing of the machine it was written on.
//!
//! Built as a test of `xtask`, so that it runs before the broker compiles. It parses no Rust: comments and string literals are
//! blanked, and what is left is cut into words. Each rule is shown to find its violation in the samples at the end.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates, by the folder that holds their `lib.rs`.
const CRATES: &[&str] =
    &["model/src", "runtime/src", "protocol/src", "tiering/src", "src", "tests/checker/src"];

#[test]
fn imports_go_down_the_map() {
    let mut problems = Vec::new();
    for sources in CRATES {
        let files = tracked(sources, ".rs");
        let map = files.iter().find(|(path, _)| *path == format!("{sources}/lib.rs"));
        let (_, lib) = map.unwrap_or_else(|| panic!("{sources} has no lib.rs"));
        problems.extend(layers(sources, lib, &files));
    }
    report("a module imports only from those declared above it in lib.rs", problems);
}

#[test]
fn every_source_file_says_what_it_is() {
    let files = tracked("", ".rs");
    report(
        "every .rs file opens with `//!`: what this is",
        files.iter().filter_map(|(path, text)| headless(path, text)),
    );
}

#[test]
fn nothing_half_done_is_left() {
    let files = tracked("", "");
    report("no unfinished work is committed", files.iter().flat_map(|(path, text)| half_done(path, text)));
}

#[test]
fn nothing_of_this_machine_is_written_down() {
    let files = tracked("", "");
    report(
        "no registry host, mirror or path of one machine",
        files.iter().flat_map(|(path, text)| machine(path, text)),
    );
}

#[test]
fn versions_live_in_the_root() {
    let files = tracked("", "Cargo.toml");
    let members = files.iter().filter(|(path, _)| path.contains('/'));
    report(
        "versions live in the root Cargo.toml, once",
        members.flat_map(|(path, text)| versions(path, text)),
    );
}

/// The text files under `folder` that git tracks, or would if they were added, by path from the root.
fn tracked(folder: &str, ending: &str) -> Vec<(String, String)> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let root: PathBuf = root.expect("a workspace").to_owned();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]);
    let listed = git.output().expect("git is needed to know which files are ours");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let inside = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let files: Vec<(String, String)> = listed
        .split_terminator('\0')
        .filter(|path| path.starts_with(&inside) && path.ends_with(ending))
        // Deleted and not yet committed: gone; not UTF-8: a fixture, not a text.
        .filter_map(|path| Some((path.to_owned(), std::fs::read_to_string(root.join(path)).ok()?)))
        .collect();
    assert!(!files.is_empty(), "git tracks no file {inside}*{ending}");
    files
}

fn report(rule: &str, problems: impl IntoIterator<Item = String>) {
    let mut text = String::new();
    for problem in problems {
        writeln!(text, "  {problem}").expect("a String takes all");
    }
    assert!(text.is_empty(), "{rule}:\n{text}");
}

// ---- Layers

/// The modules of a `lib.rs` in order, and the module behind each name that it re-exports.
struct Map {
    modules: Vec<String>,
    reexports: BTreeMap<String, String>,
    problems: Vec<String>,
}

fn map(lib_path: &str, lib: &str) -> Map {
    let mut map = Map { modules: Vec::new(), reexports: BTreeMap::new(), problems: Vec::new() };
    let (mut doc, mut test_only) = (false, false);
    for (number, line) in lib.lines().enumerate() {
        let line = line.trim();
        let bare = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        if let Some(name) = bare.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            if !doc && !test_only {
                map.problems.push(format!(
                    "{lib_path}:{}: module `{name}` has no line of `///` above it",
                    number + 1
                ));
            }
            map.modules.push(name.to_owned());
        }
        let attribute = line.starts_with("#[");
        doc = line.starts_with("///") || (doc && attribute);
        test_only = line == "#[cfg(test)]" || (test_only && attribute);
    }
    let words = words(&blanked(lib));
    let uses = words.iter().enumerate().filter(|(_, word)| word.text == "use");
    for (at, _) in uses {
        for path in use_tree(&words, at + 1) {
            let path: Vec<&String> = path.iter().filter(|part| *part != "crate" && *part != "self").collect();
            if let [first, .., last] = path.as_slice() {
                map.reexports.insert((*last).clone(), (*first).clone());
            }
        }
    }
    map
}

fn layers(sources: &str, lib: &str, files: &[(String, String)]) -> Vec<String> {
    let map = map(&format!("{sources}/lib.rs"), lib);
    let mut problems = map.problems;
    for (path, text) in files {
        let inside = path.strip_prefix(sources).expect("listed by it").trim_start_matches('/');
        if inside == "lib.rs" || inside == "main.rs" || inside.starts_with("bin/") {
            continue;
        }
        let parts: Vec<&str> = inside.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
        let module = parts[0];
        // Unit tests may use what is built on top of their module: no circle comes of it.
        if parts.contains(&"tests") {
            continue;
        }
        let Some(rank) = map.modules.iter().position(|declared| declared == module) else {
            problems.push(format!("{path}: module `{module}` is not declared in {sources}/lib.rs"));
            continue;
        };
        for (line, name) in from_the_root(text, parts.len()) {
            let target = map.reexports.get(&name).unwrap_or(&name);
            match map.modules.iter().position(|declared| declared == target) {
                Some(found) if found <= rank => {}
                Some(_) => problems.push(format!(
                    "{path}:{line}: `{module}` imports `crate::{name}`, but {sources}/lib.rs declares `{target}` below \
                     `{module}`: move the shared thing down, or hand it in from above"
                )),
                None => problems.push(format!(
                    "{path}:{line}: `crate::{name}` is neither a module of {sources}/lib.rs nor a name that it re-exports"
                )),
            }
        }
    }
    problems
}

/// Every first name below the crate's root that a file mentions, by `crate::` or by as many `super::` as lead there, with its
/// line, outside of unit tests. `depth` is how deep the file's own module lies.
fn from_the_root(text: &str, depth: usize) -> Vec<(usize, String)> {
    let words = words(&blanked(text));
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word.text == text);
    let mut found = Vec::new();
    let (mut braces, mut inline_modules) = (0usize, Vec::new());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let mut next = at;
        match word.text.as_str() {
            "{" => {
                braces += 1;
                if at >= 2 && is(at - 2, "mod") {
                    inline_modules.push((braces, words[at - 1].text == "tests"));
                }
            }
            "}" => {
                inline_modules.pop_if(|(opened, _)| *opened == braces);
                braces = braces.saturating_sub(1);
            }
            // `$crate::` in a macro is its caller's.
            "crate" if is(at + 1, "::") && !(at > 0 && is(at - 1, "$")) => next = at + 2,
            "super" => {
                while is(next, "super") && is(next + 1, "::") {
                    next += 2;
                }
                let supers = (next - at) / 2;
                if supers > 0 && supers < depth + inline_modules.len() {
                    at = next;
                    continue;
                }
            }
            _ => {}
        }
        let in_tests = inline_modules.iter().any(|(_, tests)| *tests);
        if next > at && !in_tests {
            let firsts = use_tree(&words, next).into_iter().filter_map(|path| path.into_iter().next());
            found.extend(firsts.map(|first| (word.line, first)));
        }
        at = next.max(at + 1);
    }
    found
}

/// Unfolds `a::{b, c::d as e}` from word `from` on into paths.
fn use_tree(words: &[Word], from: usize) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    unfold(words, from, &[], &mut paths);
    paths
}

/// The place behind the tree; `prefix` is what stands before it.
fn unfold(words: &[Word], from: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word.text == text);
    let mut path = prefix.to_vec();
    let mut at = from;
    if is(at, "{") {
        at += 1;
        while !is(at, "}") {
            let behind = unfold(words, at, prefix, paths);
            if behind == at {
                // No tree after all, or the file ends inside of one.
                return at;
            }
            at = if is(behind, ",") { behind + 1 } else { behind };
        }
        return at + 1;
    }
    let Some(word) = words.get(at).filter(|word| is_name(&word.text) || word.text == "*") else { return at };
    path.push(word.text.clone());
    at += 1;
    if is(at, "::") {
        return unfold(words, at + 1, &path, paths);
    }
    if is(at, "as") {
        path.pop();
        path.extend(words.get(at + 1).map(|alias| alias.text.clone()));
        at += 2;
    }
    paths.push(path);
    at
}

struct Word {
    line: usize,
    text: String,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single signs.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut line = 1;
    let mut signs = text.char_indices().peekable();
    while let Some((start, sign)) = signs.next() {
        if sign == '\n' {
            line += 1;
        } else if sign.is_alphanumeric() || sign == '_' {
            let mut end = start + sign.len_utf8();
            while let Some((at, next)) = signs.next_if(|(_, next)| next.is_alphanumeric() || *next == '_') {
                end = at + next.len_utf8();
            }
            words.push(Word { line, text: text[start..end].to_owned() });
        } else if sign == ':' && signs.next_if(|(_, next)| *next == ':').is_some() {
            words.push(Word { line, text: "::".to_owned() });
        } else if !sign.is_whitespace() {
            words.push(Word { line, text: sign.to_string() });
        }
    }
    words
}

/// The source with comments, strings and characters blanked; lines keep their numbers.
fn blanked(text: &str) -> String {
    let signs: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < signs.len() {
        let end = opaque_end(&signs, at);
        if end == at {
            out.push(signs[at]);
            at += 1;
        } else {
            out.extend(signs[at..end].iter().map(|sign| if *sign == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment, string or character that starts at `at` ends; `at` itself if none starts here.
fn opaque_end(signs: &[char], at: usize) -> usize {
    let is = |from: usize, text: &str| {
        text.chars().enumerate().all(|(index, sign)| signs.get(from + index) == Some(&sign))
    };
    let until = |from: usize, text: &str| {
        (from..signs.len())
            .find(|start| is(*start, text))
            .map_or(signs.len(), |start| start + text.chars().count())
    };
    if is(at, "//") {
        return (at..signs.len()).find(|end| signs[*end] == '\n').unwrap_or(signs.len());
    }
    if is(at, "/*") {
        return comment_end(signs, at);
    }
    let after_name = at > 0 && (signs[at - 1].is_alphanumeric() || signs[at - 1] == '_');
    if !after_name {
        let raw = at + usize::from(signs[at] == 'b');
        let hashes = signs[(raw + 1).min(signs.len())..].iter().take_while(|sign| **sign == '#').count();
        if signs.get(raw) == Some(&'r') && signs.get(raw + 1 + hashes) == Some(&'"') {
            return until(raw + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    match (signs[at], signs.get(at + 1), signs.get(at + 2)) {
        ('"', ..) => {
            let mut end = at + 1;
            while end < signs.len() && signs[end] != '"' {
                end += if signs[end] == '\\' { 2 } else { 1 };
            }
            (end + 1).min(signs.len())
        }
        ('\'', Some('\\'), _) => until(at + 3, "'"),
        ('\'', _, Some('\'')) => at + 3,
        // A lifetime, or nothing of all this.
        _ => at,
    }
}

/// Block comments nest.
fn comment_end(signs: &[char], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end < signs.len() {
        match (signs[end], signs.get(end + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                end += 1;
                continue;
            }
        }
        end += 2;
        if depth == 0 {
            return end;
        }
    }
    signs.len()
}

// ---- The other rules

/// The file of a module's tests is described by its module; but it must not be empty.
fn headless(path: &str, text: &str) -> Option<String> {
    if path.ends_with("/tests.rs") && !text.trim().is_empty() {
        return None;
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    (!first.starts_with("//!")).then(|| format!("{path}:1: opens with `{first}`"))
}

/// What says that something is not done. Written so that this file does not hold it.
const HALF_DONE: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("#[ig", "nore"),
];

fn half_done(path: &str, text: &str) -> Vec<String> {
    mentions(path, text, HALF_DONE)
}

/// Where packages come from, and where this happens to be written, are the machine's business and not the project's.
const MACHINE: &[&str] = &[
    concat!("../sha", "red"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("registry.npm", "js"),
    concat!("files.pyth", "onhosted"),
    concat!("pypi", ".org"),
    concat!("repo.maven", ".apache"),
    concat!("repo1.ma", "ven"),
    concat!("proxy.go", "lang"),
    concat!("static.cra", "tes.io"),
    concat!("index.cra", "tes.io"),
    concat!("--index", "-url"),
    concat!("--reg", "istry"),
    concat!("GOPR", "OXY="),
];
/// Files that would name a registry whatever they say.
const LOCK_FILES: &[&str] =
    &["package-lock.json", "yarn.lock", "poetry.lock", ".npmrc", "pip.conf", "settings.xml"];

fn machine(path: &str, text: &str) -> Vec<String> {
    let mut problems = mentions(path, text, MACHINE);
    if LOCK_FILES.contains(&path.rsplit('/').next().unwrap_or(path)) {
        problems.push(format!("{path}: records where packages came from; pin exact versions instead"));
    }
    problems
}

fn mentions(path: &str, text: &str, forbidden: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let found = forbidden.iter().filter(|word| line.contains(**word));
        problems.extend(found.map(|word| format!("{path}:{}: `{word}`", number + 1)));
    }
    problems
}

fn versions(path: &str, text: &str) -> Vec<String> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    let mut problems = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
            let from_root = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            // A crate may name itself by path, to turn a feature on for its own tests.
            let path_only = value.get("path").is_some() && value.get("version").is_none();
            if !from_root && !path_only {
                problems
                    .push(format!("{path}: [{section}] {name} = {value}: write `{name}.workspace = true`"));
            }
        }
    }
    if manifest.get("package").and_then(|package| package.get("version")).is_some_and(toml::Value::is_str) {
        problems.push(format!("{path}: [package] version: write `version.workspace = true`"));
    }
    problems
}

// ---- Each rule finds what it is for

const SAMPLE_LIB: &str = "//! Sample.\n/// Low.\npub mod low;\n/// Middle.\nmod middle;\n/// High.\n#[cfg(unix)]\npub(crate) mod high;\n\n\
                          pub use high::{Tower, deep::Pit as Well};\n";

fn check(path: &str, text: &str, want: &[&str]) {
    let found = layers("a/src", SAMPLE_LIB, &[(format!("a/src/{path}"), text.to_owned())]);
    assert_eq!(found.len(), want.len(), "{path} with {text:?} gave {found:#?}");
    for (found, want) in found.iter().zip(want) {
        assert!(found.contains(want), "expected {want:?} in {found:?}");
    }
}

#[test]
fn an_import_that_goes_up_is_found() {
    check("middle.rs", "use crate::low::Thing;\nuse crate::middle::Own;", &[]);
    check(
        "middle.rs",
        "use crate::low;\nuse crate::high::Thing;",
        &["a/src/middle.rs:2: `middle` imports `crate::high`"],
    );
    check("middle/inner/mod.rs", "use crate::{low::{A, B as C}, high::D};", &["crate::high"]);
    check("middle.rs", "use crate::{\n    high,\n    low,\n};", &["crate::high"]);
    check("low.rs", "fn f() { crate::middle::g() }", &["declares `middle` below `low`"]);
    check("low.rs", "use crate::{Tower, Well};", &["crate::Tower", "crate::Well"]);
    check("high.rs", "use crate::{Tower, low};\npub(crate) fn f() {}", &[]);
    check("low.rs", "use crate::nowhere::X;", &["neither a module"]);
    check("stray.rs", "", &["not declared"]);
}

#[test]
fn a_super_that_reaches_the_root_counts_and_one_that_does_not_is_free() {
    check("middle.rs", "use super::high;", &["crate::high"]);
    check("middle/inner.rs", "use super::high;\nuse super::super::low;", &[]);
    check("middle/inner.rs", "use super::super::high;", &["crate::high"]);
    check("middle.rs", "mod tests { use super::*; fn f() { super::high() } }", &[]);
    check("middle.rs", "mod inner { use super::super::high; }\nuse super::low;", &["crate::high"]);
    check("middle.rs", "mod tests { use crate::high::X; use super::super::high; }", &[]);
    check("middle/tests.rs", "use crate::high;", &[]);
    check("middle.rs", "pub(super) fn f() { if x { g() } }", &[]);
}

#[test]
fn what_is_not_code_is_no_import() {
    check("low.rs", "// crate::high\n/* crate::high /* again */ crate::high */", &[]);
    check(
        "low.rs",
        "const A: &str = \"crate::high \\\" crate::high\"; const B: &str = r#\"\" crate::high\"#;",
        &[],
    );
    let signs = "fn f<'a>(x: &'a str) -> char { let q = '\"'; let e = '\\''; q }\nuse crate::high::X;";
    check("low.rs", signs, &["a/src/low.rs:2"]);
    check("low.rs", "macro_rules! m { () => { $crate::high::f() } }", &[]);
}

#[test]
fn a_module_without_a_doc_is_found() {
    let found = layers("a/src", "/// Low.\nmod low;\nmod middle;\n#[cfg(test)]\nmod tests;\n", &[]);
    assert_eq!(found, ["a/src/lib.rs:3: module `middle` has no line of `///` above it"]);
}

#[test]
fn the_other_rules_find_their_samples() {
    assert!(headless("a.rs", "use std::fs;\n").is_some() && headless("a.rs", "\n//! What.\n").is_none());
    assert!(headless("a/tests.rs", "use super::*;").is_none() && headless("a/tests.rs", "").is_some());
    assert_eq!(half_done("a.rs", &format!("fn f() {{\n    {})\n}}", HALF_DONE[0])).len(), 1);
    assert_eq!(machine("a.md", &format!("see {}x and\n{}y", MACHINE[0], MACHINE[3])).len(), 2);
    assert_eq!(machine("x/package-lock.json", "{}").len(), 1);
    assert_eq!(machine("a.md", "a page of docs is no registry, nor is example.org"), Vec::<String>::new());
    let bad = "[package]\nversion = \"1.0\"\n[dependencies]\na = \"1\"\nb.workspace = true\nc = { version = \"2\", optional = true }\n";
    assert_eq!(versions("x/Cargo.toml", bad).len(), 3);
    let good = "[package]\nversion.workspace = true\n[dev-dependencies]\nb = { workspace = true }\nx = { path = \".\" }\n";
    assert_eq!(versions("x/Cargo.toml", good), Vec::<String>::new());
}
