//! Generates random values of every message, valid in a given version, for tests.

use crate::rust::{Code, mentions, snake_case, version_test};
use crate::schema::{Api, Field, Role, Struct, Type};

pub(crate) fn generate(apis: &[Api]) -> String {
    let mut code = Code::default();
    every_message(&mut code, apis);
    every_request(&mut code, apis);
    for api in apis {
        code.line(&format!("mod {} {{", snake_case(&api.name)));
        code.line(&format!("use crate::messages::{}::*;", snake_case(&api.name)));
        code.line("use crate::sample::{Sample, Sampler};");
        for declared in &api.structs {
            structure(&mut code, declared);
        }
        code.line("}");
    }
    code.into_text()
}

/// A walk over all messages, for what holds of each.
fn every_message(code: &mut Code, apis: &[Api]) {
    code.line("pub(crate) fn every_message(visitor: &mut impl Visitor) {");
    for api in apis {
        for message in api.structs.iter().filter(|declared| declared.role != Role::Part) {
            code.line(&format!(
                "visitor.visit::<crate::messages::{}::{}>();",
                snake_case(&api.name),
                message.name
            ));
        }
    }
    code.line("}");
}

/// A walk over all requests, for what needs to know what each is answered by.
fn every_request(code: &mut Code, apis: &[Api]) {
    code.line("#[cfg(feature = \"fuzzing\")]");
    code.line("pub(crate) fn every_request(visitor: &mut impl RequestVisitor) {");
    for api in apis {
        code.line(&format!(
            "visitor.visit::<crate::messages::{}::{}Request>();",
            snake_case(&api.name),
            api.name
        ));
    }
    code.line("}");
}

fn structure(code: &mut Code, declared: &Struct) {
    let fields: Vec<String> = declared.fields.iter().map(|field| field_value(declared, field)).collect();
    let uses = |word: &str| fields.iter().any(|line| mentions(line, word));
    let version = if uses("version") { "version" } else { "_version" };
    code.line(&format!("impl Sample for {} {{", declared.name));
    code.line(&format!("fn sample(sampler: &mut Sampler<'_>, {version}: i16) -> Self {{"));
    if uses("default") {
        code.line("let default = Self::default();");
    }
    code.line("Self {");
    for field in fields {
        code.line(&field);
    }
    code.line("}");
    code.line("}");
    code.line("}");
}

fn field_value(declared: &Struct, field: &Field) -> String {
    let (name, sample) = (&field.name, sample(field));
    match version_test(field.versions, declared.versions) {
        None => format!("{name}: {sample},"),
        Some(test) => format!("{name}: if {test} {{ {sample} }} else {{ default.{name} }},"),
    }
}

fn sample(field: &Field) -> String {
    let value = value(&field.ty);
    if field.ty == Type::Records {
        return value;
    }
    match field.nullable.map(|nullable| version_test(nullable, field.versions)) {
        None => value,
        Some(None) => format!("sampler.option(|sampler| {value})"),
        Some(Some(test)) => {
            format!("if {test} {{ sampler.option(|sampler| {value}) }} else {{ Some({value}) }}")
        }
    }
}

fn value(ty: &Type) -> String {
    match ty {
        Type::Struct(name) => format!("{name}::sample(sampler, version)"),
        Type::Array(element) => format!("sampler.array(|sampler| {})", value(element)),
        Type::Bool => "sampler.bool()".to_owned(),
        Type::F64 => "sampler.f64()".to_owned(),
        Type::Uuid => "sampler.uuid()".to_owned(),
        Type::Error => "sampler.error_code()".to_owned(),
        Type::String => "sampler.string()".to_owned(),
        Type::Bytes => "sampler.bytes()".to_owned(),
        Type::Records => "sampler.records()".to_owned(),
        Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::U32 | Type::I64 => {
            "sampler.integer()".to_owned()
        }
    }
}
