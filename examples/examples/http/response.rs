//! A response, and how it is sent.

use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    time::SystemTime,
};

use sockserver::Writer;

use crate::{page, request::Request};

pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line and headers, each with its end.
    head: String,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    /// There is none, and no length either.
    None,
    Page(String),
    /// A part of a file.
    File(File, Range<u64>),
}

impl Body {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::Page(page) => page.len() as u64,
            Body::File(_, part) => part.end - part.start,
        }
    }
}

impl Response {
    pub(crate) fn new(status: u16, body: Body) -> Response {
        let mut head = String::with_capacity(512);
        head.extend(["HTTP/1.1 ", &status.to_string(), " ", reason(status), "\r\n"]);
        let response = Response { status, head, body };
        response.with("Server", "sockserver").with("X-Content-Type-Options", "nosniff")
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
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub(crate) fn send(mut self, client: &mut Writer, request: &Request<'_>) -> io::Result<()> {
        if !matches!(self.body, Body::None) {
            let length = self.body.length().to_string();
            self = self.with("Content-Length", &length);
        }
        let connection = if request.keeps_alive() { "keep-alive" } else { "close" };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let Response { mut head, body, .. } = self.with("Date", &date).with("Connection", connection);
        head.push_str("\r\n");
        client.write_all(head.as_bytes())?;
        match body {
            _ if request.method == "HEAD" => Ok(()),
            Body::None => Ok(()),
            Body::Page(page) => client.write_all(page.as_bytes()),
            Body::File(file, part) => client.send_file(file, part),
        }
    }
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
