//! What passed of one partition, as rigs print it.

use anyhow::{Context, Result};

/// What passed of one partition, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) partition: usize,
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) sha256: String,
}

/// Lines such as `partition=0 count=12 first=0 last=11 sha256=…`.
pub(crate) fn parse(said: &str) -> Result<Vec<Passed>> {
    let field = |line: &str, name: &str| -> Result<String> {
        let mut fields = line.split_whitespace().filter_map(|field| field.split_once('='));
        let found =
            fields.find(|(found, _)| *found == name).with_context(|| format!("no {name} in '{line}'"))?;
        Ok(found.1.to_owned())
    };
    said.lines()
        .map(|line| {
            Ok(Passed {
                partition: field(line, "partition")?.parse()?,
                count: field(line, "count")?.parse()?,
                first: field(line, "first")?.parse()?,
                last: field(line, "last")?.parse()?,
                sha256: field(line, "sha256")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rig_prints_is_read_and_anything_else_refused() {
        let passed = parse("partition=3 count=2 first=7 last=8 sha256=ab\n").expect("a line");
        assert_eq!(passed, [Passed { partition: 3, count: 2, first: 7, last: 8, sha256: "ab".to_owned() }]);
        assert!(parse("partition=3 count=2 first=7 last=8\n").is_err());
        assert!(parse("warning: something\n").is_err());
    }
}
