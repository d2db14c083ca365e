//! Writing Rust: lines with their indentation, and the names and types of the generated code.

use crate::schema::{Field, Literal, Type, Versions};

/// Text under construction. Lines are indented by the braces that they open and close, so that what comes out can be read.
#[derive(Default)]
pub(crate) struct Code {
    text: String,
    depth: usize,
}

impl Code {
    pub(crate) fn line(&mut self, line: &str) {
        if line.starts_with(['}', ']', ')']) {
            self.depth = self.depth.saturating_sub(1);
        }
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(line);
        self.text.push('\n');
        if line.ends_with(['{', '[', '(']) {
            self.depth += 1;
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// `ListOffsets` becomes `list_offsets`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Whether a line of code has this word in it, and not merely as a part of another.
pub(crate) fn mentions(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').any(|found| found == word)
}

pub(crate) fn field_type(field: &Field) -> String {
    let ty = rust_type(&field.ty);
    // Records know by themselves whether they are null.
    if field.nullable.is_some() && field.ty != Type::Records { format!("Option<{ty}>") } else { ty }
}

pub(crate) fn rust_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::I8 => "i8".to_owned(),
        Type::I16 => "i16".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::I32 => "i32".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::I64 => "i64".to_owned(),
        Type::F64 => "f64".to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::Error => "ErrorCode".to_owned(),
        Type::String => "Str".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Records => "Records".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", rust_type(element)),
    }
}

pub(crate) fn default_value(field: &Field) -> String {
    if field.nullable.is_some() && field.ty != Type::Records {
        return if field.defaults_to_null() {
            "None".to_owned()
        } else {
            format!("Some({})", empty_value(&field.ty))
        };
    }
    match &field.default {
        Some(Literal::True) => "true".to_owned(),
        Some(Literal::Integer(value)) => value.to_string(),
        Some(Literal::Null) | None => empty_value(&field.ty),
    }
}

fn empty_value(ty: &Type) -> String {
    match ty {
        Type::Bool => "false".to_owned(),
        Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::U32 | Type::I64 => "0".to_owned(),
        Type::F64 => "0.0".to_owned(),
        Type::Uuid => "Uuid::nil()".to_owned(),
        Type::Error => "ErrorCode::NONE".to_owned(),
        Type::String => "Str::EMPTY".to_owned(),
        Type::Bytes => "Bytes::new()".to_owned(),
        Type::Records => "Records::NULL".to_owned(),
        Type::Struct(name) => format!("{name}::default()"),
        Type::Array(_) => "Vec::new()".to_owned(),
    }
}

/// An expression that is true when the field has another value than its default.
pub(crate) fn is_set(field: &Field) -> String {
    let place = format!("self.{}", field.name);
    if field.ty == Type::Records {
        return format!("!{place}.is_null()");
    }
    if field.nullable.is_some() {
        return match (&field.ty, field.defaults_to_null()) {
            (_, true) => format!("{place}.is_some()"),
            (Type::Struct(_), false) => format!("{place} != {}", default_value(field)),
            (_, false) => format!("{place}.as_ref().is_none_or(|value| !value.is_empty())"),
        };
    }
    match (&field.ty, &field.default) {
        (Type::Bool, None) => place,
        (Type::Bool, Some(_)) => format!("!{place}"),
        (Type::Uuid, _) => format!("!{place}.is_nil()"),
        (Type::String | Type::Bytes | Type::Array(_), _) => format!("!{place}.is_empty()"),
        _ => format!("{place} != {}", default_value(field)),
    }
}

/// Whether `#[derive(Default)]` gives the field its default.
pub(crate) fn has_derived_default(field: &Field) -> bool {
    match field.default {
        None => field.nullable.is_none() || field.ty == Type::Records,
        Some(Literal::Null) => true,
        Some(Literal::True | Literal::Integer(_)) => false,
    }
}

/// The test that a version lies in `versions`, given that it lies in `outer`; `None` if it always does.
pub(crate) fn version_test(versions: Versions, outer: Versions) -> Option<String> {
    let Versions { min, max } = versions;
    match (min > outer.min, max < outer.max) {
        (false, false) => None,
        (true, false) => Some(format!("version >= {min}")),
        (false, true) => Some(format!("version <= {max}")),
        (true, true) if min == max => Some(format!("version == {min}")),
        (true, true) => Some(format!("({min}..={max}).contains(&version)")),
    }
}

/// The test that a version of `outer` does not lie in `versions`.
pub(crate) fn absence_test(versions: Versions, outer: Versions) -> Option<String> {
    let Versions { min, max } = versions;
    match (min > outer.min, max < outer.max) {
        (false, false) => None,
        (true, false) => Some(format!("version < {min}")),
        (false, true) => Some(format!("version > {max}")),
        (true, true) => Some(format!("!({min}..={max}).contains(&version)")),
    }
}
