//! Programs that speak TLS, as users have them.

use std::{io::Write, process::Command};

use sockserver::{HandlerResult, Options, concurrency::Threading, transport::Tcp};
use sockserver_tests::{
    behind::Behind,
    process::{Process, installed},
    proxies::Proxy,
    script::{Script, Scripted, Session, upper},
    tls::{Authority, TlsClient},
};

/// Answers the head of an HTTP request.
fn hello(session: &mut Session<Tcp, Threading>) -> HandlerResult {
    while session.rfile.next_line()?.is_some_and(|line| !line.is_empty()) {}
    Ok(write!(session.wfile, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello over TLS\n")?)
}

fn serve_upper(options: Options) -> Scripted {
    Script::<Tcp, Threading>::serve_with(upper, options)
}

fn port(server: &Scripted) -> u16 {
    server.server_address().port().expect("a TCP server")
}

fn curl(authority: &Authority, port: u16) -> Option<Command> {
    let mut curl = installed("curl")?;
    curl.args(["--silent", "--show-error", "--cacert", authority.option("ca.pem")]);
    curl.arg("--resolve").arg(format!("localhost:{port}:127.0.0.1"));
    curl.arg(format!("https://localhost:{port}/"));
    Some(curl)
}

#[test]
fn curl_gets_an_answer_in_either_version() {
    let authority = Authority::new();
    let server = Script::<Tcp, Threading>::serve_with(hello, authority.options());
    for version in ["--tls-max=1.2", "--tlsv1.3"] {
        let Some(mut curl) = curl(&authority, port(&server)) else { return };
        let output = Process::start(curl.args(version.split('='))).output();
        assert_eq!(output, "hello over TLS\n");
    }
    assert_eq!(server.reported(), None);
}

/// `openssl s_client`, with the lines that it shows of itself.
fn openssl(authority: &Authority, server: &Scripted, arguments: &[&str]) -> Option<Process> {
    let mut openssl = installed("openssl")?;
    openssl.args(["s_client", "-verify_return_error", "-verify_hostname", "localhost", "-CAfile"]);
    openssl.arg(authority.path("ca.pem")).arg("-connect").arg(format!("127.0.0.1:{}", port(server)));
    Some(Process::start(openssl.args(arguments)))
}

#[test]
fn openssl_is_answered_and_a_renegotiation_is_refused() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let Some(mut client) = openssl(&authority, &server, &["-tls1_2"]) else { return };
    client.enter("hello");
    client.line_after("HELLO");
    // This has openssl ask for one.
    client.enter("R");
    client.reports("no renegotiation");
    let Some(mut other) = openssl(&authority, &server, &["-quiet"]) else { return };
    other.enter("still here");
    other.line_after("STILL HERE");
}

#[test]
fn openssl_changes_its_keys_and_those_of_the_server() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let Some(mut client) = openssl(&authority, &server, &["-tls1_3"]) else { return };
    client.enter("first");
    client.line_after("FIRST");
    for (command, line) in [("K", "both"), ("k", "one")] {
        client.enter(command);
        client.reports("KEYUPDATE");
        client.enter(line);
        client.line_after(&line.to_uppercase());
    }
}

#[test]
fn openssl_resumes_its_session_without_early_data() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let session = authority.path("session");
    let session = session.to_str().expect("text");
    let Some(mut first) = openssl(&authority, &server, &["-tls1_3", "-sess_out", session]) else { return };
    first.enter("hello");
    first.line_after("HELLO");
    first.output();
    authority.write("early", "early\n");
    let early = authority.option("early");
    let arguments = ["-tls1_3", "-sess_in", session, "-early_data", early];
    let Some(mut second) = openssl(&authority, &server, &arguments) else { return };
    second.enter("hello");
    second.line_after("Reused, TLSv1.3");
    second.line_after("Early data was not sent");
    second.line_after("HELLO");
}

/// Talks line by line, and expects a close_notify for its own.
const PYTHON: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    client = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
    for line in ["hello", "again"]:
        client.sendall(line.encode() + b"\n")
        print(client.recv(100).decode(), end="")
    client.unwrap()
    print("both sides have closed")
"#;

#[test]
fn python_talks_and_closes_in_good_order() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let Some(mut python) = installed("python3") else { return };
    let arguments = [PYTHON, &port(&server).to_string(), authority.option("ca.pem")];
    let output = Process::start(python.arg("-c").args(arguments)).output();
    assert_eq!(output, "HELLO\nAGAIN\nboth sides have closed\n");
    assert_eq!(server.reported(), None);
}

/// The server, behind a proxy, with a certificate for `localhost`.
fn behind_proxy(authority: &Authority) -> Behind {
    authority.options();
    let files = [("certificate", "cert.pem"), ("key", "key.pem")];
    let files = files.map(|(key, file)| format!("{key}={}", authority.option(file)));
    Behind::start::<Threading>(env!("CARGO_BIN_EXE_behind"), &files.each_ref().map(String::as_str))
}

#[test]
fn haproxy_names_the_client_and_encrypts_then() {
    let authority = Authority::new();
    let server = behind_proxy(&authority);
    let line = format!(
        "{} send-proxy-v2-ssl-cn ssl sni str(localhost) verify required verifyhost localhost ca-file {}",
        server.address(),
        authority.option("ca.pem")
    );
    let Some(proxy) = Proxy::haproxy("", &line, "", |_| ()) else { return };
    let mut client = proxy.connect();
    let who = client.ask("who");
    assert!(who.starts_with(&format!("{} by 127.0.0.1:", client.address())), "{who}");
    assert_eq!(client.ask("hello"), "HELLO");
    // The client of the proxy speaks no TLS.
    assert!(client.ask("header").contains("is_encrypted: false"));
}

#[test]
fn nginx_names_the_client_and_encrypts_then() {
    let authority = Authority::new();
    let server = behind_proxy(&authority);
    let trust = format!("proxy_ssl_verify on; proxy_ssl_trusted_certificate {};", authority.option("ca.pem"));
    let words = format!("proxy_ssl on; proxy_ssl_name localhost; proxy_ssl_server_name on; {trust}");
    let Some(proxy) = Proxy::nginx_with(server.address(), &words) else { return };
    let mut client = proxy.connect();
    let who = client.ask("who");
    assert!(who.starts_with(&format!("{} by 127.0.0.1:", client.address())), "{who}");
    assert_eq!(client.ask("hello"), "HELLO");
}

#[test]
#[ignore = "it takes a minute"]
fn testssl_finds_nothing_above_low() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let Some(mut testssl) = installed("testssl") else { return };
    let report = authority.path("testssl.json");
    testssl.args(["--quiet", "--warnings", "off", "--color", "0", "--severity", "MEDIUM", "--add-ca"]);
    testssl.arg(authority.path("ca.pem")).arg("--jsonfile").arg(&report);
    // What it asks of the server, and not of its certificate, which is made for a test.
    testssl.args(["--protocols", "--std", "--server-preference", "--vulnerable", "--fs"]);
    testssl.arg(format!("127.0.0.1:{}", port(&server)));
    // Its status is no verdict.
    let output = testssl.output().expect("it was there");
    let findings = std::fs::read_to_string(report).expect("testssl reports");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&findings).expect("JSON");
    assert!(String::from_utf8_lossy(&output.stdout).contains("TLS 1.3    offered"), "it has asked");
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| ["MEDIUM", "HIGH", "CRITICAL"].iter().any(|severity| finding["severity"] == *severity))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_client_is_answered_line_by_line() {
    let authority = Authority::new();
    let server = serve_upper(authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    assert_eq!(client.ask("again"), "AGAIN");
    client.finish();
    assert_eq!(client.rest(), "");
}
