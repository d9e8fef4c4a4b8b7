//! The head of a request: where it ends, and what it says.

use sockserver::{
    BoxError,
    framing::{Framing, FromFrame, Scan},
};

/// A head ends with an empty line.
#[derive(Default)]
pub(crate) struct Heads;

impl Framing for Heads {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        // A line end alone is refused later. It is found here, as otherwise the server would wait for more.
        let end = (0..bytes.len()).find_map(|at| match bytes[at] {
            b'\n' if bytes[at + 1..].starts_with(b"\r\n") => Some(at + 3),
            b'\n' if bytes[at + 1..].starts_with(b"\n") => Some(at + 2),
            _ => None,
        });
        Ok(match end {
            Some(length) => Scan::End { length, header: 0, trailer: 0 },
            // The last bytes may be the start of the end.
            None => Scan::More(bytes.len().saturating_sub(2)),
        })
    }

    fn encode(&self, _payload: &[u8], _outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        Err("a server sends no requests".into())
    }
}

/// What a head says, as far as it matters for files.
#[derive(Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// The path and the query, as the client has sent them.
    pub(crate) target: &'a str,
    /// A connection of HTTP/1.0 ends after the answer, unless it is asked to stay.
    is_1_0: bool,
    connection: Option<&'a str>,
    pub(crate) has_body: bool,
    pub(crate) if_none_match: Option<&'a str>,
    pub(crate) if_modified_since: Option<&'a str>,
    pub(crate) range: Option<&'a str>,
    pub(crate) if_range: Option<&'a str>,
}

const MAX_HEADERS: usize = 64;

impl FromFrame for Request<'_> {
    type Message<'a> = Request<'a>;

    fn from_frame(frame: &[u8]) -> Result<Request<'_>, BoxError> {
        if frame.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || frame[at - 1] != b'\r')) {
            return Err("a line ends with LF alone, not with CR LF".into());
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        if head.parse(frame)?.is_partial() {
            return Err("the head is cut off".into());
        }
        let mut request = Request {
            method: head.method.unwrap_or_default(),
            target: head.path.unwrap_or_default(),
            is_1_0: head.version == Some(0),
            ..Request::default()
        };
        let mut hosts = 0;
        let mut length = None;
        for httparse::Header { name, value } in head.headers.iter() {
            // A header that is no text is none of those below.
            let value = str::from_utf8(value).unwrap_or_default();
            match &*name.to_ascii_lowercase() {
                "host" => hosts += 1,
                "connection" => request.connection = Some(value),
                "content-length" => {
                    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                    if !is_number || length.is_some_and(|before| before != value) {
                        return Err("Content-Length is not one number".into());
                    }
                    length = Some(value);
                }
                "transfer-encoding" => request.has_body = true,
                "if-none-match" => request.if_none_match = Some(value),
                "if-modified-since" => request.if_modified_since = Some(value),
                "range" => request.range = Some(value),
                "if-range" => request.if_range = Some(value),
                _ => {}
            }
        }
        if hosts > 1 || (hosts == 0 && !request.is_1_0) {
            return Err("a request has one Host".into());
        }
        if length.is_some() && request.has_body {
            return Err("a request with Transfer-Encoding has no Content-Length".into());
        }
        request.has_body |= length.is_some_and(|length| length.bytes().any(|digit| digit != b'0'));
        Ok(request)
    }
}

impl Request<'_> {
    /// In place of a request that was not understood.
    pub(crate) fn bad() -> Request<'static> {
        Request { is_1_0: true, ..Request::default() }
    }

    /// Whether the connection stays open for the next request. Bodies are not read, so it ends after one.
    pub(crate) fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            let mut words = self.connection.unwrap_or_default().split(',');
            words.any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        !self.has_body && if self.is_1_0 { says("keep-alive") } else { !says("close") }
    }
}
