//! A response, and how it is sent.

use std::{
    fs::File,
    io::{self, Read, Write},
    time::SystemTime,
};

use crate::{page, request::Request};

/// How much of a file is read and sent at once.
const PIECE: usize = 256 << 10;

pub(crate) struct Response {
    pub(crate) status: u16,
    /// Whole lines, each with its end.
    pub(crate) headers: String,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    /// There is none, and no length either.
    None,
    Page(String),
    /// So many bytes of a file, from where it stands.
    File(File, u64),
}

impl Body {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::Page(page) => page.len() as u64,
            Body::File(_, length) => *length,
        }
    }
}

impl Response {
    pub(crate) fn new(status: u16, body: Body) -> Response {
        Response { status, headers: String::new(), body }
    }

    pub(crate) fn page(status: u16, page: String) -> Response {
        // Nothing of what a page shows can run as a program.
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        Response::new(status, Body::Page(page))
            .with("Content-Type", "text/html; charset=utf-8")
            .with("Content-Security-Policy", policy)
    }

    pub(crate) fn error(status: u16, why: &str) -> Response {
        Response::page(status, page::error(status, reason(status), why))
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Response {
        self.headers.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub(crate) fn send(self, client: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
        let Response { status, headers, body } = self;
        let date = httpdate::fmt_http_date(SystemTime::now());
        let connection = if request.keeps_alive() { "keep-alive" } else { "close" };
        let length = match &body {
            Body::None => String::new(),
            body => format!("Content-Length: {}\r\n", body.length()),
        };
        let reason = reason(status);
        write!(
            client,
            "HTTP/1.1 {status} {reason}\r\nServer: sockserver\r\nDate: {date}\r\nConnection: {connection}\r\n\
             X-Content-Type-Options: nosniff\r\n{headers}{length}\r\n"
        )?;
        match body {
            _ if request.method == "HEAD" => Ok(()),
            Body::None => Ok(()),
            Body::Page(page) => client.write_all(page.as_bytes()),
            Body::File(file, length) => send_file(client, file, length),
        }
    }
}

fn send_file(client: &mut impl Write, mut file: File, length: u64) -> io::Result<()> {
    let mut left = length;
    let mut piece = vec![0; left.min(PIECE as u64) as usize];
    while left > 0 {
        let end = left.min(PIECE as u64) as usize;
        let read = file.read(&mut piece[..end])?;
        if read == 0 {
            // The client was promised more: the end of the connection is all that can tell it.
            return Err(io::Error::other("a file has become shorter while it was sent"));
        }
        client.write_all(&piece[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}
