//! Turns the notation in `schema/` into Rust.
//!
//! `schema/*.kafka` states one API each (its grammar is in `build/parse.rs`); `schema/*.list` are the tables of API keys and
//! error codes. What comes out lies in `OUT_DIR`: `messages.rs` (structs with `decode` and `encode`), `samples.rs` (random
//! values, for tests), `api_keys.rs` and `error_codes.rs`. A mistake in a schema ends the build with `file:line: what is wrong`.

// A build script has no runtime whose seams it could use.
#![allow(clippy::disallowed_methods)]

#[path = "build/schema.rs"]
mod schema;
#[path = "build/parse.rs"]
mod parse;
#[path = "build/check.rs"]
mod check;
#[path = "build/rust.rs"]
mod rust;
#[path = "build/messages.rs"]
mod messages;
#[path = "build/codec.rs"]
mod codec;
#[path = "build/samples.rs"]
mod samples;
#[path = "build/tables.rs"]
mod tables;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    if let Err(error) =
        generate(Path::new("schema"), &PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()))
    {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn generate(schema_dir: &Path, out_dir: &Path) -> Result<(), schema::Error> {
    let list = |name: &str| -> Result<Vec<tables::Row>, schema::Error> {
        let path = schema_dir.join(name);
        tables::rows(&read(&path)?, &path.display().to_string())
    };
    let api_keys = list("api_keys.list")?;
    let error_codes = list("error_codes.list")?;

    let mut apis = Vec::new();
    for path in schema_files(schema_dir)? {
        let api = parse::api(&read(&path)?, &path.display().to_string())?;
        check::api(&api)?;
        check::listed(&api, &api_keys)?;
        apis.push(api);
    }
    apis.sort_by_key(|api| api.key);

    write(&out_dir.join("messages.rs"), &messages::generate(&apis))?;
    write(&out_dir.join("samples.rs"), &samples::generate(&apis))?;
    write(&out_dir.join("api_keys.rs"), &tables::api_keys(&api_keys))?;
    write(&out_dir.join("error_codes.rs"), &tables::error_codes(&error_codes))
}

fn schema_files(schema_dir: &Path) -> Result<Vec<PathBuf>, schema::Error> {
    let failed =
        |error| schema::Error::new(&schema_dir.display().to_string(), 0, format!("not readable: {error}"));
    let entries = fs::read_dir(schema_dir).map_err(failed)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "kafka") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, schema::Error> {
    fs::read_to_string(path)
        .map_err(|error| schema::Error::new(&path.display().to_string(), 0, format!("not readable: {error}")))
}

fn write(path: &Path, text: &str) -> Result<(), schema::Error> {
    fs::write(path, text)
        .map_err(|error| schema::Error::new(&path.display().to_string(), 0, format!("not writable: {error}")))
}
