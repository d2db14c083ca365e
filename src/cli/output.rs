//! What commands print: tables, lines, and an end without fuss when nobody reads any more.

use std::io::{self, BufWriter, Stdout, Write};

/// Standard output, buffered. Its owner calls [`Output::finish`]; a reader that went away (`| head`) is told by
/// [`is_closed_pipe`] and is no failure.
#[derive(Debug)]
pub struct Output(BufWriter<Stdout>);

impl Output {
    /// The process's own.
    pub fn stdout() -> Output {
        Output(BufWriter::new(io::stdout()))
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Writes a value as one line of JSON.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.line(value)
    }

    /// Writes rows under their heads.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        self.bytes(table.to_string().as_bytes())
    }

    /// Passes on what has gathered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether an error is only that the reader of our output went away.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_pipe)
}

/// An error and its causes on one line, each once: many errors say their cause themselves.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Rows in aligned columns: texts to the left, numbers to the right.
#[derive(Debug)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads and no rows.
    pub fn new(heads: &[&'static str]) -> Table {
        Table { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not a cell for each head.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.heads.len(), "a row has a cell under each head");
        self.rows.push(row);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns: Vec<(usize, bool)> = (0..self.heads.len()).map(|column| self.shape(column)).collect();
        let heads = self.heads.iter().map(|head| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (cell, (width, is_number)) in row.iter().zip(&columns) {
                match is_number {
                    true => line.push_str(&format!("{cell:>width$}  ")),
                    false => line.push_str(&format!("{cell:<width$}  ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Table {
    /// A column's width, and whether it holds numbers.
    fn shape(&self, column: usize) -> (usize, bool) {
        let cells = || self.rows.iter().map(move |row| row[column].as_str());
        let width = cells().chain([self.heads[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let is_number = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        (width, !self.rows.is_empty() && cells().all(is_number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no room").context("writing f: no room").context("cannot start");
        assert_eq!(told(&error), "cannot start: writing f: no room");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "STATE"]);
        assert_eq!(table.to_string(), "TOPIC  PARTITIONS  STATE\n");
        table.row(["a".to_owned(), "1".to_owned(), "fine".to_owned()]);
        table.row(["longer-name".to_owned(), "128".to_owned(), String::new()]);
        let expected = "\
            TOPIC        PARTITIONS  STATE\n\
            a                     1  fine\n\
            longer-name         128\n";
        assert_eq!(table.to_string(), expected);
    }
}
