//! As much of an HTTP/1.1 client as pushing to a registry and asking an engine takes.
//!
//! One connection a request, plain text only: it speaks to servers that the fixtures start themselves.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// No server of a fixture may be silent for longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of a name given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What is sent with a request.
#[derive(Debug)]
pub enum Body<'a> {
    /// Nothing, of length 0.
    Empty,
    /// These bytes, of this media type.
    Bytes(&'a [u8], &'a str),
    /// This file as it is.
    File(&'a Path),
}

/// Sends a request to `authority` (`host:port`) and reads the whole answer.
pub fn request(authority: &str, method: &str, target: &str, body: &Body<'_>) -> Result<Response> {
    let stream = TcpStream::connect(authority)
        .with_context(|| format!("failed to connect to {authority}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(&stream, authority, &format!("{method} {target}"), body)
        .with_context(|| format!("{method} http://{authority}{target}"))
}

fn exchange(stream: &TcpStream, authority: &str, line: &str, body: &Body<'_>) -> Result<Response> {
    let (length, media_type) = match body {
        Body::Empty => (0, None),
        Body::Bytes(bytes, media_type) => (bytes.len() as u64, Some(*media_type)),
        Body::File(path) => (
            fs_err::metadata(path)?.len(),
            Some("application/octet-stream"),
        ),
    };
    let mut head = format!(
        "{line} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    if let Some(media_type) = media_type {
        head.push_str(&format!("Content-Type: {media_type}\r\n"));
    }
    head.push_str("\r\n");
    let mut writer = stream;
    writer.write_all(head.as_bytes())?;
    match body {
        Body::Empty => {}
        Body::Bytes(bytes, _) => writer.write_all(bytes)?,
        Body::File(path) => {
            io::copy(&mut fs_err::File::open(*path)?, &mut writer)?;
        }
    }
    read_response(&mut BufReader::new(stream), line.starts_with("HEAD "))
}

/// Reads an answer: the head, then the body by its length, by chunks, or to the end.
pub fn read_response(reader: &mut impl BufRead, head_only: bool) -> Result<Response> {
    let line = read_line(reader)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status line: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("no header: {line:?}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if head_only || matches!(status, 204 | 304) {
        return Ok(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = read_chunks(reader)?;
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse().context("no length")?;
        reader.take(length).read_to_end(&mut response.body)?;
        ensure!(response.body.len() as u64 == length, "the body ended early");
    } else {
        reader.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let length =
            u64::from_str_radix(&line, 16).with_context(|| format!("no chunk: {line:?}"))?;
        let before = body.len() as u64;
        reader.take(length).read_to_end(&mut body)?;
        ensure!(body.len() as u64 - before == length, "a chunk ended early");
        read_line(reader)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_length_or_chunks_or_goes_to_the_end() {
        for (text, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                "abc",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nabc", "abc"),
        ] {
            let response = read_response(&mut text.as_bytes(), false).unwrap();
            assert_eq!(response.body, body.as_bytes(), "{text}");
        }
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc";
        read_response(&mut cut.as_bytes(), false).unwrap_err();
    }
}
