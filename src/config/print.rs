//! `--print-config`: each value and where it came from.
//!
//! The lines for people are a valid configuration file: what one broker prints, another can be started with.

use serde_json::json;

use super::reader::{Entry, Setting};
use super::resolved::Config;
use super::source::Source;
use super::values::ValueType;

impl Config {
    /// A line for each key of the broker, aligned, in sections, as TOML with the source as a comment.
    pub fn print(&self) -> String {
        let lines =
            self.entries().iter().filter_map(|entry| Some((entry, assignment(entry.broker?, entry, self))));
        let lines: Vec<(&Entry, String)> = lines.collect();
        let width =
            lines.iter().map(|(_, line)| line.len()).filter(|width| *width < WIDTH_MAX).max().unwrap_or(0);
        let mut out = String::new();
        let mut section = "";
        for (entry, line) in lines {
            if entry.section != section {
                section = entry.section;
                out.push_str(&format!("\n# {section}\n"));
            }
            out.push_str(&format!("{line:width$}  # {}\n", origin(entry)));
        }
        out.split_off(1)
    }

    /// The same for programs: an array of objects with `key`, `value`, `source` and `is_default`.
    pub fn print_json(&self) -> serde_json::Value {
        let keys = self.entries().iter().filter_map(|entry| {
            let Setting { value, source, .. } = entry.in_force();
            let is_default = *source == Source::Default;
            Some(json!({ "key": entry.broker?, "value": value, "source": origin(entry), "is_default": is_default }))
        });
        keys.collect()
    }
}

/// Longer assignments push their own comment out, not that of all others.
const WIDTH_MAX: usize = 60;

fn assignment(key: &str, entry: &Entry, config: &Config) -> String {
    let Setting { value, .. } = entry.in_force();
    let value = match entry.value_type {
        ValueType::Boolean | ValueType::Int | ValueType::Long => value.clone(),
        // TOML wants a digit behind the point.
        ValueType::Double if value.contains('.') => value.clone(),
        ValueType::Double => format!("{value}.0"),
        ValueType::String | ValueType::List => toml::Value::String(value.clone()).to_string(),
    };
    if needs_quotes(key, config) { format!("\"{key}\" = {value}") } else { format!("{key} = {value}") }
}

/// To TOML, `a.b.c` says that `a.b` is a table, which it cannot be where `a.b` is a value.
fn needs_quotes(key: &str, config: &Config) -> bool {
    let is_table = |other: &str| key.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
    config.entries().iter().filter_map(|entry| entry.broker).any(is_table)
}

fn origin(entry: &Entry) -> String {
    let Setting { name, source, .. } = entry.in_force();
    match entry.broker {
        Some(own) if own != *name => format!("{source}, as {name}"),
        _ => source.to_string(),
    }
}
