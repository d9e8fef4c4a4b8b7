//! From a request to the file or the directory that it names.

use std::{
    ffi::OsStr,
    fs::{File, Metadata, OpenOptions},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use percent_encoding::percent_decode_str;

use crate::{
    page,
    request::Request,
    response::{Body, Response},
};

pub(crate) fn respond(directory: &Path, request: &Request<'_>) -> Response {
    if !matches!(request.method, "GET" | "HEAD") {
        return Response::error(405, "There are only files to GET.").with("Allow", "GET, HEAD");
    }
    if request.has_body {
        return Response::error(413, "A request for a file has no body.");
    }
    let Some((names, is_directory)) = names(request.target) else {
        return Response::error(400, "This is no path.");
    };
    let mut path = directory.to_path_buf();
    path.extend(names.iter().map(|name| OsStr::from_bytes(name)));
    found(path, &names, is_directory, request).unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
            Response::error(404, "There is no such file.")
        }
        ErrorKind::PermissionDenied => Response::error(403, "This file is not for everybody."),
        _ => Response::error(500, "The file cannot be read."),
    })
}

/// The names on the way from the directory to the file, and whether a slash ends the path. `None`: the way leads out of the
/// directory, or is none.
fn names(target: &str) -> Option<(Vec<Vec<u8>>, bool)> {
    // A proxy's form of a target: `http://host/path`.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let names = path.split('/').filter(|name| !name.is_empty()).map(|name| percent_decode_str(name).collect());
    let names: Vec<Vec<u8>> = names.collect();
    let is_safe = |name: &Vec<u8>| !matches!(&name[..], b"." | b"..") && !name.iter().any(|byte| b"/\0".contains(byte));
    names.iter().all(is_safe).then_some((names, path.is_empty() || path.ends_with('/')))
}

fn found(mut path: PathBuf, names: &[Vec<u8>], is_directory: bool, request: &Request<'_>) -> io::Result<Response> {
    let (mut file, mut metadata) = open(&path)?;
    if metadata.is_dir() {
        if !is_directory {
            // Else the links of the page would lead elsewhere.
            return Ok(Response::error(301, "This is a directory.").with("Location", &page::link(names, true)));
        }
        let index = path.join("index.html");
        match open(&index) {
            Ok((of_index, its)) if its.is_file() => (path, file, metadata) = (index, of_index, its),
            _ => return Ok(Response::page(200, page::listing(names, &path)?)),
        }
    } else if is_directory {
        return Err(ErrorKind::NotADirectory.into());
    }
    if !metadata.is_file() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    answer_with(file, &path, &metadata, request)
}

fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Else opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn answer_with(file: File, path: &Path, metadata: &Metadata, request: &Request<'_>) -> io::Result<Response> {
    let modified = metadata.modified()?;
    let etag = etag(metadata, modified);
    let with_version = |response: Response| {
        response
            .with("ETag", &etag)
            .with("Last-Modified", &httpdate::fmt_http_date(modified))
            .with("Accept-Ranges", "bytes")
    };
    if is_known(request, &etag, modified) {
        return Ok(with_version(Response::new(304, Body::None)));
    }
    let length = metadata.len();
    let is_same = request.if_range.is_none_or(|known| known == etag || is_date(known, modified));
    let (status, range) = match request.range.filter(|_| is_same).map(|range| parse_range(range, length)) {
        None | Some(AskedRange::Other) => (200, 0..length),
        Some(AskedRange::Of(range)) => (206, range),
        Some(AskedRange::Outside) => {
            let response = Response::error(416, "The file does not have so many bytes.");
            return Ok(response.with("Content-Range", &format!("bytes */{length}")));
        }
    };
    let response = Response::new(status, Body::File(file, range.clone()));
    let response = with_version(response).with("Content-Type", content_type(path));
    Ok(match status {
        206 => response.with("Content-Range", &format!("bytes {}-{}/{length}", range.start, range.end - 1)),
        _ => response,
    })
}

/// A file that was written anew has another one, as long as the clock goes on.
fn etag(metadata: &Metadata, modified: SystemTime) -> String {
    let time = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("\"{time:x}-{:x}\"", metadata.len())
}

/// Whether the client has this version of the file.
fn is_known(request: &Request<'_>, etag: &str, modified: SystemTime) -> bool {
    match (request.if_none_match, request.if_modified_since) {
        (Some(known), _) => known == "*" || known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag),
        (None, Some(date)) => httpdate::parse_http_date(date).is_ok_and(|date| seconds(modified) <= seconds(date)),
        (None, None) => false,
    }
}

fn is_date(text: &str, modified: SystemTime) -> bool {
    httpdate::parse_http_date(text).is_ok_and(|date| seconds(date) == seconds(modified))
}

/// A date of HTTP has no more.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

enum AskedRange {
    Of(Range<u64>),
    /// It starts behind the end of the file.
    Outside,
    /// Several, or what is not understood: then the whole file is the answer.
    Other,
}

/// `bytes=0-99`, `bytes=100-` or `bytes=-100`, the last 100.
fn parse_range(range: &str, length: u64) -> AskedRange {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let parsed = range.strip_prefix("bytes=").and_then(|range| {
        let (first, last) = range.trim().split_once('-')?;
        Some(match (first, last) {
            ("", last) => length.saturating_sub(number(last)?)..length,
            (first, "") => number(first)?..length,
            (first, last) if number(first)? <= number(last)? => {
                number(first)?..number(last)?.saturating_add(1).min(length)
            }
            _ => return None,
        })
    });
    match parsed {
        None => AskedRange::Other,
        Some(range) if range.start >= range.end => AskedRange::Outside,
        Some(range) => AskedRange::Of(range),
    }
}

fn content_type(path: &Path) -> &'static str {
    match mime_guess::from_path(path).first_raw() {
        // What this library does not know is most often text for people who read sources.
        None => "application/octet-stream",
        Some("text/html") => "text/html; charset=utf-8",
        Some("text/plain") => "text/plain; charset=utf-8",
        Some("text/css") => "text/css; charset=utf-8",
        Some("text/javascript" | "application/javascript") => "text/javascript; charset=utf-8",
        Some("text/markdown" | "text/x-markdown") => "text/plain; charset=utf-8",
        Some(kind) => kind,
    }
}
