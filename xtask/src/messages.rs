//! HTTP/1.1 as it passes by: heads are read whole, bodies are passed on in pieces. Enough for proxies between clients and stores
//! that both keep to the standard.

use std::io::{self, BufRead, Read, Write};

/// The largest piece that is passed on at once.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;
const HEAD_BYTES_MAX: u64 = 64 * 1024;

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Bytes(u64),
    Chunked,
    UntilClosed,
}

/// The first line and the headers of a request or an answer, as they came, with the empty line.
#[derive(Debug)]
pub(crate) struct Head {
    text: String,
}

impl Head {
    /// None: closed between two.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut text = String::new();
        loop {
            let before = text.len();
            from.by_ref().take(HEAD_BYTES_MAX).read_line(&mut text)?;
            match &text[before..] {
                "\r\n" => return Ok(Some(Head { text })),
                "" if before == 0 => return Ok(None),
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if text.len() as u64 > HEAD_BYTES_MAX => return Err(bad("a head of more than 64 KiB")),
                _ => {}
            }
        }
    }

    /// As it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether another answer to the same request follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.text.starts_with("HTTP/1.1 1")
    }

    pub(crate) fn method(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.header(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    fn length(&self) -> io::Result<Option<Body>> {
        if self.has("transfer-encoding", "chunked") {
            return Ok(Some(Body::Chunked));
        }
        let Some(length) = self.header("content-length") else { return Ok(None) };
        let bytes = length.parse().map_err(|_| bad(format!("content-length '{length}'")))?;
        Ok(Some(Body::Bytes(bytes)))
    }

    pub(crate) fn request_body(&self) -> io::Result<Body> {
        Ok(self.length()?.unwrap_or(Body::Bytes(0)))
    }

    pub(crate) fn answer_body(&self, request: &Head) -> io::Result<Body> {
        let status = self.target();
        if request.method() == "HEAD" || status == "204" || status == "304" {
            return Ok(Body::Bytes(0));
        }
        Ok(self.length()?.unwrap_or(Body::UntilClosed))
    }
}

/// Copies one body, calling `passed` after each piece.
pub(crate) fn relay(
    body: Body,
    from: &mut impl BufRead,
    to: &mut impl Write,
    passed: &mut impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    match body {
        Body::Bytes(bytes) => pieces(bytes, from, to, passed),
        Body::UntilClosed => pieces(u64::MAX, from, to, passed),
        Body::Chunked => loop {
            let line = line(from, to)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad(format!("chunk size '{size}'")))?;
            if size == 0 {
                // Trailers, up to the empty line.
                while line_of(from, to)? {}
                return Ok(());
            }
            pieces(size, from, to, passed)?;
            line_of(from, to)?;
        },
    }
}

fn line(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<String> {
    let mut line = String::new();
    from.by_ref().take(HEAD_BYTES_MAX).read_line(&mut line)?;
    to.write_all(line.as_bytes())?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Passes a line on. False: it was empty.
fn line_of(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<bool> {
    Ok(line(from, to)? != "\r\n")
}

pub(crate) fn pieces(
    bytes: u64,
    from: &mut impl BufRead,
    to: &mut impl Write,
    passed: &mut impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let buffer = from.fill_buf()?;
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return if bytes == u64::MAX { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        to.write_all(&buffer[..count])?;
        from.consume(count);
        left -= count as u64;
        passed(count)?;
    }
    Ok(())
}
