//! The example `chat_web`, in a browser, with a client that others wrote, and byte by byte.

use std::{env, net::TcpStream, path::PathBuf};

use serde_json::{Value, json};
use sockserver_tests::{
    browser::Browser,
    client::{Client, PATIENCE},
    place::Place,
    process::{ServerProcess, example},
};
use tungstenite::{Error, Message, WebSocket, handshake::client::generate_key, http::Request};

fn chat() -> ServerProcess {
    ServerProcess::start(example("chat_web"), Place::of("tcp"))
}

/// Connects with this header line more.
fn try_connect(server: &ServerProcess, header: Option<(&str, &str)>) -> Result<WebSocket<TcpStream>, String> {
    let stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let host = server.address().to_string();
    let mut request = Request::builder()
        .uri(format!("ws://{host}/"))
        .header("Host", &host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(()).expect("a request");
    tungstenite::client(request, stream).map(|(socket, _)| socket).map_err(|error| error.to_string())
}

struct Member(WebSocket<TcpStream>);

impl Member {
    fn join(server: &ServerProcess, name: &str, others: &[&str]) -> Member {
        let mut member = Member(try_connect(server, None).expect("the server takes a WebSocket"));
        member.say(name);
        assert_eq!(member.hear(), json!({"kind": "welcome", "name": name, "members": others}));
        member
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("the server listens");
    }

    fn hear(&mut self) -> Value {
        let heard = self.0.read().expect("the server says something");
        serde_json::from_str(heard.to_text().expect("a text")).expect("JSON")
    }

    /// Waits for the frame that closes the connection, and for the end.
    fn closed(&mut self) -> (u16, String) {
        let heard = self.0.read().expect("the server says why");
        let Message::Close(Some(why)) = heard else { panic!("{heard:?}") };
        loop {
            match self.0.read() {
                Err(Error::ConnectionClosed | Error::Protocol(_)) => return (why.code.into(), why.reason.to_string()),
                Err(error) => panic!("{error}"),
                Ok(_) => {}
            }
        }
    }
}

#[test]
fn members_see_each_other_come_talk_and_go() {
    let server = chat();
    let mut alice = Member::join(&server, "alice", &[]);
    let mut bob = Member::join(&server, "bob", &["alice"]);
    assert_eq!(alice.hear(), json!({"kind": "joined", "name": "bob"}));
    bob.say("hello <b>\"alice\"</b> ☺");
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.hear(), json!({"kind": "said", "name": "bob", "text": "hello <b>\"alice\"</b> ☺"}));
    }
    let mut twin = Member(try_connect(&server, None).expect("it takes a WebSocket"));
    twin.say("bob");
    assert_eq!(twin.hear(), json!({"kind": "refused", "text": "bob is here already"}));
    // Without saying goodbye.
    drop(bob);
    assert_eq!(alice.hear(), json!({"kind": "left", "name": "bob"}));
    alice.0.close(None).expect("the server listens");
    assert!(matches!(alice.0.read(), Ok(Message::Close(_))));
}

#[test]
fn a_long_message_and_one_in_parts_come_whole() {
    let server = chat();
    let mut alice = Member::join(&server, "alice", &[]);
    for length in [1, 125, 126, 127, 5000, 16_000] {
        let text = "x".repeat(length);
        alice.say(&text);
        assert_eq!(alice.hear()["text"], text);
    }
    alice.0.send(Message::Ping(b"there?".as_slice().into())).expect("the server listens");
    let pong = alice.0.read().expect("the server answers");
    assert_eq!(pong, Message::Pong(b"there?".as_slice().into()));
    // By hand: three frames with a ping between them, and one mask for all.
    let mut raw = upgraded(&server);
    let frame = |first: u8, text: &str| {
        let mask = [1, 2, 3, 4];
        let masked = text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let mut frame = vec![first, 0x80 | text.len() as u8];
        frame.extend(mask);
        frame.extend(masked);
        frame
    };
    for byte in [frame(0x01, "b"), frame(0x00, "o"), frame(0x89, "!"), frame(0x80, "b")].concat() {
        raw.send([byte]);
    }
    assert_eq!(raw.bytes(3), b"\x8a\x01!");
    assert_eq!(alice.hear(), json!({"kind": "joined", "name": "bob"}));
}

/// A connection that has become a WebSocket, to write frames to.
fn upgraded(server: &ServerProcess) -> Client {
    let mut client = Client::connect(server.address());
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"));
    let answer: Vec<String> = std::iter::repeat_with(|| client.line()).take_while(|line| line != "\r").collect();
    // The example of RFC 6455.
    assert!(answer.contains(&"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r".to_owned()), "{answer:?}");
    client
}

#[test]
fn what_is_no_frame_of_a_client_is_told_so() {
    let server = chat();
    for (frame, status, why) in [
        (&b"\x81\x01x"[..], 1002, "masked"),
        (b"\xc1\x81\0\0\0\0x", 1002, "extension"),
        (b"\x09\x81\0\0\0\0x", 1002, "control"),
        (b"\x89\xfe\0\x80\0\0\0\0", 1002, "control"),
        (b"\x82\x81\0\0\0\0x", 1002, "texts"),
        (b"\x81\x81\0\0\0\0\xff", 1007, "no text"),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1002, "endless"),
        (b"\x81\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0", 1009, "too long"),
    ] {
        let mut client = upgraded(&server);
        client.send(frame);
        let answer = client.bytes(4);
        assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x88, status), "{}", frame.escape_ascii());
        client.finish();
        let reason = client.rest();
        assert!(reason.contains(why), "{}: {reason}", frame.escape_ascii());
    }
}

#[test]
fn pages_from_elsewhere_may_not_connect() {
    let server = chat();
    let own = format!("http://{}", server.address());
    assert!(try_connect(&server, Some(("Origin", &own))).is_ok());
    for origin in ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"] {
        let refused = try_connect(&server, Some(("Origin", origin))).expect_err("it is refused");
        assert!(refused.contains("400"), "{refused}");
    }
}

#[test]
fn a_server_that_stops_says_so() {
    let mut server = chat();
    let mut alice = Member::join(&server, "alice", &[]);
    server.signal("TERM");
    assert_eq!(alice.closed(), (1001, "the server stops".to_owned()));
    assert!(server.ended().success());
}

/// With `SOCKSERVER_PICTURES` set to a directory, a picture of each page is left there.
#[test]
fn two_pages_of_a_browser_talk() {
    let server = chat();
    let Some(mut browser) = Browser::start() else { return };
    let url = format!("http://{}/", server.address());
    let pages = ["alice", "bob"].map(|_| browser.open(&url, (480, 640)));
    for (page, name) in pages.iter().zip(["alice", "bob"]) {
        browser.wait_until(page, "document.readyState === 'complete' && socket.readyState === WebSocket.OPEN");
        browser.evaluate(page, "entry.focus()");
        browser.enter(page, name);
        browser.wait_until(page, &format!("members.textContent.includes('{name}')"));
    }
    browser.wait_until(&pages[0], "members.textContent === 'alice, bob'");
    for (speaker, text) in [(0, "hello, is anybody here?"), (1, "yes: <b>me</b> & my page"), (0, "good")] {
        browser.enter(&pages[speaker], text);
        for page in &pages {
            browser.wait_until(page, &format!("lines.lastElementChild.textContent.endsWith({})", json!(text)));
        }
    }
    assert_eq!(browser.evaluate(&pages[1], "document.querySelectorAll('#lines b').length"), 2, "no tag of a member's");
    if let Some(directory) = env::var_os("SOCKSERVER_PICTURES").map(PathBuf::from) {
        for (page, name) in pages.iter().zip(["alice", "bob"]) {
            browser.picture(page, &directory.join(format!("{name}.png.base64")));
        }
    }
}
