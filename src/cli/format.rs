//! How `aquifer consume` shows a record.

use std::io;

use aquifer_model::record::Record;
use serde_json::{Value, json};

use crate::cli::output::Output;

/// How records are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Texts and fields in turn.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// A field of the record.
    Field(Field),
}

/// A field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The topic's name.
    Topic,
    /// The partition's index.
    Partition,
    /// The offset.
    Offset,
    /// Milliseconds since 1970.
    Timestamp,
    /// The key's bytes; nothing for null.
    Key,
    /// The value's bytes; nothing for null.
    Value,
    /// `name=value` between commas.
    Headers,
}

/// The fields by name.
const FIELDS: [(&str, Field); 7] = [
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("timestamp", Field::Timestamp),
    ("key", Field::Key),
    ("value", Field::Value),
    ("headers", Field::Headers),
];

impl Format {
    /// Reads a template such as `{offset}\t{key}={value}\n`; `{{` is a brace, `\n`, `\t`, `\0` and `\\` are what they are in C.
    pub fn parse(template: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => text.push(match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('0') => '\0',
                    Some('\\') => '\\',
                    other => {
                        return Err(format!(
                            "\\{} is no escape",
                            other.map(String::from).unwrap_or_default()
                        ));
                    }
                }),
                '{' if chars.as_str().starts_with('{') => {
                    chars.next();
                    text.push('{');
                }
                '{' => {
                    let (name, rest) = chars.as_str().split_once('}').ok_or("a { has no }")?;
                    chars = rest.chars();
                    let known = FIELDS.iter().find(|(known, _)| *known == name);
                    let names = || FIELDS.map(|(name, _)| name).join(", ");
                    let (_, field) = known.ok_or_else(|| format!("{{{name}}} is none of {}", names()))?;
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Field(*field));
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Format::Template(pieces))
    }

    /// Shows a record.
    pub fn write(&self, out: &mut Output, topic: &str, partition: i32, record: &Record) -> io::Result<()> {
        let pieces = match self {
            Format::Json => return out.json(&as_json(topic, partition, record)),
            Format::Template(pieces) => pieces,
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.bytes(text.as_bytes())?,
                Piece::Field(Field::Topic) => out.bytes(topic.as_bytes())?,
                Piece::Field(Field::Partition) => out.bytes(partition.to_string().as_bytes())?,
                Piece::Field(Field::Offset) => out.bytes(record.offset.to_string().as_bytes())?,
                Piece::Field(Field::Timestamp) => out.bytes(record.timestamp.to_string().as_bytes())?,
                Piece::Field(Field::Key) => out.bytes(record.key.as_deref().unwrap_or_default())?,
                Piece::Field(Field::Value) => out.bytes(record.value.as_deref().unwrap_or_default())?,
                Piece::Field(Field::Headers) => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut Output, record: &Record) -> io::Result<()> {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        out.bytes(if index > 0 { b"," } else { b"" })?;
        out.bytes(name)?;
        out.bytes(b"=")?;
        out.bytes(value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// Bytes that are no text are shown in hexadecimal, under a name that says so.
fn as_json(topic: &str, partition: i32, record: &Record) -> Value {
    let mut shown = json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset.get(),
        "timestamp": record.timestamp.millis(),
    });
    put(&mut shown, "key", record.key.as_deref());
    put(&mut shown, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = json!({ "name": String::from_utf8_lossy(name) });
        put(&mut header, "value", value.as_deref());
        header
    });
    shown["headers"] = headers.collect();
    shown
}

fn put(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => object[name] = Value::Null,
        Some((Ok(text), _)) => object[name] = Value::from(text),
        Some((Err(_), bytes)) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object[format!("{name}_hex")] = Value::from(hex);
        }
    }
}

#[cfg(test)]
mod tests {
    use aquifer_model::{Offset, Timestamp};
    use bytes::Bytes;

    use super::*;

    #[test]
    fn templates_are_texts_and_fields_in_turn() {
        let text = |text: &str| Piece::Text(text.to_owned());
        for (template, expected) in [
            ("", Ok(vec![])),
            (r"{value}\n", Ok(vec![Piece::Field(Field::Value), text("\n")])),
            (
                r"a{{\t\\{key}{offset}",
                Ok(vec![text("a{\t\\"), Piece::Field(Field::Key), Piece::Field(Field::Offset)]),
            ),
            ("{offset", Err("a { has no }".to_owned())),
            (r"\x", Err(r"\x is no escape".to_owned())),
            (
                "{size}",
                Err("{size} is none of topic, partition, offset, timestamp, key, value, headers".to_owned()),
            ),
        ] {
            assert_eq!(Format::parse(template), expected.map(Format::Template), "{template}");
        }
    }

    #[test]
    fn json_tells_null_from_empty_and_bytes_from_text() {
        let record = Record {
            offset: Offset::new(5).unwrap(),
            timestamp: Timestamp(7),
            key: None,
            value: Some(Bytes::from_static(&[0xff, 0])),
            headers: vec![(Bytes::from_static(b"h"), Some(Bytes::new()))],
        };
        let expected = json!({
            "topic": "t", "partition": 3, "offset": 5, "timestamp": 7, "key": null, "value_hex": "ff00",
            "headers": [{ "name": "h", "value": "" }],
        });
        assert_eq!(as_json("t", 3, &record), expected);
    }
}
