//! Whether what a schema says makes sense. The generator relies on all of it.

use std::collections::HashSet;

use crate::schema::{Api, Error, Field, Literal, Struct, Type};
use crate::tables::Row;

/// Words that cannot name a field of a Rust struct; those that Kafka could come up with.
const RESERVED: &[&str] =
    &["as", "async", "box", "const", "final", "in", "match", "move", "mut", "ref", "self", "type", "use"];

pub(crate) fn api(api: &Api) -> Result<(), Error> {
    let mut names = HashSet::new();
    for declared in &api.structs {
        if !names.insert(&declared.name) {
            let what =
                format!("`{}` is declared twice; request and response share one Rust module", declared.name);
            return Err(api.error(declared.line, what));
        }
        structure(api, declared)?;
    }
    Ok(())
}

/// The key and the name must be those of Kafka's table.
pub(crate) fn listed(api: &Api, api_keys: &[Row]) -> Result<(), Error> {
    match api_keys.iter().find(|row| row.number == api.key) {
        Some(row) if row.name == api.name => Ok(()),
        Some(row) => Err(api.error(api.line, format!("API key {} is {}", api.key, row.name))),
        None => Err(api.error(api.line, format!("API key {} is not in api_keys.list", api.key))),
    }
}

fn structure(api: &Api, declared: &Struct) -> Result<(), Error> {
    let mut names = HashSet::new();
    for field in &declared.fields {
        let error = |what: String| Err(api.error(field.line, what));
        let is_snake = field
            .name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        if !is_snake || field.name.is_empty() || RESERVED.contains(&field.name.as_str()) {
            return error(format!("`{}` cannot name a field", field.name));
        }
        if !names.insert(&field.name) {
            return error(format!("`{}` has two fields `{}`", declared.name, field.name));
        }
        if field.ignorable && field.versions == declared.versions {
            return error("no version lacks this field: there is nothing to ignore".to_owned());
        }
        nullable(api, field)?;
        default(api, field)?;
        referred(api, field)?;
    }
    tags(api, declared)
}

fn nullable(api: &Api, field: &Field) -> Result<(), Error> {
    if field.ty == Type::Records && field.nullable != Some(field.versions) {
        return Err(api.error(field.line, "records may be null in every version: write `records?`"));
    }
    if field.nullable.is_some() && !field.ty.may_be_null() {
        return Err(api.error(field.line, "a value of this type is never null"));
    }
    Ok(())
}

fn default(api: &Api, field: &Field) -> Result<(), Error> {
    let fits = match (&field.ty, &field.default) {
        (_, None) => true,
        (ty, Some(Literal::Null)) => *ty != Type::Records && field.nullable.is_some(),
        (Type::Bool, Some(Literal::True)) => true,
        (ty, Some(Literal::Integer(value))) => integer_fits(ty, *value),
        (_, Some(Literal::True)) => false,
    };
    if fits {
        Ok(())
    } else {
        Err(api.error(field.line, "the default is not a value of the field's type, or goes without saying"))
    }
}

fn integer_fits(ty: &Type, value: i64) -> bool {
    let fits = match ty {
        Type::I8 => i8::try_from(value).is_ok(),
        Type::I16 => i16::try_from(value).is_ok(),
        Type::U16 => u16::try_from(value).is_ok(),
        Type::I32 => i32::try_from(value).is_ok(),
        Type::U32 => u32::try_from(value).is_ok(),
        Type::I64 => true,
        _ => false,
    };
    fits && value != 0
}

fn referred(api: &Api, field: &Field) -> Result<(), Error> {
    if let Some(name) = field.ty.struct_name() {
        let Some(declared) = api.find(name) else {
            return Err(api.error(field.line, format!("`{name}` is declared nowhere")));
        };
        if !field.versions.within(declared.versions) {
            return Err(api
                .error(field.line, format!("`{name}` has no fields beyond versions {}", declared.versions)));
        }
    }
    if let Type::Array(element) = &field.ty {
        // The reader bounds an array's length by the bytes left, which says nothing of elements that take none.
        if api.encoded_size_min(element, field.versions) == 0 {
            return Err(api.error(field.line, "an element of this array may take no bytes"));
        }
    }
    Ok(())
}

fn tags(api: &Api, declared: &Struct) -> Result<(), Error> {
    let mut next = 0;
    for (tag, field) in declared.tagged() {
        if tag < next {
            return Err(api.error(field.line, "tags go up"));
        }
        next = tag + 1;
        if !api.is_flexible(field.versions.min) {
            return Err(api.error(field.line, "a tagged field in a version that is not flexible"));
        }
    }
    Ok(())
}
