//! The example `smtp_sink`, and the mail clients of others.

use std::process::Command;

use sockserver_tests::{
    client::Client,
    place::Place,
    process::{Process, ServerProcess, example, installed},
};

fn serve() -> ServerProcess {
    ServerProcess::start(example("smtp_sink"), Place::of("tcp"))
}

fn greeted(server: &ServerProcess) -> Client {
    let mut client = Client::connect(server.address());
    assert!(client.line().starts_with("220 "));
    client
}

/// The code of the answer.
fn code(client: &mut Client, command: &str) -> String {
    client.ask(&format!("{command}\r")).chars().take(3).collect()
}

#[test]
fn swaks_delivers_over_tls() {
    let Some(mut swaks) = installed("swaks") else { return };
    let server = serve();
    swaks.args(["--server", &server.address().to_string(), "--tls", "--from", "alice@example.org"]);
    swaks.args(["--to", "bob@example.org,carol@example.org", "--body", "hello"]);
    assert!(Process::start(&mut swaks).ended().success());
    let mail = server.line_after("mail from ");
    assert!(mail.starts_with("alice@example.org to bob@example.org, carol@example.org, "), "{mail}");
    assert!(mail.ends_with(" over TLSv1.3"), "{mail}");
    server.line_after("| hello");
}

#[test]
fn python_delivers_over_tls_and_in_plain_text() {
    const PYTHON: &str = "
import smtplib, ssl, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as sink:
    sink.sendmail('a@example.org', ['b@example.org'], 'Subject: plain\\r\\n\\r\\n.\\r\\n..dots\\r\\n\\x1b[31m')
    sink.starttls(context=ssl._create_unverified_context())
    sink.ehlo()
    assert not sink.has_extn('starttls')
    sink.sendmail('c@example.org', ['d@example.org'], 'Subject: secret\\r\\n\\r\\n')
";
    if installed("python3").is_none() {
        return;
    }
    let server = serve();
    let address = server.address().to_string();
    let (host, port) = address.rsplit_once(':').expect("a port");
    assert!(Process::start(Command::new("python3").args(["-c", PYTHON, host, port])).ended().success());
    assert_eq!(server.line_after("mail from "), "a@example.org to b@example.org, 5 lines in plain text");
    let mail: Vec<_> = (0..5).map(|_| server.line()).collect();
    assert_eq!(mail, ["| Subject: plain", "| ", "| .", "| ..dots", "| ?[31m"]);
    assert_eq!(server.line_after("mail from "), "c@example.org to d@example.org, 2 lines over TLSv1.3");
}

#[test]
fn what_is_out_of_order_is_refused_and_the_talk_goes_on() {
    let server = serve();
    let mut client = greeted(&server);
    for (command, answer) in [
        ("RCPT TO:<b@example.org>", "503"),
        ("DATA", "503"),
        ("MAIL alice", "501"),
        ("mail from:<> SIZE=1", "250"),
        ("DATA", "503"),
        ("RCPT TO:bob", "501"),
        ("RCPT TO:<b@example.org>", "250"),
        ("RSET", "250"),
        ("DATA", "503"),
        ("EXPN everybody", "500"),
        ("NOOP", "250"),
        ("QUIT", "221"),
    ] {
        assert_eq!(code(&mut client, command), answer, "{command}");
    }
    assert_eq!(client.rest(), "");
}

#[test]
fn a_mail_that_is_too_large_is_refused_after_its_end() {
    let server = serve();
    let mut client = greeted(&server);
    for command in ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"] {
        assert_eq!(code(&mut client, command), "250");
    }
    assert_eq!(code(&mut client, "DATA"), "354");
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    client.send(line.repeat(11_000));
    assert_eq!(code(&mut client, "."), "552");
    assert_eq!(code(&mut client, "NOOP"), "250");
}

#[test]
fn what_somebody_adds_behind_starttls_is_not_obeyed() {
    let server = serve();
    let mut client = greeted(&server);
    client.send("STARTTLS\r\nMAIL FROM:<mallory@example.org>\r\n");
    let answers = client.rest();
    assert!(!answers.contains("250"), "{answers}");
}
