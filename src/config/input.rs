//! The places that a broker's configuration is given in: file, environment, flags.
//!
//! Nothing here knows which keys exist; it brings each place's values into one layer of texts by dotted key.

use std::sync::Arc;

use super::problem::Problem;
use super::source::{Given, Layer, Source};
use super::unknown::VARIABLE_PREFIX;

/// Variables of ours that are no configuration of a broker.
const OTHER_VARIABLES: &[&str] = &["AQUIFER_BOOTSTRAP"];

/// All that a broker's configuration is made of; each place goes before those above it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A command's own defaults, by key.
    pub command: Vec<CommandDefault>,
    /// The configuration file.
    pub file: Option<FileText>,
    /// The process's environment, whole: what is not ours is passed over.
    pub environment: Vec<(String, String)>,
    /// Flags that stand for a key.
    pub flags: Vec<Flag>,
    /// `--set`, each as `key=value`; of one key, the last counts.
    pub sets: Vec<String>,
}

/// A command's own default for a key.
#[derive(Debug, Clone)]
pub struct CommandDefault {
    /// The command, such as `aquifer dev`.
    pub command: &'static str,
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// A configuration file, read.
#[derive(Debug, Clone)]
pub struct FileText {
    /// Its path, for messages.
    pub path: String,
    /// TOML.
    pub text: String,
}

/// A flag that stands for a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag, such as `--listen`.
    pub flag: &'static str,
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
}

/// The layers, weakest first, and what could not be read.
pub(super) fn layers(sources: Sources) -> (Vec<Layer>, Vec<Problem>) {
    let mut problems = Vec::new();
    let Sources { command, file, environment, flags, sets } = sources;
    let command = command.into_iter().map(|default| {
        let CommandDefault { command, key, value } = default;
        (key.to_owned(), Given { text: value, source: Source::Command(command) })
    });
    let flags = flags
        .into_iter()
        .map(|Flag { flag, key, value }| (key.to_owned(), Given { text: value, source: Source::Flag(flag) }));
    let layers = vec![
        command.collect(),
        file.map(|file| file_layer(file, &mut problems)).unwrap_or_default(),
        environment_layer(environment),
        flags.collect(),
        sets_layer(sets, &mut problems),
    ];
    (layers, problems)
}

fn environment_layer(environment: Vec<(String, String)>) -> Layer {
    let ours = environment.into_iter().filter(|(variable, _)| !OTHER_VARIABLES.contains(&variable.as_str()));
    let given = ours.filter_map(|(variable, text)| {
        let key = variable.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase().replace('_', ".");
        Some((key, Given { text, source: Source::Environment(variable.into()) }))
    });
    given.collect()
}

fn sets_layer(sets: Vec<String>, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::new();
    for set in sets {
        match set.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                layer.insert(key.trim().to_owned(), Given { text: value.to_owned(), source: Source::Set });
            }
            _ => problems.push(Problem {
                key: String::new(),
                value: None,
                source: Source::Set,
                why: format!("{set:?} is no key=value"),
            }),
        }
    }
    layer
}

fn file_layer(file: FileText, problems: &mut Vec<Problem>) -> Layer {
    let source = Source::File(Arc::from(file.path));
    let table = match file.text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            problems.push(Problem {
                key: String::new(),
                value: None,
                source,
                why: syntax_error(&file.text, &error),
            });
            return Layer::new();
        }
    };
    let mut layer = Layer::new();
    flatten("", table, &source, &mut layer, problems);
    layer
}

/// Where and why a file is no TOML. A key that another key begins with is TOML's own trap, and worth a hint: Kafka has
/// `max.connections` and `max.connections.per.ip`.
fn syntax_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let why = error.message().replace('\n', ", ");
    let hint = match why.contains("duplicate") || why.contains("extend") {
        true => "; a key that begins with another key must be quoted, as in \"max.connections.per.ip\" = 10",
        false => "",
    };
    format!("line {line}: {why}{hint}")
}

fn flatten(
    prefix: &str,
    table: toml::Table,
    source: &Source,
    layer: &mut Layer,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let text = match value {
            toml::Value::Table(table) => {
                flatten(&key, table, source, layer, problems);
                continue;
            }
            value => text_of(value),
        };
        let why = match text {
            Some(text) => match layer.insert(key.clone(), Given { text, source: source.clone() }) {
                None => continue,
                Some(_) => "is given twice, once quoted and once as a table",
            },
            None => "must be a number, true, false, a text or a list of texts",
        };
        problems.push(Problem { key, value: None, source: source.clone(), why: why.to_owned() });
    }
}

fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(value.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.into_iter().map(text_of).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
