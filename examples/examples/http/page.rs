//! The pages that the server writes itself: a directory, and an error.

use std::{fmt::Write as _, fs, io, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What stands for itself in a path.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8883; --soft: #888; --accent: #0b62c4; }
@media (prefers-color-scheme: dark) { :root { --accent: #6cb6ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.35rem; font-weight: 600; overflow-wrap: anywhere; }
h1 span { color: var(--soft); font-weight: 400; padding: 0 .2em; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: .8rem; font-weight: 500; color: var(--soft); }
th, td { padding: .4rem .5rem; border-bottom: 1px solid var(--line); }
td:first-child { overflow-wrap: anywhere; }
td:first-child a { display: block; }
tr:hover td { background: #8881; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.directory { font-weight: 600; }
footer, p { color: var(--soft); }
footer { font-size: .8rem; margin-top: 1.5rem; }
";

pub(crate) fn error(status: u16, reason: &str, why: &str) -> String {
    page(reason, &format!("<h1>{status}<span>·</span>{reason}</h1>\n<p>{}</p>", escape(why)))
}

/// The entries of a directory, with the directories first.
pub(crate) fn listing(names: &[Vec<u8>], directory: &Path) -> io::Result<String> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // That of the file that a link leads to. A link to nowhere is not shown.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        entries.push((!metadata.is_dir(), entry.file_name(), metadata));
    }
    entries.sort_by(|a, b| {
        let key = |name: &std::ffi::OsStr| name.to_string_lossy().to_lowercase();
        (a.0, key(&a.1)).cmp(&(b.0, key(&b.1)))
    });
    let mut rows = String::new();
    if !names.is_empty() {
        rows += "<tr><td class=\"directory\"><a href=\"../\">..</a></td><td></td><td></td></tr>\n";
    }
    for (is_file, name, metadata) in &entries {
        let shown = escape(&name.to_string_lossy());
        let href = percent_encode(name.as_bytes(), IN_A_PATH);
        let time = metadata.modified().map_or(String::new(), date);
        let row = match is_file {
            true => {
                format!("<tr><td><a href=\"{href}\">{shown}</a></td><td class=\"number\">{}</td>", size(metadata.len()))
            }
            false => format!("<tr><td class=\"directory\"><a href=\"{href}/\">{shown}/</a></td><td></td>"),
        };
        let _ = writeln!(rows, "{row}<td class=\"number\">{time}</td></tr>");
    }
    let directories = entries.iter().filter(|(is_file, ..)| !is_file).count();
    let title = names.last().map_or("/".into(), |name| String::from_utf8_lossy(name));
    let body = format!(
        "<h1>{}</h1>\n<table>\n<thead><tr><th>Name</th><th class=\"number\">Size</th><th class=\"number\">Changed (UTC)</th>\
         </tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n<footer>{} and {}</footer>",
        trail(names),
        plural(directories, "directory", "directories"),
        plural(entries.len() - directories, "file", "files"),
    );
    Ok(page(&escape(&title), &body))
}

/// The way to a directory, each step a link.
fn trail(names: &[Vec<u8>]) -> String {
    let mut trail = "<a href=\"/\">~</a><span>/</span>".to_owned();
    for depth in 1..=names.len() {
        let name = escape(&String::from_utf8_lossy(&names[depth - 1]));
        let _ = write!(trail, "<a href=\"{}\">{name}</a><span>/</span>", link(&names[..depth], true));
    }
    trail
}

/// The path of a file or a directory on this server. It starts with one slash, so that it leads to no other server.
pub(crate) fn link(names: &[Vec<u8>], is_directory: bool) -> String {
    let names: Vec<_> = names.iter().map(|name| percent_encode(name, IN_A_PATH).to_string()).collect();
    format!("/{}{}", names.join("/"), if is_directory && !names.is_empty() { "/" } else { "" })
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn plural(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// A size for people: `1.4 MB`.
fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if size < 999.5 {
            return if unit == "B" { format!("{size} {unit}") } else { format!("{size:.1} {unit}") };
        }
        size /= 1000.0;
    }
    format!("{size:.1} PB")
}

/// A time to the minute, out of the date in HTTP: `26 Nov 2026 10:30`.
fn date(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    date.get(5..22).unwrap_or_default().to_owned()
}
