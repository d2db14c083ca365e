//! Reads a schema file.
//!
//! ```text
//! # What the API does; this comment becomes the doc of its module.
//!
//! api KEY NAME versions RANGE flexible RANGE|none
//!
//! request
//!   FIELD: TYPE[?[RANGE]] [@RANGE] [tag N] [= DEFAULT] [ignorable]
//!
//! response
//!   ...
//! ```
//!
//! - A RANGE is `3`, `3-7` or `3+`, which ends with what encloses it. A field without `@` is in every version of what encloses
//!   it.
//! - TYPE is bool, i8, i16, u16, i32, u32, i64, f64, uuid, string, bytes, records, error (an i16), `[]TYPE`, or the name of a
//!   struct. A struct is declared where it is first used: its fields follow, two spaces deeper.
//! - `?` allows null in every version of the field, `?RANGE` in those alone.
//! - The default of a value is zero, false or empty, of a nullable one too, unless `=` says otherwise; that of records is null.
//! - `ignorable`: in versions without the field its value is dropped; otherwise to have one is an error.
//!
//! This file knows lines and words; whether what they say makes sense is judged in `check.rs`.

use crate::schema::{Api, Error, Field, Literal, Role, Struct, Type, Versions};

const INDENT: usize = 2;

pub(crate) fn api(text: &str, file: &str) -> Result<Api, Error> {
    let lines = lines(text, file)?;
    let Some((header, body)) = lines.split_first() else {
        return Err(Error::new(file, 1, "expected `api KEY NAME versions RANGE flexible RANGE`"));
    };
    let mut api = header_line(header, file)?;
    api.doc = opening_comment(text);
    let versions = api.versions;
    let mut parser = Parser { api: &mut api, lines: body, at: 0 };
    for (keyword, role) in [("request", Role::Request), ("response", Role::Response)] {
        parser.section(keyword, role, versions)?;
    }
    match parser.peek() {
        None => Ok(api),
        Some(line) => Err(Error::new(file, line.number, "expected the end of the file after the response")),
    }
}

struct Line<'a> {
    number: usize,
    depth: usize,
    text: &'a str,
}

fn lines<'a>(text: &'a str, file: &str) -> Result<Vec<Line<'a>>, Error> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim_end();
        let text = content.trim_start();
        let indent = content.len() - text.len();
        if text.is_empty() {
            continue;
        }
        if indent % INDENT != 0 || text.starts_with('\t') {
            return Err(Error::new(file, index + 1, format!("indent by {INDENT} spaces a level")));
        }
        lines.push(Line { number: index + 1, depth: indent / INDENT, text });
    }
    Ok(lines)
}

fn opening_comment(text: &str) -> Vec<String> {
    let comment = text.lines().map_while(|line| line.strip_prefix('#'));
    comment.map(|line| line.trim().to_owned()).collect()
}

fn header_line(line: &Line<'_>, file: &str) -> Result<Api, Error> {
    let error = |what: String| Error::new(file, line.number, what);
    let words: Vec<&str> = line.text.split_whitespace().collect();
    let ["api", key, name, "versions", versions, "flexible", flexible] = words[..] else {
        return Err(error("expected `api KEY NAME versions RANGE flexible RANGE`".to_owned()));
    };
    let key = key.parse().map_err(|_| error(format!("`{key}` is not an API key")))?;
    let any = Versions { min: 0, max: i16::MAX };
    let versions = range(versions, any).map_err(error)?;
    let flexible_from = match flexible {
        "none" => None,
        flexible => Some(range(flexible, versions).map_err(error)?.min),
    };
    Ok(Api {
        file: file.to_owned(),
        line: line.number,
        doc: Vec::new(),
        key,
        name: name.to_owned(),
        versions,
        flexible_from,
        structs: Vec::new(),
    })
}

struct Parser<'a> {
    api: &'a mut Api,
    lines: &'a [Line<'a>],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Line<'a>> {
        self.lines.get(self.at)
    }

    fn section(&mut self, keyword: &str, role: Role, versions: Versions) -> Result<(), Error> {
        match self.peek() {
            Some(line) if line.text == keyword && line.depth == 0 => {
                self.at += 1;
                let suffix = if role == Role::Request { "Request" } else { "Response" };
                self.declare(format!("{}{suffix}", self.api.name), role, versions, line.number, 1)
            }
            Some(line) => Err(self.api.error(line.number, format!("expected `{keyword}`"))),
            None => Err(self.api.error(self.api.line, format!("the API has no `{keyword}`"))),
        }
    }

    /// A struct whose fields are the lines that follow at this depth.
    fn declare(
        &mut self,
        name: String,
        role: Role,
        versions: Versions,
        line: usize,
        depth: usize,
    ) -> Result<(), Error> {
        let place = self.api.structs.len();
        self.api.structs.push(Struct { line, name, versions, role, fields: Vec::new() });
        while let Some(line) = self.peek().filter(|line| line.depth >= depth) {
            if line.depth > depth {
                return Err(self
                    .api
                    .error(line.number, "indented, though what precedes it is no struct of its own"));
            }
            self.at += 1;
            let field = self.field(line, versions)?;
            let is_declared = self.peek().is_some_and(|next| next.depth > depth);
            if let (true, Some(name)) = (is_declared, field.ty.struct_name()) {
                self.declare(name.to_owned(), Role::Part, field.versions, line.number, depth + 1)?;
            }
            self.api.structs[place].fields.push(field);
        }
        Ok(())
    }

    fn field(&self, line: &Line<'_>, enclosing: Versions) -> Result<Field, Error> {
        let error = |what: String| self.api.error(line.number, what);
        let (name, rest) =
            line.text.split_once(": ").ok_or_else(|| error("expected `FIELD: TYPE`".to_owned()))?;
        let mut words = rest.split_whitespace();
        let declared = words.next().unwrap_or_default();
        let (ty, null) = match declared.split_once('?') {
            Some((ty, null)) => (ty, Some(null)),
            None => (declared, None),
        };
        let mut field = Field {
            line: line.number,
            name: name.to_owned(),
            ty: type_of(ty).map_err(error)?,
            versions: enclosing,
            nullable: None,
            tag: None,
            default: None,
            ignorable: false,
        };
        while let Some(word) = words.next() {
            match word {
                "tag" => field.tag = Some(number(words.next()).map_err(error)?),
                "=" => field.default = Some(literal(words.next()).map_err(error)?),
                "ignorable" => field.ignorable = true,
                _ => {
                    let versions =
                        word.strip_prefix('@').ok_or_else(|| error(format!("`{word}` says nothing here")))?;
                    field.versions = range(versions, enclosing).map_err(error)?;
                }
            }
        }
        field.nullable = match null {
            None => None,
            Some("") => Some(field.versions),
            Some(versions) => Some(range(versions, field.versions).map_err(error)?),
        };
        Ok(field)
    }
}

fn range(text: &str, enclosing: Versions) -> Result<Versions, String> {
    let parse = |number: &str| number.parse().map_err(|_| format!("`{text}` is not a range of versions"));
    let versions = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(min), _) => Versions { min: parse(min)?, max: enclosing.max },
        (None, Some((min, max))) => Versions { min: parse(min)?, max: parse(max)? },
        (None, None) => Versions { min: parse(text)?, max: parse(text)? },
    };
    if versions.min > versions.max || !versions.within(enclosing) {
        return Err(format!("`{text}` is not within the versions of what encloses it: {enclosing}"));
    }
    Ok(versions)
}

fn type_of(text: &str) -> Result<Type, String> {
    if let Some(element) = text.strip_prefix("[]") {
        return Ok(Type::Array(Box::new(type_of(element)?)));
    }
    Ok(match text {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "uuid" => Type::Uuid,
        "error" => Type::Error,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name if name.starts_with(|first: char| first.is_ascii_uppercase()) => Type::Struct(name.to_owned()),
        unknown => return Err(format!("`{unknown}` is not a type")),
    })
}

fn number(word: Option<&str>) -> Result<u32, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| "expected a number after `tag`".to_owned())
}

fn literal(word: Option<&str>) -> Result<Literal, String> {
    match word {
        Some("null") => Ok(Literal::Null),
        Some("true") => Ok(Literal::True),
        Some(word) => word.parse().map(Literal::Integer).map_err(|_| format!("`{word}` is not a default")),
        None => Err("expected a default after `=`".to_owned()),
    }
}
