//! Generates the structs of all APIs: fields, defaults, `decode` and `encode`.
//!
//! Fields are declared in the order of the wire, so that decoding is one struct literal. Tagged fields are set afterwards.

use crate::rust::{
    Code, absence_test, default_value, field_type, has_derived_default, is_set, mentions, snake_case,
    version_test,
};
use crate::schema::{Api, Field, Role, Struct, Type, Versions};

pub(crate) fn generate(apis: &[Api]) -> String {
    let mut code = Code::default();
    table(&mut code, apis);
    for api in apis {
        for line in &api.doc {
            code.line(&format!("#[doc = {line:?}]"));
        }
        code.line(&format!("pub mod {} {{", snake_case(&api.name)));
        code.line("use super::codec::*;");
        for declared in &api.structs {
            Generator { api, declared }.structure(&mut code);
        }
        code.line("}");
    }
    code.into_text()
}

/// What is known of each API without its messages.
fn table(code: &mut Code, apis: &[Api]) {
    code.line("/// Every API that has a schema, in order of key.");
    code.line("pub const APIS: &[ApiSchema] = &[");
    for api in apis {
        let key = format!("ApiKey::{}", api.name);
        code.line(&format!(
            "ApiSchema {{ key: {key}, versions: {}, flexible_from: {:?} }},",
            versions(api.versions),
            api.flexible_from
        ));
    }
    code.line("];");
    code.line("const fn schema_of(key: ApiKey) -> Option<&'static ApiSchema> {");
    code.line("Some(match key {");
    for (place, api) in apis.iter().enumerate() {
        code.line(&format!("ApiKey::{} => &APIS[{place}],", api.name));
    }
    code.line("_ => return None,");
    code.line("})");
    code.line("}");
}

fn versions(versions: Versions) -> String {
    format!("VersionRange {{ min: {}, max: {} }}", versions.min, versions.max)
}

struct Generator<'a> {
    api: &'a Api,
    declared: &'a Struct,
}

impl Generator<'_> {
    fn structure(&self, code: &mut Code) {
        self.declaration(code);
        if !self.declared.fields.iter().all(has_derived_default) {
            self.default(code);
        }
        code.line(&format!("impl {} {{", self.declared.name));
        self.function(
            code,
            "fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {",
            self.read_body(),
        );
        self.function(
            code,
            "fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {",
            self.write_body(),
        );
        code.line("}");
        self.message(code);
    }

    fn declaration(&self, code: &mut Code) {
        let derived = if self.declared.fields.iter().all(has_derived_default) { ", Default" } else { "" };
        code.line(&format!("#[derive(Clone, Debug, PartialEq{derived})]"));
        code.line(&format!("pub struct {} {{", self.declared.name));
        for field in &self.declared.fields {
            for line in self.field_doc(field) {
                code.line(&format!("/// {line}"));
            }
            code.line(&format!("pub {}: {},", field.name, field_type(field)));
        }
        code.line("}");
    }

    fn field_doc(&self, field: &Field) -> Vec<String> {
        let mut doc = Vec::new();
        if field.versions != self.declared.versions {
            let ignorable = if field.ignorable { "dropped" } else { "an error" };
            doc.push(format!("In versions {}; in others a value is {ignorable}.", field.versions));
        }
        if let Some(nullable) = field.nullable.filter(|nullable| *nullable != field.versions) {
            doc.push(format!("May be null in versions {nullable}."));
        }
        if let Some(tag) = field.tag {
            doc.push(format!("Tagged field {tag}."));
        }
        if !has_derived_default(field) {
            doc.push(format!("Default: `{}`.", default_value(field)));
        }
        doc
    }

    fn default(&self, code: &mut Code) {
        code.line(&format!("impl Default for {} {{", self.declared.name));
        code.line("fn default() -> Self {");
        code.line("Self {");
        for field in &self.declared.fields {
            code.line(&format!("{}: {},", field.name, default_value(field)));
        }
        code.line("}");
        code.line("}");
        code.line("}");
    }

    fn message(&self, code: &mut Code) {
        let Struct { name, role, .. } = self.declared;
        if *role == Role::Part {
            return;
        }
        code.line(&format!("impl Message for {name} {{"));
        code.line(&format!("const NAME: &'static str = \"{name}\";"));
        code.line(&format!("const KEY: ApiKey = ApiKey::{};", self.api.name));
        code.line(&format!("const VERSIONS: VersionRange = {};", versions(self.api.versions)));
        code.line(&format!("const FLEXIBLE_FROM: Option<i16> = {:?};", self.api.flexible_from));
        code.line("fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {");
        code.line("decodable::<Self>(version)?;");
        code.line("Self::read(reader, version)");
        code.line("}");
        code.line("fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {");
        code.line("encodable::<Self>(version)?;");
        code.line("self.write(writer, version)");
        code.line("}");
        code.line("}");
        if *role == Role::Request {
            code.line(&format!("impl Request for {name} {{"));
            code.line(&format!("type Response = {}Response;", self.api.name));
            code.line("}");
        }
    }

    /// A function around a body, with what the body needs and nothing that it does not.
    fn function(&self, code: &mut Code, signature: &str, body: Vec<String>) {
        let uses = |word: &str| body.iter().any(|line| mentions(line, word));
        let mut signature = signature.to_owned();
        let needs_flexible = uses("flexible");
        if !uses("version") && !needs_flexible {
            signature = signature.replace("version: i16", "_version: i16");
        }
        for argument in ["reader", "writer"] {
            if !uses(argument) {
                signature = signature.replace(&format!("{argument}: &mut"), &format!("_{argument}: &mut"));
            }
        }
        code.line(&signature);
        if let (true, Some(from)) = (needs_flexible, self.api.flexible_from) {
            code.line(&format!("let flexible = version >= {from};"));
        }
        for line in body {
            code.line(&line);
        }
        code.line("}");
    }

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

    fn read_body(&self) -> Vec<String> {
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

    fn write_body(&self) -> Vec<String> {
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
