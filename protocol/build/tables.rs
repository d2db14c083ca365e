//! The tables of API keys and error codes: `NUMBER NAME [retriable]` a line.

use crate::rust::Code;
use crate::schema::Error;

pub(crate) struct Row {
    pub(crate) number: i16,
    pub(crate) name: String,
    pub(crate) is_retriable: bool,
}

pub(crate) fn rows(text: &str, file: &str) -> Result<Vec<Row>, Error> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let error = |what: &str| Error::new(file, index + 1, what);
        let words: Vec<&str> = line.split(' ').collect();
        let (number, name, is_retriable) = match words[..] {
            [number, name] => (number, name, false),
            [number, name, "retriable"] => (number, name, true),
            _ => return Err(error("expected `NUMBER NAME`, with `retriable` where it holds")),
        };
        let number = number.parse().map_err(|_| error("does not begin with a number"))?;
        if rows.last().is_some_and(|last| last.number >= number) {
            return Err(error("numbers go up"));
        }
        rows.push(Row { number, name: name.to_owned(), is_retriable });
    }
    Ok(rows)
}

pub(crate) fn api_keys(rows: &[Row]) -> String {
    let mut code = Code::default();
    code.line("/// What a request asks for: Kafka's own numbers and names, those included that this crate has no schema for.");
    code.line("#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]");
    code.line("#[repr(i16)]");
    code.line("pub enum ApiKey {");
    for Row { number, name, .. } in rows {
        code.line(&format!("{name} = {number},"));
    }
    code.line("}");
    code.line("impl ApiKey {");
    code.line("/// Every key, in order of number.");
    code.line("pub const ALL: &'static [ApiKey] = &[");
    for Row { name, .. } in rows {
        code.line(&format!("ApiKey::{name},"));
    }
    code.line("];");
    code.line("/// Kafka's name of the API, as in `ListOffsets`.");
    code.line("pub const fn name(self) -> &'static str {");
    code.line("match self {");
    for Row { name, .. } in rows {
        code.line(&format!("ApiKey::{name} => \"{name}\","));
    }
    code.line("}");
    code.line("}");
    code.line("const fn from_code(code: i16) -> Option<ApiKey> {");
    code.line("Some(match code {");
    for Row { number, name, .. } in rows {
        code.line(&format!("{number} => ApiKey::{name},"));
    }
    code.line("_ => return None,");
    code.line("})");
    code.line("}");
    code.line("}");
    code.into_text()
}

pub(crate) fn error_codes(rows: &[Row]) -> String {
    let mut code = Code::default();
    code.line("impl ErrorCode {");
    for Row { number, name, .. } in rows {
        code.line(&format!("pub const {name}: ErrorCode = ErrorCode({number});"));
    }
    code.line("/// Every code with a name, in order of number.");
    code.line("pub const ALL: &'static [ErrorCode] = &[");
    for Row { name, .. } in rows {
        code.line(&format!("ErrorCode::{name},"));
    }
    code.line("];");
    code.line("const fn known_name(self) -> Option<&'static str> {");
    code.line("Some(match self.0 {");
    for Row { number, name, .. } in rows {
        code.line(&format!("{number} => \"{name}\","));
    }
    code.line("_ => return None,");
    code.line("})");
    code.line("}");
    code.line("/// Whether the same request may succeed if it is simply sent again.");
    code.line("pub const fn is_retriable(self) -> bool {");
    let retriable: Vec<String> =
        rows.iter().filter(|row| row.is_retriable).map(|row| row.number.to_string()).collect();
    code.line(&format!("matches!(self.0, {})", retriable.join(" | ")));
    code.line("}");
    code.line("}");
    code.into_text()
}
