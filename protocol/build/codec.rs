//! Generates how a struct is read and written.
//!
//! Fields are declared in the order of the wire, so that reading is one struct literal; tagged fields are set afterwards. A test
//! of the version is generated only where its outcome is not the same in all versions of the struct.

use crate::messages::Generator;
use crate::rust::{absence_test, default_value, is_set, version_test};
use crate::schema::{Field, Type, Versions};

impl Generator<'_> {
    /// `flexible` as far as it is not the same in all versions of the struct.
    fn flexible(&self) -> &'static str {
        let Versions { min, max } = self.declared.versions;
        match self.api.flexible_from {
            Some(from) if from <= min => "true",
            Some(from) if from <= max => "flexible",
            _ => "false",
        }
    }

    /// Lines that run only in flexible versions.
    fn if_flexible(&self, lines: Vec<String>) -> Vec<String> {
        match self.flexible() {
            "true" => lines,
            "false" => Vec::new(),
            test => [vec![format!("if {test} {{")], lines, vec!["}".to_owned()]].concat(),
        }
    }

    /// The versions in which this struct has a section of tagged fields.
    fn tagged_versions(&self) -> Versions {
        let Versions { min, max } = self.declared.versions;
        Versions { min: min.max(self.api.flexible_from.unwrap_or(min)), max }
    }

    pub(crate) fn read_body(&self) -> Vec<String> {
        let mut literal = Vec::new();
        for field in &self.declared.fields {
            let read = match (field.tag, version_test(field.versions, self.declared.versions)) {
                (Some(_), _) => default_value(field),
                (None, None) => self.read_field(field),
                (None, Some(test)) => {
                    format!("if {test} {{ {} }} else {{ {} }}", self.read_field(field), default_value(field))
                }
            };
            literal.push(format!("{}: {read},", field.name));
        }
        if self.flexible() == "false" {
            return [vec!["Ok(Self {".to_owned()], literal, vec!["})".to_owned()]].concat();
        }
        let binding = if self.declared.tagged().next().is_some() {
            "let mut read = Self {"
        } else {
            "let read = Self {"
        };
        let tail = vec!["};".to_owned()];
        [
            vec![binding.to_owned()],
            literal,
            tail,
            self.if_flexible(self.read_tagged()),
            vec!["Ok(read)".to_owned()],
        ]
        .concat()
    }

    fn read_tagged(&self) -> Vec<String> {
        if self.declared.tagged().next().is_none() {
            return vec!["reader.skip_tagged_fields()?;".to_owned()];
        }
        let mut lines = vec!["reader.tagged_fields(|reader, tag| {".to_owned(), "match tag {".to_owned()];
        for (tag, field) in self.declared.tagged() {
            let guard =
                version_test(field.versions, self.tagged_versions()).map(|test| format!(" if {test}"));
            let guard = guard.unwrap_or_default();
            lines.push(format!("{tag}{guard} => read.{} = {},", field.name, self.read_field(field)));
        }
        lines.extend(["_ => return Ok(false),", "}", "Ok(true)", "})?;"].map(str::to_owned));
        lines
    }

    fn read_field(&self, field: &Field) -> String {
        match field.nullable.map(|nullable| version_test(nullable, field.versions)) {
            None => self.read_value(&field.ty, field),
            Some(None) => self.read_nullable(&field.ty, field),
            Some(Some(test)) => {
                let (nullable, value) =
                    (self.read_nullable(&field.ty, field), self.read_value(&field.ty, field));
                format!("if {test} {{ {nullable} }} else {{ Some({value}) }}")
            }
        }
    }

    fn read_value(&self, ty: &Type, field: &Field) -> String {
        let flexible = self.flexible();
        match ty {
            Type::String | Type::Bytes => format!("reader.{}({flexible})?", method(ty)),
            Type::Records => format!("reader.records({flexible})?"),
            Type::Struct(name) => format!("{name}::read(reader, version)?"),
            Type::Array(element) => {
                format!("reader.array({flexible}, {})?", self.read_element(element, field))
            }
            scalar => format!("reader.{}()?", method(scalar)),
        }
    }

    fn read_nullable(&self, ty: &Type, field: &Field) -> String {
        let flexible = self.flexible();
        match ty {
            Type::Records => format!("reader.records({flexible})?"),
            Type::Struct(name) => format!("reader.nullable_struct(|reader| {name}::read(reader, version))?"),
            Type::Array(element) => {
                format!("reader.nullable_array({flexible}, {})?", self.read_element(element, field))
            }
            ty => format!("reader.nullable_{}({flexible})?", method(ty)),
        }
    }

    /// The least size of an element, and how one is read.
    fn read_element(&self, element: &Type, field: &Field) -> String {
        let size_min = self.api.encoded_size_min(element, field.versions);
        let read = match element {
            Type::Struct(name) => format!("|reader| {name}::read(reader, version)"),
            Type::String | Type::Bytes => format!("|reader| reader.{}({})", method(element), self.flexible()),
            scalar => format!("Reader::{}", method(scalar)),
        };
        format!("{size_min}, {read}")
    }

    pub(crate) fn write_body(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for field in self.declared.fields.iter().filter(|field| field.tag.is_none()) {
            let Some(test) = version_test(field.versions, self.declared.versions) else {
                lines.extend(self.write_field(field));
                continue;
            };
            lines.push(format!("if {test} {{"));
            lines.extend(self.write_field(field));
            if !field.ignorable {
                lines.push(format!("}} else if {} {{", is_set(field)));
                lines.push(self.absent(field));
            }
            lines.push("}".to_owned());
        }
        for (_, field) in self.declared.tagged().filter(|(_, field)| !field.ignorable) {
            if let Some(test) = absence_test(field.versions, self.declared.versions) {
                lines.extend([
                    format!("if {test} && {} {{", is_set(field)),
                    self.absent(field),
                    "}".to_owned(),
                ]);
            }
        }
        lines.extend(self.if_flexible(self.write_tagged()));
        lines.push("Ok(())".to_owned());
        lines
    }

    fn absent(&self, field: &Field) -> String {
        format!("return Err(not_in_version(\"{}\", \"{}\", version));", self.declared.name, field.name)
    }

    fn write_tagged(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (_, field) in self.declared.tagged() {
            let test = version_test(field.versions, self.tagged_versions()).map(|test| format!("{test} && "));
            lines.push(format!("let has_{} = {}{};", field.name, test.unwrap_or_default(), is_set(field)));
        }
        let count: Vec<String> =
            self.declared.tagged().map(|(_, field)| format!("u32::from(has_{})", field.name)).collect();
        let count = if count.is_empty() { "0".to_owned() } else { count.join(" + ") };
        lines.push(format!("writer.unsigned_varint({count});"));
        for (tag, field) in self.declared.tagged() {
            lines.push(format!("if has_{} {{", field.name));
            lines.push(format!("writer.tagged_field({tag}, |writer| {{"));
            lines.extend(self.write_field(field));
            lines.extend(["Ok(())", "})?;", "}"].map(str::to_owned));
        }
        lines
    }

    fn write_field(&self, field: &Field) -> Vec<String> {
        let place = format!("self.{}", field.name);
        match field.nullable.map(|nullable| version_test(nullable, field.versions)) {
            None => vec![self.write_value(&field.ty, &place, &format!("&{place}"))],
            Some(None) => vec![self.write_nullable(&field.ty, &place)],
            Some(Some(test)) => {
                let required = format!(
                    "required({place}.as_ref(), \"{}\", \"{}\", version)?",
                    self.declared.name, field.name
                );
                vec![
                    format!("if {test} {{"),
                    self.write_nullable(&field.ty, &place),
                    "} else {".to_owned(),
                    self.write_value(&field.ty, &format!("*{required}"), &required),
                    "}".to_owned(),
                ]
            }
        }
    }

    fn write_value(&self, ty: &Type, value: &str, reference: &str) -> String {
        let flexible = self.flexible();
        match ty {
            Type::String | Type::Bytes => format!("writer.{}({flexible}, {reference})?;", method(ty)),
            Type::Records => format!("writer.records({flexible}, {reference})?;"),
            Type::Struct(_) => format!("{value}.write(writer, version)?;"),
            Type::Array(element) => {
                format!("writer.array({flexible}, {reference}, {})?;", self.write_element(element))
            }
            scalar => format!("writer.{}({value});", method(scalar)),
        }
    }

    fn write_nullable(&self, ty: &Type, place: &str) -> String {
        let flexible = self.flexible();
        match ty {
            Type::Records => format!("writer.records({flexible}, &{place})?;"),
            Type::Struct(_) => {
                format!(
                    "writer.nullable_struct({place}.as_ref(), |writer, value| value.write(writer, version))?;"
                )
            }
            Type::Array(element) => {
                format!(
                    "writer.nullable_array({flexible}, {place}.as_deref(), {})?;",
                    self.write_element(element)
                )
            }
            ty => format!("writer.nullable_{}({flexible}, {place}.as_ref())?;", method(ty)),
        }
    }

    fn write_element(&self, element: &Type) -> String {
        match element {
            Type::Struct(_) => "|writer, element| element.write(writer, version)".to_owned(),
            Type::String | Type::Bytes => {
                format!("|writer, element| writer.{}({}, element)", method(element), self.flexible())
            }
            scalar => format!("|writer, element| {{ writer.{}(*element); Ok(()) }}", method(scalar)),
        }
    }
}

/// The method of `Reader` and `Writer` for a type that has one of its own.
fn method(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::I8 => "i8",
        Type::I16 => "i16",
        Type::U16 => "u16",
        Type::I32 => "i32",
        Type::U32 => "u32",
        Type::I64 => "i64",
        Type::F64 => "f64",
        Type::Uuid => "uuid",
        Type::Error => "error_code",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(_) | Type::Array(_) => {
            unreachable!("structs and arrays are written out by the generator")
        }
    }
}
