//! The example `lengths`, server and client.

use sockserver_tests::{
    client::Client,
    place::Place,
    process::{Process, ServerProcess, example},
};

fn lengths() -> ServerProcess {
    ServerProcess::start(example("lengths"), Place::of("tcp"))
}

fn message(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u32::to_be_bytes(text.len() as u32), text].concat()
}

#[test]
fn its_client_prints_the_answers() {
    let server = lengths();
    let mut client = example("lengths");
    client.args(["client", &server.address().to_string(), "drawer", "", "größe", "two\nlines"]);
    assert_eq!(Process::start(&mut client).output(), "reward\n\neßörg\nsenil\nowt\n");
}

#[test]
fn the_answers_to_many_words_come_in_their_order() {
    let server = lengths();
    let mut client = example("lengths");
    let words: Vec<String> = (0..20).map(|number| number.to_string() + &"x".repeat(60_000)).collect();
    let answers: String = words.iter().map(|word| word.chars().rev().collect::<String>() + "\n").collect();
    client.arg("client").arg(server.address().to_string()).args(&words);
    assert!(Process::start(&mut client).output() == answers);
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let server = lengths();
    let mut client = Client::connect(server.address());
    for byte in message("abc") {
        client.send([byte]);
    }
    assert_eq!(client.bytes(7), message("cba"));
    client.send([message("1"), message(""), message("23")].concat());
    assert_eq!(client.bytes(15), [message("1"), message(""), message("32")].concat());
    client.finish();
    assert_eq!(client.rest(), "");
}

#[test]
fn what_is_no_message_ends_its_own_connection_only() {
    let server = lengths();
    let mut other = Client::connect(server.address());
    other.send(message("ab"));
    assert_eq!(other.bytes(6), message("ba"));
    for (bytes, report) in [
        (message(b"\xff"), "malformed message: invalid utf-8"),
        (message([b'x'; 64 * 1024 + 1]), "longer than max_frame (65536 bytes)"),
        // No memory is taken for what is only announced.
        (b"\xff\xff\xff\xff".to_vec(), "a frame of 4294967295 bytes"),
    ] {
        let mut client = Client::connect(server.address());
        client.send([message("ab"), bytes].concat());
        assert_eq!(client.bytes(6), message("ba"));
        client.wait_for_end();
        server.reports(report);
    }
    other.send(message("cd"));
    assert_eq!(other.bytes(6), message("dc"));
}
