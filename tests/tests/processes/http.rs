//! The example `http`, which curl, wrk, Python and a browser talk to.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use sockserver::Address;
use sockserver_tests::{
    client::Client,
    place::{Directory, Place},
    process::{Process, ServerProcess, example, installed},
    tls::Authority,
};

const BYTES: usize = 1_000_000;

/// A server of a directory with a few files.
struct Site {
    server: ServerProcess,
    directory: Directory,
}

impl Site {
    fn start() -> Site {
        Site::with(&[])
    }

    fn with(options: &[&str]) -> Site {
        let directory = Directory::new();
        let path = directory.path();
        fs::create_dir_all(path.join("public/films & <b>")).expect("a directory");
        fs::write(path.join("secret.txt"), "secret").expect("a file");
        let public = path.join("public");
        fs::write(public.join("hello.txt"), "hello\n").expect("a file");
        fs::write(public.join("empty"), "").expect("a file");
        fs::write(public.join("a \"q\" & #1%.html"), "<p>odd</p>").expect("a file");
        let bytes: Vec<u8> = (0..BYTES).map(|byte| (byte % 251) as u8).collect();
        fs::write(public.join("bytes.bin"), bytes).expect("a file");
        let mut command = example("http");
        command.arg("--directory").arg(&public).args(options);
        Site { server: ServerProcess::start(command, Place::of("tcp")), directory }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("public").join(name)
    }

    /// What a client that sends these bytes, and no more, gets.
    fn answers(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = Client::connect(self.server.address());
        client.send(request);
        client.finish();
        client.rest()
    }

    /// The answer to one request of HTTP/1.0 with these headers.
    fn get(&self, target: &str, headers: &str) -> String {
        self.answers(format!("GET {target} HTTP/1.0\r\n{headers}\r\n"))
    }

    /// Its status line, without the version.
    #[track_caller]
    fn status(&self, target: &str, headers: &str) -> String {
        status(&self.get(target, headers)).to_owned()
    }

    /// curl, which prints the body.
    fn curl(&self) -> Option<Command> {
        let mut curl = installed("curl")?;
        curl.args(["--silent", "--show-error", "--fail", "--path-as-is", "--max-time", "20"]);
        Some(curl)
    }
}

#[track_caller]
fn status(answer: &str) -> &str {
    let line = answer.lines().next().unwrap_or_default();
    line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("no status in {answer:?}"))
}

#[track_caller]
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let found = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {head:?}"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn a_file_comes_with_its_type_and_its_version() {
    let site = Site::start();
    let answer = site.get("/hello.txt", "");
    assert_eq!((status(&answer), body(&answer)), ("200 OK", "hello\n"));
    assert_eq!(header(&answer, "Content-Type"), "text/plain; charset=utf-8");
    assert_eq!(header(&answer, "Content-Length"), "6");
    assert_eq!(header(&answer, "Connection"), "close");
    let head = site.answers("HEAD /hello.txt HTTP/1.0\r\n\r\n");
    assert_eq!((status(&head), header(&head, "Content-Length"), body(&head)), ("200 OK", "6", ""));
    assert_eq!(body(&site.get("/empty", "")), "");
    assert_eq!(body(&site.get("/a%20%22q%22%20%26%20%231%25.html?query", "")), "<p>odd</p>");
    assert_eq!(site.status("/nothing", ""), "404 Not Found");
    assert_eq!(site.status("/hello.txt/", ""), "404 Not Found");
    assert_eq!(site.status("http://elsewhere/hello.txt", ""), "200 OK");
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let site = Site::start();
    let answer = site.get("/hello.txt", "");
    let (etag, modified) = (header(&answer, "ETag"), header(&answer, "Last-Modified"));
    for known in [
        format!("If-None-Match: {etag}"),
        format!("If-None-Match: \"other\", W/{etag}"),
        "If-None-Match: *".into(),
        format!("If-Modified-Since: {modified}"),
    ] {
        let answer = site.get("/hello.txt", &format!("{known}\r\n"));
        assert_eq!((status(&answer), body(&answer)), ("304 Not Modified", ""), "{known}");
        assert_eq!(header(&answer, "ETag"), etag);
    }
    for other in [
        "If-None-Match: \"other\"".to_owned(),
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".into(),
        "If-Modified-Since: yesterday".into(),
        // The entity tag wins.
        format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {modified}"),
    ] {
        assert_eq!(site.status("/hello.txt", &format!("{other}\r\n")), "200 OK", "{other}");
    }
    fs::write(site.file("hello.txt"), "hello again\n").expect("a file");
    assert_eq!(site.status("/hello.txt", &format!("If-None-Match: {etag}\r\n")), "200 OK");
}

#[test]
fn a_part_of_a_file_can_be_had() {
    let site = Site::start();
    for (range, content_range, part) in [
        ("bytes=0-1", "bytes 0-1/6", "he"),
        ("bytes=4-", "bytes 4-5/6", "o\n"),
        ("bytes=-3", "bytes 3-5/6", "lo\n"),
        ("bytes=-100", "bytes 0-5/6", "hello\n"),
        ("bytes=3-99999999999999999999", "", ""),
        ("bytes=3-99999", "bytes 3-5/6", "lo\n"),
    ] {
        let answer = site.get("/hello.txt", &format!("Range: {range}\r\n"));
        match content_range {
            "" => assert_eq!((status(&answer), body(&answer)), ("200 OK", "hello\n"), "{range}"),
            _ => {
                assert_eq!((status(&answer), body(&answer)), ("206 Partial Content", part), "{range}");
                assert_eq!(header(&answer, "Content-Range"), content_range);
            }
        }
    }
    for range in ["bytes=6-", "bytes=6-7", "bytes=-0"] {
        let answer = site.get("/hello.txt", &format!("Range: {range}\r\n"));
        assert_eq!((status(&answer), header(&answer, "Content-Range")), ("416 Range Not Satisfiable", "bytes */6"));
    }
    for range in ["bytes=1-0", "bytes=0-1,3-4", "lines=0-1", "bytes=-", "bytes=x-1", "bytes=+1-2"] {
        assert_eq!(site.status("/hello.txt", &format!("Range: {range}\r\n")), "200 OK", "{range}");
    }
    let etag = header(&site.get("/hello.txt", ""), "ETag").to_owned();
    assert_eq!(site.status("/hello.txt", &format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n")), "206 Partial Content");
    assert_eq!(site.status("/hello.txt", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n"), "200 OK");
}

#[test]
fn curl_downloads_goes_on_and_keeps_the_connection() {
    let site = Site::start();
    let Some(mut curl) = site.curl() else { return };
    let whole = site.file("whole");
    let args = ["--write-out", "%{num_connects} ", "-o"];
    let output = Process::start(
        curl.args(args).arg(&whole).arg(site.url("/bytes.bin")).args(["-o", "/dev/null"]).arg(site.url("/hello.txt")),
    )
    .output();
    assert_eq!(output, "1 0 \n", "one connection for both");
    assert_eq!(fs::read(&whole).expect("it is there"), fs::read(site.file("bytes.bin")).expect("it is there"));
    // Half of it has come already.
    fs::write(&whole, &fs::read(site.file("bytes.bin")).expect("it is there")[..BYTES / 2]).expect("a file");
    let Some(mut curl) = site.curl() else { return };
    Process::start(curl.args(["-C", "-", "-o"]).arg(&whole).arg(site.url("/bytes.bin"))).output();
    assert_eq!(fs::read(&whole).expect("it is there"), fs::read(site.file("bytes.bin")).expect("it is there"));
    // A body is answered at once, without waiting for it.
    let Some(mut curl) = installed("curl") else { return };
    let refused = ["--silent", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "-T"];
    assert_eq!(Process::start(curl.args(refused).arg(&whole).arg(site.url("/upload"))).output(), "405\n");
}

#[test]
fn curl_downloads_by_tls() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.certify("localhost"));
    let [certificate, key] = [tls.certificate, tls.key].map(|file| file.expect("both were written"));
    let site = Site::with(&["--certificate", certificate, "--key", key]);
    let Address::Inet(address) = site.server.address() else { panic!("no port") };
    let Some(mut curl) = site.curl() else { return };
    let resolve = format!("localhost:{}:{}", address.port(), address.ip());
    curl.args(["--resolve", &resolve, "--cacert", authority.option("ca.pem")]);
    let whole = site.file("whole");
    let url = |path: &str| format!("https://localhost:{}{path}", address.port());
    curl.args(["-w", "%{http_version} %{num_connects} ", "-o"]).arg(&whole).arg(url("/bytes.bin"));
    let output = Process::start(curl.args(["-o", "/dev/null"]).arg(url("/hello.txt"))).output();
    assert_eq!(output, "1.1 1 1.1 0 \n", "one connection for both");
    assert_eq!(fs::read(&whole).expect("it is there"), fs::read(site.file("bytes.bin")).expect("it is there"));
    // Who speaks no TLS gets nothing.
    assert!(!site.get("/hello.txt", "").contains("hello"));
}

#[test]
fn slow_downloads_take_no_threads_and_no_memory() {
    let site = Site::start();
    let Some(mut curl) = site.curl() else { return };
    fs::write(site.file("large"), vec![b'x'; 20_000_000]).expect("a file");
    let before = site.server.observed().resources();
    let mut slow: Vec<_> = (0..200).map(|_| Client::connect(site.server.address())).collect();
    for client in &mut slow {
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.line(), "HTTP/1.1 200 OK\r");
    }
    assert_eq!(Process::start(curl.arg(site.url("/hello.txt"))).output(), "hello\n");
    // Reading a file may be slow, so that a few threads took over from one another.
    let during = site.server.observed().resources();
    assert!(during.threads <= before.threads + 8, "{during:?} after {before:?}");
    assert!(during.memory <= before.memory + (6 << 20), "{during:?} after {before:?}");
    let mut last = slow.pop().expect("there are 200");
    last.finish();
    assert!(last.rest().ends_with(&"x".repeat(20_000_000)));
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let site = Site::start();
    let taken = site.server.address().to_string();
    for (words, said) in [
        (&["--loud"][..], "http: --loud is not understood"),
        (&["--bind"], "http: --bind takes a value"),
        (&["70000"], "http: 70000 is no port: it is a number up to 65535"),
        (&["--directory", "/nowhere"], "http: /nowhere: No such file or directory"),
        (&["--certificate", "cert.pem"], "key"),
        (&["0", "--certificate", "/nowhere", "--key", "/nowhere"], "/nowhere"),
        (&[&taken], "Address already in use"),
    ] {
        let mut process = Process::start(example("http").args(words));
        process.reports(said);
        assert!(!process.ended().success());
    }
    let help = Process::start(example("http").arg("--help")).output();
    assert!(help.contains("--directory DIR"), "{help}");
}

#[test]
fn pythons_client_talks_on_one_connection() {
    let site = Site::start();
    let Some(mut python) = installed("python3") else { return };
    let Address::Inet(address) = site.server.address() else { panic!("no port") };
    let program = "
import http.client, sys
client = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
for method, path in [('GET', '/hello.txt'), ('HEAD', '/bytes.bin'), ('GET', '/nothing'), ('GET', '/bytes.bin')]:
    client.request(method, path)
    socket = client.sock
    answer = client.getresponse()
    print(answer.status, len(answer.read()), client.sock is socket)
";
    let output =
        Process::start(python.args(["-c", program, &address.ip().to_string(), &address.port().to_string()])).output();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "200 6 True");
    assert_eq!(lines[1], "200 0 True");
    assert!(lines[2].starts_with("404 ") && lines[2].ends_with(" True"), "{output}");
    assert_eq!(lines[3], format!("200 {BYTES} True"));
}

#[test]
fn wrk_gets_no_error() {
    let site = Site::start();
    let Some(mut wrk) = installed("wrk") else { return };
    let output = Process::start(wrk.args(["-t1", "-c32", "-d1s"]).arg(site.url("/hello.txt"))).output();
    assert!(output.contains("Requests/sec"), "{output}");
    assert!(!output.contains("Non-2xx") && !output.contains("Socket errors"), "{output}");
}

#[test]
fn requests_can_come_all_at_once() {
    let site = Site::start();
    let request = "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let answers = site.answers(request.repeat(50));
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 50);
    assert_eq!(answers.matches("\r\n\r\nhello\n").count(), 50);
}

#[test]
fn a_directory_is_a_page() {
    let site = Site::start();
    symlink("nowhere", site.file("dangling")).expect("a link");
    let answer = site.get("/", "");
    assert_eq!(header(&answer, "Content-Type"), "text/html; charset=utf-8");
    let page = body(&answer);
    for part in [
        "<a href=\"hello.txt\">hello.txt</a></td><td class=\"number\">6 B</td>",
        "<a href=\"bytes.bin\">bytes.bin</a></td><td class=\"number\">1.0 MB</td>",
        "<a href=\"films%20%26%20%3Cb%3E/\">films &amp; &lt;b&gt;/</a>",
        "<a href=\"a%20%22q%22%20%26%20%231%25.html\">a &quot;q&quot; &amp; #1%.html</a>",
        "1 directory and 4 files",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("dangling") && !page.contains("<b>"));
    let answer = site.get("/films%20%26%20%3Cb%3E", "");
    assert_eq!((status(&answer), header(&answer, "Location")), ("301 Moved Permanently", "/films%20%26%20%3Cb%3E/"));
    // It leads to no other server.
    fs::create_dir(site.file("evil.example")).expect("a directory");
    assert_eq!(header(&site.get("//evil.example", ""), "Location"), "/evil.example/");
    fs::write(site.file("films & <b>/index.html"), "<h1>films</h1>").expect("a file");
    assert_eq!(body(&site.get("/films%20%26%20%3Cb%3E/", "")), "<h1>films</h1>");
}

/// The paths are those of public reports: CVE-2021-41773 and CVE-2021-42013 (Apache), CVE-2018-3714 and CVE-2017-16083
/// (servers of npm), CVE-2024-23334 (aiohttp).
#[test]
fn nothing_outside_of_the_directory_is_served() {
    let site = Site::start();
    for path in [
        "/../secret.txt",
        "/..//secret.txt",
        "/films%20%26%20%3Cb%3E/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%%32%65%%32%65/secret.txt",
        "/.%00./secret.txt",
        "/hello.txt%00.html",
        "/..;/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%uff0e%uff0e/secret.txt",
        "/....//secret.txt",
        "/./../secret.txt",
        "../secret.txt",
        "//../secret.txt",
        "http://host/../secret.txt",
        "file:///etc/passwd",
    ] {
        let answer = site.get(path, "");
        assert!(["400", "404"].contains(&&status(&answer)[..3]), "{path}: {answer}");
        assert!(!answer.contains("secret\n") && !body(&answer).contains("root:"), "{path}: {answer}");
    }
    let absolute = format!("/{}", site.directory.path().join("secret.txt").display());
    assert_eq!(site.status(&absolute, ""), "404 Not Found");
}

/// What another server in front may take for one request, and this one for two, or the other way round: CVE-2019-18277
/// (HAProxy), CVE-2020-7238 (Netty), CVE-2021-31162 and RUSTSEC-2021-0078 (hyper), CVE-2023-25725 (HAProxy), and RFC 9112.
#[test]
fn a_request_that_is_unclear_ends_the_connection() {
    let site = Site::start();
    let smuggled = "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    for (headers, status_code) in [
        ("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "400"),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", "400"),
        ("Host: a\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 5", "400"),
        ("Host: a\r\nTransfer-Encoding : chunked", "400"),
        ("Host: a\r\nContent-Length : 5", "400"),
        ("Host: a\r\nContent-Length: 5\r\nContent-Length: 6", "400"),
        ("Host: a\r\nContent-Length: 5, 6", "400"),
        ("Host: a\r\nContent-Length: +5", "400"),
        ("Host: a\r\nContent-Length: -5", "400"),
        ("Host: a\r\nContent-Length: 0x5", "400"),
        ("Host: a\r\nContent-Length: 5 5", "400"),
        ("Host: a\r\nContent-Length:", "400"),
        ("Host: a\r\n Content-Length: 5", "400"),
        ("Host: a\r\nX: y\r\n\tz: 5", "400"),
        ("Host: a\nContent-Length: 5", "400"),
        ("Host: a\r\nX\0: 5", "400"),
        ("Host: a\r\n: 5", "400"),
        ("Host: a\r\nHost: b", "400"),
        ("X: 5", "400"),
        // These are clear, and have bodies, which nobody reads.
        ("Host: a\r\nContent-Length: 37", "413"),
        ("Host: a\r\nContent-Length: 0037\r\nContent-Length: 0037", "413"),
        ("Host: a\r\nTransfer-Encoding: chunked", "413"),
        ("Host: a\r\nTransfer-Encoding: xchunked", "413"),
        ("Host: a\r\nContent-Length: 99999999999999999999999", "413"),
    ] {
        let answer = site.answers(format!("GET /empty HTTP/1.1\r\n{headers}\r\n\r\n{smuggled}"));
        assert!(status(&answer).starts_with(status_code), "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
        assert_eq!(header(&answer, "Connection"), "close", "{headers:?}");
    }
    for line in [
        "GET /empty",
        "GET  /empty HTTP/1.1",
        "GET /empty HTTP/2.0",
        "GET /empty HTTP/1.1 x",
        "G@T{} /empty HTTP/1.1",
        "\0",
    ] {
        let answer = site.answers(format!("{line}\r\nHost: a\r\n\r\n{smuggled}"));
        assert!(status(&answer).starts_with("400"), "{line:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{line:?}: {answer}");
    }
    // A length of zero is none.
    let answers = site.answers(format!("GET /empty HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n{smuggled}"));
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
}

#[test]
fn a_head_without_end_is_refused() {
    let site = Site::start();
    let answer = site.answers(format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)));
    assert_eq!(status(&answer), "431 Request Header Fields Too Large");
    let answer = site.answers(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(65)));
    assert_eq!(status(&answer), "400 Bad Request");
}

#[test]
fn a_browser_shows_the_page() {
    let site = Site::start();
    let Some(mut chromium) = installed("chromium") else { return };
    let profile = site.directory.path().join("profile");
    let profile = format!("--user-data-dir={}", profile.display());
    let flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", &profile];
    let page = Process::start(chromium.args(flags).arg(site.url("/"))).output();
    assert!(page.contains("<a href=\"hello.txt\">hello.txt</a>") && page.contains("1 directory and 4 files"), "{page}");
    let site_path = Path::new(&site.url("/")).display().to_string();
    assert!(!page.contains("ERR_"), "{site_path}: {page}");
}

#[test]
fn a_client_that_downloads_is_not_cut_off_when_the_server_stops() {
    let mut site = Site::start();
    let mut client = Client::connect(site.server.address());
    client.send("GET /bytes.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let first = client.line();
    assert_eq!(first, "HTTP/1.1 200 OK\r");
    site.server.signal("TERM");
    client.finish();
    let mut received = 0;
    loop {
        let bytes = client.receive();
        if bytes.is_empty() {
            break;
        }
        received += bytes.len();
    }
    assert!(received > BYTES, "{received}");
    assert!(site.server.ended().success());
}
