//! What a schema file says, once read: an API, its structs, their fields.
//!
//! Structs of an API lie in one flat list in order of appearance (request first), since they become one Rust module; a field
//! refers to a struct by name. Version ranges are effective ranges: never wider than those of what encloses them.

use std::fmt;

/// Where in a schema something is wrong, and what.
#[derive(Debug)]
pub(crate) struct Error {
    file: String,
    line: usize,
    what: String,
}

impl Error {
    pub(crate) fn new(file: &str, line: usize, what: impl Into<String>) -> Error {
        Error { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    pub(crate) fn within(self, outer: Versions) -> bool {
        outer.min <= self.min && self.max <= outer.max
    }

    pub(crate) fn each(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(out, "{}", self.min)
        } else {
            write!(out, "{}-{}", self.min, self.max)
        }
    }
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The comment that opens the file.
    pub(crate) doc: Vec<String>,
    pub(crate) key: i16,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    /// The first version with compact lengths and tagged fields.
    pub(crate) flexible_from: Option<i16>,
    pub(crate) structs: Vec<Struct>,
}

impl Api {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|candidate| candidate.name == name)
    }

    pub(crate) fn error(&self, line: usize, what: impl Into<String>) -> Error {
        Error::new(&self.file, line, what)
    }

    /// The fewest bytes that a value of this type takes in any of these versions.
    pub(crate) fn encoded_size_min(&self, ty: &Type, versions: Versions) -> usize {
        versions.each().map(|version| self.encoded_size(ty, version)).min().unwrap_or(0)
    }

    /// The size of the emptiest value of this type in one version.
    fn encoded_size(&self, ty: &Type, version: i16) -> usize {
        let flexible = self.is_flexible(version);
        match ty {
            Type::Bool | Type::I8 => 1,
            Type::I16 | Type::U16 | Type::Error => 2,
            Type::I32 | Type::U32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Type::Struct(name) => {
                let present = self.find(name).into_iter().flat_map(|found| &found.fields);
                let untagged =
                    present.filter(|field| field.tag.is_none() && field.versions.contains(version));
                untagged.map(|field| self.field_size(field, version)).sum::<usize>() + usize::from(flexible)
            }
        }
    }

    fn field_size(&self, field: &Field, version: i16) -> usize {
        let null_struct = matches!(field.ty, Type::Struct(_)) && field.nullable.is_some();
        if null_struct { 1 } else { self.encoded_size(&field.ty, version) }
    }
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) role: Role,
    pub(crate) fields: Vec<Field>,
}

impl Struct {
    pub(crate) fn tagged(&self) -> impl Iterator<Item = (u32, &Field)> {
        self.fields.iter().filter_map(|field| Some((field.tag?, field)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Response,
    Part,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    /// The versions in which null is allowed; the Rust type is an `Option` if there are any.
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Literal>,
    /// In a version without this field a value is dropped in silence, where otherwise it is an error.
    pub(crate) ignorable: bool,
}

impl Field {
    pub(crate) fn defaults_to_null(&self) -> bool {
        self.default == Some(Literal::Null) || self.ty == Type::Records
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    Null,
    True,
    Integer(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    /// An i16 that is one of Kafka's error codes.
    Error,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    pub(crate) fn may_be_null(&self) -> bool {
        matches!(self, Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_))
    }

    /// The struct that this type is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}
