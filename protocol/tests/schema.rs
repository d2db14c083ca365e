//! The notation of `schema/`: what is wrong in a file is told with its line. The build script's own modules are tested here,
//! since nothing can link a build script.

// Whatever only the generator uses is unused here.
#![allow(dead_code, unreachable_pub)]

#[path = "../build/schema.rs"]
mod schema;
#[path = "../build/parse.rs"]
mod parse;
#[path = "../build/rust.rs"]
mod rust;
#[path = "../build/tables.rs"]
mod tables;
#[path = "../build/check.rs"]
mod check;

const HEADER: &str = "api 99 Test versions 2-9 flexible 5+\nrequest\n";

/// Parses and checks a request with these lines, the first of which is line 3, and an empty response.
fn request(lines: &str) -> Result<schema::Api, String> {
    file(&format!("{HEADER}{lines}\nresponse\n"))
}

fn file(text: &str) -> Result<schema::Api, String> {
    let api = parse::api(text, "test.kafka").map_err(|error| error.to_string())?;
    check::api(&api).map_err(|error| error.to_string())?;
    Ok(api)
}

#[test]
fn a_field_says_all_there_is_to_know() {
    let api = request(
        "  topics: []Topic? @3-8 = null ignorable\n    name: string?6+ # a comment\n    id: uuid @7+ tag 0",
    )
    .expect("valid");
    let topics = &api.find("TestRequest").expect("the request").fields[0];
    assert_eq!(topics.ty.struct_name(), Some("Topic"));
    assert_eq!(topics.versions, schema::Versions { min: 3, max: 8 });
    assert_eq!(topics.nullable, Some(topics.versions));
    assert!(topics.defaults_to_null() && topics.ignorable);

    let [name, id] = &api.find("Topic").expect("a struct of its own").fields[..] else {
        panic!("two fields")
    };
    // A part lives no longer than what it is part of.
    assert_eq!(name.versions, topics.versions);
    assert_eq!(name.nullable, Some(schema::Versions { min: 6, max: 8 }));
    assert_eq!((id.versions, id.tag), (schema::Versions { min: 7, max: 8 }, Some(0)));
}

#[test]
fn the_least_size_of_an_element_is_that_of_its_smallest_version() {
    let api = request(
        "  all: []All\n    name: string\n    ids: []i32\n    epoch: i32 @9+\n    more: string @6+ tag 0",
    )
    .expect("valid");
    let size_min = |min, max| {
        let all = schema::Type::Struct("All".to_owned());
        api.encoded_size_min(&all, schema::Versions { min, max })
    };
    assert_eq!(size_min(2, 4), 6, "two lengths of fixed size");
    assert_eq!(size_min(5, 8), 3, "two compact lengths, and no tagged fields");
    assert_eq!(size_min(9, 9), 7, "and four bytes of epoch");
    assert_eq!(size_min(2, 9), 3);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    let cases = [
        ("  name string", "test.kafka:3: expected `FIELD: TYPE`"),
        ("  name: text", "test.kafka:3: `text` is not a type"),
        ("  name: string\n  name: i8", "test.kafka:4: `TestRequest` has two fields `name`"),
        ("  Name: string", "test.kafka:3: `Name` cannot name a field"),
        ("  type: i8", "test.kafka:3: `type` cannot name a field"),
        ("   name: string", "test.kafka:3: indent by 2 spaces a level"),
        (
            "  name: string\n    part: i8",
            "test.kafka:4: indented, though what precedes it is no struct of its own",
        ),
        ("  name: string @1+", "test.kafka:3: `1+` is not within the versions of what encloses it: 2-9"),
        ("  name: string @7-3", "test.kafka:3: `7-3` is not within the versions of what encloses it: 2-9"),
        ("  name: string 3+", "test.kafka:3: `3+` says nothing here"),
        ("  name: string ignorable", "test.kafka:3: no version lacks this field: there is nothing to ignore"),
        ("  id: i32?", "test.kafka:3: a value of this type is never null"),
        ("  name: string?2+ @3+", "test.kafka:3: `2+` is not within the versions of what encloses it: 3-9"),
        (
            "  id: i8 = 300",
            "test.kafka:3: the default is not a value of the field's type, or goes without saying",
        ),
        (
            "  id: i8 = 0",
            "test.kafka:3: the default is not a value of the field's type, or goes without saying",
        ),
        (
            "  name: string = null",
            "test.kafka:3: the default is not a value of the field's type, or goes without saying",
        ),
        ("  name: string @4+ tag 0", "test.kafka:3: a tagged field in a version that is not flexible"),
        ("  a: i8 @5+ tag 1\n  b: i8 @5+ tag 1", "test.kafka:4: tags go up"),
        ("  records: records", "test.kafka:3: records may be null in every version: write `records?`"),
        ("  topics: []Topic", "test.kafka:3: `Topic` is declared nowhere"),
        ("  topics: []Topic\n    x: i8 @3-4", "test.kafka:3: an element of this array may take no bytes"),
        ("  a: Part @3+\n    x: i8\n  b: Part", "test.kafka:5: `Part` has no fields beyond versions 3-9"),
        (
            "  a: Part\n    x: i8\n  b: Part\n    x: i8",
            "test.kafka:5: `Part` is declared twice; request and response share one Rust module",
        ),
        (
            "  a: Part @3+\n    x: i8 @2+",
            "test.kafka:4: `2+` is not within the versions of what encloses it: 3-9",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(request(lines).map(|_| ()), Err(expected.to_owned()), "{lines}");
    }
}

#[test]
fn a_file_has_a_header_a_request_and_a_response() {
    let expected = "expected `api KEY NAME versions RANGE flexible RANGE`";
    let cases = [
        ("", format!("test.kafka:1: {expected}")),
        ("# Only words.\n", format!("test.kafka:1: {expected}")),
        ("\nmessage 99 Test\n", format!("test.kafka:2: {expected}")),
        (
            "api 99 Test versions 0 flexible 1+\n",
            "test.kafka:1: `1+` is not within the versions of what encloses it: 0".to_owned(),
        ),
        ("api 99 Test versions 0 flexible none\nresponse\n", "test.kafka:2: expected `request`".to_owned()),
        (
            "api 99 Test versions 0 flexible none\nrequest\n",
            "test.kafka:1: the API has no `response`".to_owned(),
        ),
        (
            "api 99 Test versions 0 flexible none\nrequest\nresponse\nrequest\n",
            "test.kafka:4: expected the end of the file after the response".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file(text).map(|_| ()), Err(expected), "{text}");
    }
}

#[test]
fn an_api_is_one_of_kafkas_table() {
    let rows = tables::rows("# Keys\n\n98 Other\n99 Test\n", "api_keys.list").expect("valid");
    let listed =
        |text: &str| check::listed(&file(text).expect("valid"), &rows).map_err(|error| error.to_string());
    let api = |header: &str| format!("{header} versions 0 flexible none\nrequest\nresponse\n");
    assert_eq!(listed(&api("api 99 Test")), Ok(()));
    assert_eq!(listed(&api("api 98 Test")), Err("test.kafka:1: API key 98 is Other".to_owned()));
    assert_eq!(
        listed(&api("api 97 Test")),
        Err("test.kafka:1: API key 97 is not in api_keys.list".to_owned())
    );

    let error = |text: &str| tables::rows(text, "x.list").map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(error("1 ONE\n1 TWO\n"), Err("x.list:2: numbers go up".to_owned()));
    assert_eq!(error("one ONE\n"), Err("x.list:1: does not begin with a number".to_owned()));
    let expected = "x.list:1: expected `NUMBER NAME`, with `retriable` where it holds";
    assert_eq!(error("1 ONE final\n"), Err(expected.to_owned()));
}
