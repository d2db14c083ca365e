//! Generates the modules of all APIs: structs with their fields, docs and defaults, and the messages among them.
//!
//! How they are read and written is generated in `codec.rs`.

use crate::rust::{Code, default_value, field_type, has_derived_default, mentions, snake_case};
use crate::schema::{Api, Field, Role, Struct, Type, Versions};

/// By this field an answer says that its client is throttled.
const THROTTLE_TIME: &str = "throttle_time_ms";

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

/// Of one struct of one API.
pub(crate) struct Generator<'a> {
    pub(crate) api: &'a Api,
    pub(crate) declared: &'a Struct,
}

impl Generator<'_> {
    fn structure(&self, code: &mut Code) {
        self.declaration(code);
        if !self.declared.fields.iter().all(has_derived_default) {
            self.default(code);
        }
        if self.declared.fields.iter().any(is_opaque) {
            self.debug(code);
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
        let Struct { name, fields, .. } = self.declared;
        let mut derived = vec!["Clone", "PartialEq"];
        if fields.iter().all(has_derived_default) {
            derived.push("Default");
        }
        if !fields.iter().any(is_opaque) {
            derived.push("Debug");
        }
        code.line(&format!("#[derive({})]", derived.join(", ")));
        code.line(&format!("pub struct {name} {{"));
        for field in fields {
            let doc = self.field_doc(field);
            if !doc.is_empty() {
                code.line(&format!("/// {doc}"));
            }
            code.line(&format!("pub {}: {},", field.name, field_type(field)));
        }
        code.line("}");
    }

    fn field_doc(&self, field: &Field) -> String {
        let mut doc = Vec::new();
        if field.versions != self.declared.versions {
            let elsewhere =
                if field.ignorable { "in others it is left out" } else { "in others to set it is an error" };
            doc.push(format!("Versions {}; {elsewhere}.", field.versions));
        }
        if let Some(nullable) = field.nullable.filter(|nullable| *nullable != field.versions) {
            doc.push(format!("Null in versions {nullable} alone."));
        }
        if let Some(tag) = field.tag {
            doc.push(format!("Tag {tag}."));
        }
        if !has_derived_default(field) {
            doc.push(format!("Default `{}`.", default_value(field)));
        }
        doc.join(" ")
    }

    /// Of bytes, `Debug` tells the number alone: they are passwords and blobs, and neither belongs in a log.
    fn debug(&self, code: &mut Code) {
        let Struct { name, fields, .. } = self.declared;
        code.line(&format!("impl std::fmt::Debug for {name} {{"));
        code.line("fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {");
        code.line(&format!("let mut out = out.debug_struct(\"{name}\");"));
        for field in fields {
            let place = format!("self.{}", field.name);
            let shown = match (is_opaque(field), field.nullable) {
                (false, _) => format!("&{place}"),
                (true, None) => format!("&format_args!(\"{{}} bytes\", {place}.len())"),
                (true, Some(_)) => format!("&{place}.as_ref().map(Bytes::len)"),
            };
            code.line(&format!("out.field(\"{}\", {shown});", field.name));
        }
        code.line("out.finish()");
        code.line("}");
        code.line("}");
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
        let Struct { name, role, fields, .. } = self.declared;
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
        if *role == Role::Response && fields.iter().any(|field| field.name == THROTTLE_TIME) {
            code.line("fn throttle_time_ms(&mut self) -> Option<&mut i32> {");
            code.line(&format!("Some(&mut self.{THROTTLE_TIME})"));
            code.line("}");
        }
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
}

fn is_opaque(field: &Field) -> bool {
    field.ty == Type::Bytes
}
