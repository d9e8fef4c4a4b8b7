//! The examples, each as a process of its own that is talked to over its socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{self, Command},
};

use sockserver::Address;
use sockserver_tests::{
    client::{Client, DatagramClient},
    concurrencies,
    place::{Directory, Place},
    process::{Process, ServerProcess, example, example_with, installed},
    proxies::Proxy,
};

/// Starts an example, at a place of this transport.
fn serve(name: &str, transport: &str) -> ServerProcess {
    ServerProcess::start(example(name), Place::of(transport))
}

/// Starts a copy of an example that the build script has given this concurrency, on TCP.
fn serve_with(name: &str, concurrency: &str) -> ServerProcess {
    ServerProcess::start(example_with(name, "tcp", concurrency), Place::of("tcp"))
}

/// Starts `recv_client.py`: clients that send without line ends and wait for the answer. `None`: there is no Python.
fn recv_clients(server: &ServerProcess, count: &str, messages: &[&str]) -> Option<Process> {
    let mut python = installed("python3")?;
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/recv_client.py"));
    Some(Process::start(python.args(host_and_port(server)).arg(count).args(messages)))
}

/// The answers that these clients print, without their addresses.
fn answers_of(clients: Process) -> Vec<String> {
    let output = clients.output();
    let answers = output.lines().map(|line| line.split_once(' ').expect("an address and an answer").1.to_owned());
    answers.collect()
}

/// `host` and `port` as arguments of a tool.
fn host_and_port(server: &ServerProcess) -> [String; 2] {
    match server.address() {
        Address::Inet(address) => [address.ip().to_string(), address.port().to_string()],
        _ => panic!("{} has no port", server.address()),
    }
}

/// What a standard tool prints.
fn output_of(program: &str, arguments: &[&str]) -> String {
    Process::start(Command::new(program).args(arguments)).output()
}

/// What nc gets back for what it is given. It is killed then: some of its variants never end.
fn line_from_nc(mut nc: Command, input: &str) -> String {
    let mut nc = Process::start(&mut nc);
    nc.enter(input);
    nc.end_input();
    nc.line()
}

/// `upper` as it is in every cell is one program, which the build script writes.
#[test]
fn one_word_moves_upper_to_another_transport_or_concurrency() {
    for transport in ["tcp", "udp", "unix", "unix_datagram", "stream"] {
        for concurrency in concurrencies::FOR_MESSAGES {
            let cell = format!("{transport} {concurrency}");
            let server = ServerProcess::start(example_with("upper", transport, concurrency), Place::of(transport));
            let answer = match transport {
                "tcp" | "unix" | "stream" => Client::connect(server.address()).ask("hello"),
                _ => DatagramClient::connect(server.address()).ask("hello"),
            };
            assert_eq!(answer, "HELLO", "{cell}");
        }
    }
}

#[test]
fn an_address_in_use_is_named_and_ends_the_example() {
    let first = serve("upper", "tcp");
    let mut second = Process::start(example("upper").arg(first.address().to_string()));
    second.reports(&format!("cannot bind to {}", first.address()));
    assert!(!second.ended().success());
}

mod upper {
    use super::*;

    #[test]
    fn lines_come_back_in_upper_case() {
        let server = serve("upper", "tcp");
        let mut client = Client::connect(server.address());
        assert_eq!(client.ask("hello"), "HELLO");
        client.send("one\r\ngrüße\n\nlast");
        client.finish();
        assert_eq!(client.rest(), "ONE\nGRÜSSE\n\nLAST\n");
    }

    #[test]
    fn what_is_no_text_ends_its_own_connection_only() {
        let server = serve("upper", "tcp");
        let mut other = Client::connect(server.address());
        assert_eq!(other.ask("before"), "BEFORE");

        let mut garbage = Client::connect(server.address());
        garbage.send(b"fine\n\xff\xfe\n");
        assert_eq!(garbage.rest(), "FINE\n");
        server.reports("malformed message: invalid utf-8");

        let mut endless = Client::connect(server.address());
        endless.send(vec![b'x'; 65 * 1024]);
        assert_eq!(endless.rest(), "");
        server.reports("longer than max_frame");

        assert_eq!(other.ask("after"), "AFTER");
    }

    #[test]
    fn a_client_that_resets_is_not_reported() {
        let server = serve("upper", "tcp");
        let mut client = Client::connect(server.address());
        assert_eq!(client.ask("hello"), "HELLO");
        client.reset();
        let mut garbage = Client::connect(server.address());
        garbage.send(b"\xff\n");
        assert_eq!(garbage.rest(), "");
        server.reports("malformed message: invalid utf-8");
    }

    #[test]
    fn nc_is_answered() {
        let Some(mut nc) = installed("nc") else { return };
        let server = serve("upper", "tcp");
        nc.args(host_and_port(&server));
        assert_eq!(line_from_nc(nc, "hello"), "HELLO");
    }
}

mod recv_upper {
    use super::*;

    #[test]
    fn what_comes_is_answered_at_once_with_every_concurrency() {
        for concurrency in concurrencies::WORDS {
            let server = serve_with("recv_upper", concurrency);
            let count = if concurrency == "sync" { "3-in-turn" } else { "3-at-once" };
            let Some(clients) = recv_clients(&server, count, &["abc #", "grüße #"]) else { return };
            let mut answers = answers_of(clients);
            answers.sort();
            // ASCII letters only, as `bytes.upper` of Python.
            assert_eq!(answers, ["ABC 0", "ABC 1", "ABC 2", "GRüßE 0", "GRüßE 1", "GRüßE 2"], "{concurrency}");
        }
    }

    #[test]
    fn all_bytes_survive() {
        let server = serve("recv_upper", "tcp");
        let mut client = Client::connect(server.address());
        let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
        client.send(&all);
        assert_eq!(client.bytes(5000), all.to_ascii_uppercase());
        client.finish();
        assert_eq!(client.rest(), "");
    }

    #[test]
    fn it_tells_who_has_sent_what() {
        let server = serve("recv_upper", "tcp");
        let mut client = Client::connect(server.address());
        for (sent, printed) in [
            (&b"abc"[..], "abc"),
            (b"abc\n", "abc"),
            (b"abc\r\n", "abc"),
            ("grüße".as_bytes(), "grüße"),
            (b"\xff", "\u{fffd}"),
            // One message is one line, and no command to the terminal.
            ("a\nclient forged\x1b[2J\u{9b}\n\n".as_bytes(), "a?client forged?[2J??"),
        ] {
            client.send(sent);
            assert_eq!(client.bytes(sent.len()), sent.to_ascii_uppercase());
            assert_eq!(server.line(), format!("Received from {}:", client.address()));
            assert_eq!(server.line(), printed);
        }
    }

    #[test]
    fn a_reset_is_printed_and_the_server_goes_on() {
        for concurrency in concurrencies::WORDS {
            let server = serve_with("recv_upper", concurrency);
            for _ in 0..2 {
                let mut client = Client::connect(server.address());
                let address = client.address();
                client.send("abc");
                assert_eq!(client.bytes(3), b"ABC");
                client.reset();
                assert_eq!(server.line(), format!("Received from {address}:"));
                assert_eq!(server.line(), "abc");
                assert_eq!(server.line(), format!("client {address} has reset the connection"), "{concurrency}");
            }
            let mut client = Client::connect(server.address());
            client.send("abc");
            assert_eq!(client.bytes(3), b"ABC", "{concurrency}");
        }
    }

    #[test]
    fn it_serves_where_its_output_is_closed() {
        let Some(mut bash) = installed("bash") else { return };
        // The only reader of its output takes the first line and closes the pipe, before the test sees that line.
        let script = r#"exec "$0" "$1" > >(read -r line; exec <&-; echo "$line")"#;
        bash.args(["-c", script]).arg(example("recv_upper").get_program());
        let server = ServerProcess::start(bash, Place::of("tcp"));
        let mut client = Client::connect(server.address());
        for _ in 0..2 {
            client.send("abc");
            assert_eq!(client.bytes(3), b"ABC");
        }
    }
}

mod json_lower {
    use super::*;

    #[test]
    fn a_number_is_whole_wherever_a_read_ends() {
        let server = serve("json_lower", "tcp");
        let mut client = Client::connect(server.address());
        let numbers: Vec<String> = (10_000..14_000).map(|number| number.to_string()).collect();
        client.send(numbers.join("\n") + "\n");
        for number in numbers {
            assert_eq!(client.line(), number);
        }
    }

    #[test]
    fn values_come_back_in_lower_case() {
        let server = serve("json_lower", "tcp");
        let mut client = Client::connect(server.address());
        for (value, lower) in [
            (r#"{"Greeting": ["HELLO", "World", 1]}"#, r#"{"greeting":["hello","world",1]}"#),
            (r#""HELLO""#, r#""hello""#),
            (r#""\u00c9T\u00C9 \"\n\u001F""#, r#""été \"\n\u001f""#),
            (" [true, null, -1.5E3] \r", "[true,null,-1500.0]"),
        ] {
            assert_eq!(client.ask(value), lower, "{value}");
        }
    }

    #[test]
    fn a_value_needs_no_line_end() {
        for (concurrency, count) in [("threading", "3-at-once"), ("sync", "3-in-turn"), ("event_loop", "3-at-once")] {
            let server = serve_with("json_lower", concurrency);
            let messages = [r#"{"Client": #}"#, r#""ABC""#, "1# ", "true", "HELLO", "[#] "];
            let Some(clients) = recv_clients(&server, count, &messages) else { return };
            let mut answers = answers_of(clients);
            let mut expected = Vec::new();
            for number in 0..3 {
                expected.extend([format!(r#"{{"client":{number}}}"#), r#""abc""#.into(), format!("1{number}")]);
                expected.extend(["true".into(), r#"{"error":"expected value at line 1 column 1"}"#.into()]);
                expected.push(format!("[{number}]"));
            }
            answers.sort();
            expected.sort();
            assert_eq!(answers, expected, "{concurrency}");
        }
    }

    #[test]
    fn values_come_one_after_the_other() {
        let server = serve("json_lower", "tcp");
        let mut client = Client::connect(server.address());
        for (values, lower) in [
            (r#"{"A":1}{"B":2}["C"]"#, &[r#"{"a":1}"#, r#"{"b":2}"#, r#"["c"]"#][..]),
            ("1 2\t\"A\"\"B\"null[]\r\n\n -3\n", &["1", "2", "\"a\"", "\"b\"", "null", "[]", "-3"]),
            ("{\n  \"A\":\n  1\n}\n", &[r#"{"a":1}"#]),
        ] {
            client.send(values);
            for lower in lower {
                assert_eq!(client.line(), *lower, "{values}");
            }
        }
    }

    #[test]
    fn a_value_may_come_in_pieces() {
        let server = serve("json_lower", "tcp");
        let mut client = Client::connect(server.address());
        for (piece, rest, lower) in [
            (&br#"{"A": ["#[..], &b"\n\"B\"]}"[..], r#"{"a":["b"]}"#),
            (b"\"\xc3", b"\x89\"", "\"é\""),
            (b"tru", b"e", "true"),
            (b"-", b"1\n", "-1"),
            (br#"["\u00"#, br#"C9"]"#, r#"["é"]"#),
        ] {
            client.send([b"[0]", piece].concat());
            // The server has received the piece together with what it answers here.
            assert_eq!(client.line(), "[0]");
            client.send(rest);
            assert_eq!(client.line(), lower, "{piece:?}");
        }
    }

    #[test]
    fn what_is_no_json_gets_an_error_and_the_talk_goes_on() {
        let server = serve("json_lower", "tcp");
        let mut client = Client::connect(server.address());
        let deep = vec![b'['; 1_000];
        for line in [&b"HELLO"[..], b"'EXIT' [1]", b"12x", b"\"A", b"[1}", b"\"\xff\"", b"\xc3", b"\0", b"1e999", &deep]
        {
            // The server drops the rest of this line, and nothing of the next one.
            client.send([b" \n", line, b"\n[\"STILL\"]\n"].concat());
            let answer = client.line();
            assert!(answer.starts_with(r#"{"error":""#) && answer.ends_with(r#""}"#), "{line:?}: {answer}");
            assert_eq!(client.line(), r#"["still"]"#, "{line:?}");
            assert_eq!(client.ask(r#"["HERE"]"#), r#"["here"]"#, "{line:?}");
        }
    }

    #[test]
    fn a_value_that_is_never_complete_gets_an_error() {
        let server = serve("json_lower", "tcp");
        let mut cut = Client::connect(server.address());
        cut.send(r#"[1] {"A":"#);
        cut.finish();
        assert_eq!(cut.rest(), "[1]\n{\"error\":\"EOF while parsing a value at line 1 column 5\"}\n");

        let mut endless = Client::connect(server.address());
        endless.send(format!("\"{}", "x".repeat(64 * 1024 - 1)));
        assert_eq!(endless.line(), r#"{"error":"EOF while parsing a string at line 1 column 65536"}"#);
        endless.send(r#"["STILL"]"#);
        assert_eq!(endless.line(), r#"["still"]"#);

        let mut long = Client::connect(server.address());
        let value = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
        assert_eq!(long.ask(&value), value);
    }

    #[test]
    fn exit_ends_the_connection() {
        let server = serve("json_lower", "tcp");
        for exit in ["exit\n", "exit", "\"exit\"\r\n", "\"exit\"[1]", "  exit \n[1]\n"] {
            let mut client = Client::connect(server.address());
            client.send("[\"A\"]\n");
            client.send(exit);
            client.finish();
            assert_eq!(client.rest(), "[\"a\"]\n", "{exit:?}");
        }
    }

    #[test]
    fn exit_needs_no_end_of_file() {
        let server = serve("json_lower", "tcp");
        for exit in ["exit", "\"exit\""] {
            let mut client = Client::connect(server.address());
            client.send(exit);
            assert_eq!(client.rest(), "", "{exit}");
        }
    }

    #[test]
    fn python_is_answered() {
        let Some(mut python) = installed("python3") else { return };
        let server = serve("json_lower", "tcp");
        let script = "
import json, socket, sys
with socket.create_connection(sys.argv[1:]) as connection, connection.makefile('rw') as file:
    for value in {'Name': 'ÉLAN', 'Deep': [['X']]}, 'exit':
        print(json.dumps(value), file=file, flush=True)
        print(file.readline(), end='')
";
        let python = Process::start(python.args(["-c", script]).args(host_and_port(&server)));
        assert_eq!(python.output(), "{\"deep\":[[\"x\"]],\"name\":\"élan\"}\n");
    }
}

mod talk {
    use super::*;

    #[test]
    fn the_operator_answers_each_client_in_turn() {
        let mut server = serve("talk", "tcp");
        let mut clients = [(); 3].map(|()| Client::connect(server.address()));
        for question in ["are you there?", "still?"] {
            for client in &mut clients {
                client.send(format!("{question}\n"));
            }
            answer_messages(&mut server, 3);
            for client in &mut clients {
                assert_eq!(client.line(), format!("{question} yes, {}", client.address()));
            }
        }
    }

    /// The messages come in any order; each answer names the client that the server has shown.
    fn answer_messages(server: &mut ServerProcess, count: usize) {
        for _ in 0..count {
            let shown = server.line();
            let (client, message) = shown.split_once(": ").expect("a client and its message");
            server.enter(&format!("{message} yes, {client}"));
        }
    }

    #[test]
    fn a_message_needs_no_line_end() {
        for (concurrency, count) in [("threading", "3-at-once"), ("sync", "3-in-turn")] {
            let mut server = serve_with("talk", concurrency);
            let Some(clients) = recv_clients(&server, count, &["abc #", "still #"]) else { return };
            answer_messages(&mut server, 6);
            let output = clients.output();
            let mut messages = Vec::new();
            for line in output.lines() {
                let (client, answer) = line.split_once(' ').expect("an address and an answer");
                let message = answer.strip_suffix(&format!(" yes, {client}"));
                messages.push(message.unwrap_or_else(|| panic!("{concurrency}: {line}")));
            }
            messages.sort();
            assert_eq!(messages, ["abc 0", "abc 1", "abc 2", "still 0", "still 1", "still 2"], "{concurrency}");
        }
    }

    #[test]
    fn a_message_is_all_that_has_come_without_its_line_end() {
        let mut server = serve("talk", "tcp");
        let mut client = Client::connect(server.address());
        for (sent, shown) in [
            (&b"abc"[..], "abc"),
            (b"abc\r\n", "abc"),
            (b"\n", ""),
            (b"abc\n\n", "abc?"),
            (b"one\ntwo", "one?two"),
            (b"\xff", "\u{fffd}"),
        ] {
            client.send(sent);
            assert_eq!(server.line(), format!("{}: {shown}", client.address()));
            server.enter("yes");
            assert_eq!(client.line(), "yes");
        }
    }

    #[test]
    fn a_message_does_not_steer_the_operators_terminal() {
        let server = serve("talk", "tcp");
        let mut client = Client::connect(server.address());
        client.send("\x1b[2J\rgone\u{9b}\n");
        assert_eq!(server.line(), format!("{}: ?[2J?gone?", client.address()));
    }

    #[test]
    fn a_client_that_has_hung_up_holds_up_nobody() {
        let mut server = serve("talk", "tcp");
        let mut gone = Client::connect(server.address());
        gone.send("hello?\n");
        assert!(server.line().ends_with(": hello?"));
        gone.reset();
        server.enter("too late");
        let mut client = Client::connect(server.address());
        client.send("me too\n");
        assert_eq!(server.line(), format!("{}: me too", client.address()));
        server.enter("just in time");
        assert_eq!(client.line(), "just in time");
    }

    #[test]
    fn the_end_of_the_operators_input_ends_the_server() {
        let mut server = serve("talk", "tcp");
        let mut silent = Client::connect(server.address());
        let mut answered = Client::connect(server.address());
        answered.send("one\n");
        assert_eq!(server.line(), format!("{}: one", answered.address()));
        server.enter("1");
        assert_eq!(answered.line(), "1");
        server.end_input();
        answered.send("two\n");
        assert_eq!(answered.rest(), "");
        assert_eq!(silent.rest(), "");
        assert!(server.ended().success());
    }
}

mod chat {
    use super::*;

    /// With its own concurrency, and with another word.
    fn chats() -> [ServerProcess; 2] {
        [serve("chat", "tcp"), serve_with("chat", "event_loop")]
    }

    const NAME_RULE: &str = "* a name has 1 to 20 letters of a to z, digits, `-` and `_`; yours?";

    /// A client that has been asked for its name.
    fn stranger(server: &ServerProcess) -> Client {
        let mut client = Client::connect(server.address());
        assert_eq!(client.line(), "* what is your name?");
        client
    }

    fn member(server: &ServerProcess, name: &str, others: &str) -> Client {
        let mut client = stranger(server);
        assert_eq!(client.ask(name), format!("* welcome, {name}; here are: {others}"));
        client
    }

    #[test]
    fn members_see_each_other_come_talk_and_go() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let mut bob = member(&server, "bob", "alice");
            assert_eq!(alice.line(), "* bob has joined");
            alice.send("hello\n");
            assert_eq!(bob.line(), "<alice> hello");
            bob.send("hello yourself\nand goodbye\n");
            assert_eq!(alice.line(), "<bob> hello yourself");
            assert_eq!(alice.line(), "<bob> and goodbye");
            bob.finish();
            assert_eq!(alice.line(), "* bob has left");
            // Nobody hears their own words.
            assert_eq!(bob.rest(), "");
            member(&server, "bob", "alice");
        }
    }

    #[test]
    fn a_name_is_asked_for_until_it_is_a_good_one() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let mut bob = stranger(&server);
            let too_long = "x".repeat(21);
            for name in ["", " ", "al ice", "élan", "<admin>", "* bob", "\x1b[31m", "a\0", &too_long] {
                assert_eq!(bob.ask(name), NAME_RULE, "{name:?}");
            }
            assert_eq!(bob.ask("alice"), "* alice is here already; your name?");
            assert_eq!(bob.ask("Bob_2-x"), "* welcome, Bob_2-x; here are: alice");
            assert_eq!(alice.line(), "* Bob_2-x has joined");
        }
    }

    #[test]
    fn strangers_hear_nothing_and_are_not_heard() {
        for server in chats() {
            let mut stranger = stranger(&server);
            let mut alice = member(&server, "alice", "");
            alice.send("is anybody here?\n");
            stranger.finish();
            assert_eq!(stranger.rest(), "");
            let _bob = member(&server, "bob", "alice");
            assert_eq!(alice.line(), "* bob has joined");
        }
    }

    #[test]
    fn a_message_does_not_steer_the_others_terminals() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let mut mallory = member(&server, "mallory", "alice");
            assert_eq!(alice.line(), "* mallory has joined");
            mallory.send("\x1b]0;root\x07\r<bob> hi\u{9b}2J\n");
            assert_eq!(alice.line(), "<mallory> ?]0;root??<bob> hi?2J");
        }
    }

    #[test]
    fn a_member_that_vanishes_has_left() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let bob = member(&server, "bob", "alice");
            assert_eq!(alice.line(), "* bob has joined");
            bob.reset();
            assert_eq!(alice.line(), "* bob has left");
        }
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_is_seen_by_nobody() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let mut bob = member(&server, "bob", "alice");
            assert_eq!(alice.line(), "* bob has joined");
            for garbage in [&b"\xff\xff\n"[..], &[&[b'x'; 1025][..], b"\n"].concat()] {
                bob.send(garbage);
                assert!(bob.line().starts_with("* nobody has seen that: "));
            }
            bob.send("hello\n");
            assert_eq!(alice.line(), "<bob> hello");
        }
    }

    #[test]
    fn a_member_that_does_not_read_misses_lines_and_holds_up_nobody() {
        for server in chats() {
            let mut alice = member(&server, "alice", "");
            let mut bob = member(&server, "bob", "alice");
            let mut carol = member(&server, "carol", "alice, bob");
            assert_eq!(bob.line(), "* carol has joined");
            let mut said = 0;
            let mut say = || {
                alice.send(format!("{said} {}\n", "x".repeat(1000)));
                said += 1;
            };
            let number = |line: &str| {
                let number = line.strip_prefix("<alice> ").and_then(|line| line.split_once(' '))?.0;
                number.parse::<usize>().ok()
            };
            // Far more than the buffers of a connection hold.
            for expected in 0..6_000 {
                say();
                assert_eq!(number(&bob.line()), Some(expected));
            }
            let missed_lines = |line: &str| {
                let count = line.strip_prefix("* you missed ")?.strip_suffix(" lines")?;
                count.parse::<usize>().ok()
            };
            let (mut next, mut missed) = (0, 0);
            loop {
                // She is told what she has missed once she can hear again.
                say();
                let line = carol.line();
                match missed_lines(&line) {
                    Some(count) => missed += count,
                    None => {
                        assert_eq!(number(&line), Some(next + missed));
                        next += 1;
                        if missed > 0 {
                            break;
                        }
                    }
                }
            }
        }
    }
}

mod whois_behind {
    use super::*;

    #[test]
    fn each_line_is_answered_with_the_address_that_the_proxy_has_named() {
        let server = serve("whois_behind", "tcp");
        let mut proxy = Client::connect(server.address());
        proxy.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\nwho am I?\n");
        assert_eq!(proxy.line(), "203.0.113.9:5000, who has connected to 192.0.2.1:25");
        assert_eq!(proxy.ask("and now?"), "203.0.113.9:5000, who has connected to 192.0.2.1:25");
    }

    #[test]
    fn the_client_of_haproxy_is_told_its_own_address() {
        let server = serve("whois_behind", "tcp");
        let line = format!("{} send-proxy-v2 check", server.address());
        let Some(proxy) = Proxy::haproxy("", &line, "", |_| ()) else { return };
        let mut client = proxy.connect();
        let told = format!("{}, who has connected to {}", client.address(), proxy.address());
        assert_eq!(client.ask("who am I?"), told);
    }

    #[test]
    fn without_a_header_nothing_is_answered() {
        let server = serve("whois_behind", "tcp");
        let mut client = Client::connect(server.address());
        client.send("who am I?\n");
        client.wait_for_end();
        server.reports("begins with \"who am I?\\n\" and not with a PROXY header");
    }
}

mod daytime {
    use super::*;

    fn now() -> String {
        output_of("date", &["-u", "+%Y-%m-%d %H:%M:%S UTC"])
    }

    #[test]
    fn the_time_is_told_without_being_asked() {
        let server = serve("daytime", "tcp");
        let before = now();
        let told = Client::connect(server.address()).rest();
        let after = now();
        assert!(before <= told && told <= after, "{before}{told}{after}");
    }

    #[test]
    fn a_client_that_says_something_or_nothing_or_resets_holds_up_nobody() {
        let server = serve("daytime", "tcp");
        let _silent = Client::connect(server.address());
        let mut talker = Client::connect(server.address());
        talker.send(b"\xff what time is it?\n");
        assert!(talker.line().ends_with(" UTC"));
        Client::connect(server.address()).reset();
        assert!(Client::connect(server.address()).rest().ends_with(" UTC\n"));
    }
}

mod whoami {
    use super::*;

    #[test]
    fn the_client_is_told_who_it_is() {
        let server = serve("whoami", "unix");
        let [uid, gid] = ["-u", "-g"].map(|option| output_of("id", &[option]));
        let told = Client::connect(server.address()).rest();
        assert_eq!(told, format!("uid={} gid={} pid={}\n", uid.trim_end(), gid.trim_end(), process::id()));
    }

    #[test]
    fn everyone_may_connect() {
        let server = serve("whoami", "unix");
        let mode = fs::metadata(server.path()).expect("a socket file").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }

    #[test]
    fn python_is_told_who_it_is() {
        let Some(mut python) = installed("python3") else { return };
        let server = serve("whoami", "unix");
        let script = "
import os, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    print(client.makefile().read() == f'uid={os.geteuid()} gid={os.getegid()} pid={os.getpid()}\\n')
";
        let python = Process::start(python.args(["-c", script]).arg(server.address().to_string()));
        assert_eq!(python.output(), "True\n");
    }

    #[test]
    fn a_signal_ends_it_and_its_file() {
        for signal in ["INT", "TERM"] {
            let mut server = serve("whoami", "unix");
            assert!(Client::connect(server.address()).rest().starts_with("uid="));
            server.signal(signal);
            assert!(server.ended().success());
            assert!(!server.path().exists());
        }
    }

    #[test]
    fn the_file_of_a_killed_one_is_replaced() {
        let mut killed = serve("whoami", "unix");
        killed.signal("KILL");
        killed.ended();
        assert!(killed.path().exists());
        let next = Process::start(example("whoami").arg(killed.address().to_string()));
        assert_eq!(next.line(), format!("listening on {}", killed.address()));
        assert!(Client::connect(killed.address()).rest().starts_with("uid="));
    }
}

mod udp_upper {
    use super::*;

    #[test]
    fn it_differs_from_upper_by_one_word() {
        let code = |source: &str| source.split_once("\n\n").expect("a comment and the code").1.to_owned();
        let upper = code(include_str!("../../../examples/examples/upper.rs"));
        assert_eq!(code(include_str!("../../../examples/examples/udp_upper.rs")), upper.replace("\"tcp\"", "\"udp\""));
    }

    #[test]
    fn a_packet_comes_back_in_upper_case() {
        let server = serve("udp_upper", "udp");
        let mut client = DatagramClient::connect(server.address());
        assert_eq!(client.ask("grüße"), "GRÜSSE");
        client.send("one\ntwo");
        assert_eq!(client.receive(), b"ONE\nTWO\n");
    }

    #[test]
    fn an_empty_packet_is_an_empty_line() {
        let server = serve("udp_upper", "udp");
        assert_eq!(DatagramClient::connect(server.address()).ask(""), "");
    }

    #[test]
    fn a_packet_that_is_no_text_is_not_answered() {
        let server = serve("udp_upper", "udp");
        let mut client = DatagramClient::connect(server.address());
        client.send(b"\xff\xff");
        server.reports("malformed message: invalid utf-8");
        assert_eq!(client.ask("hello"), "HELLO");
    }

    #[test]
    fn nc_is_answered() {
        let Some(mut nc) = installed("nc") else { return };
        let server = serve("udp_upper", "udp");
        nc.arg("-u").args(host_and_port(&server));
        assert_eq!(line_from_nc(nc, "hello"), "HELLO");
    }
}

mod dns {
    use super::*;

    const NO_ERROR: u8 = 0;
    const FORMAT_ERROR: u8 = 1;
    const NAME_ERROR: u8 = 3;
    const NOT_IMPLEMENTED: u8 = 4;
    const REFUSED: u8 = 5;

    const A: u8 = 1;
    const AAAA: u8 = 28;
    const IN: u8 = 1;
    const CHAOS: u8 = 3;

    const QUERY: u8 = 0x00;
    const STATUS: u8 = 0x10;
    const AUTHORITATIVE_RESPONSE: u8 = 0x84;
    const RESPONSE: u8 = 0x80;
    const RECURSION_DESIRED: u8 = 0x01;

    fn start() -> ServerProcess {
        start_with(&["www.example.test=192.0.2.1", "Mail.Example.Test.=192.0.2.2"])
    }

    fn start_with(zone: &[&str]) -> ServerProcess {
        let mut dns = example("dns");
        dns.args(zone);
        ServerProcess::start(dns, Place::of("udp"))
    }

    fn name(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let mut bytes: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    }

    fn question(name: &[u8], kind: u8, class: u8) -> Vec<u8> {
        [name, &[0, kind, 0, class]].concat()
    }

    /// A packet of this number with one question.
    fn packet(id: [u8; 2], flags: u8, question: &[u8]) -> Vec<u8> {
        [&id[..], &[flags, 0, 0, 1, 0, 0, 0, 0, 0, 0], question].concat()
    }

    fn good_query(id: [u8; 2]) -> Vec<u8> {
        packet(id, QUERY, &question(&name("www.example.test"), A, IN))
    }

    /// What a packet is answered with, if it is, before a good query which is sent after it.
    fn answer(client: &DatagramClient, packet: &[u8]) -> Option<Vec<u8>> {
        // The server takes one after the other.
        let id = [packet.first().map_or(0, |first| !first), 7];
        client.send(packet);
        client.send(good_query(id));
        let first = client.receive();
        if first.starts_with(&id) {
            return None;
        }
        assert_eq!(client.receive()[..4], [id[0], id[1], AUTHORITATIVE_RESPONSE, NO_ERROR], "after {packet:?}");
        Some(first)
    }

    #[test]
    fn a_query_for_a_name_of_the_zone_is_answered_with_its_address() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        for (asked, address) in [
            ("www.example.test", [192, 0, 2, 1]),
            ("mail.example.test", [192, 0, 2, 2]),
            ("wWw.eXample.TEST", [192, 0, 2, 1]),
        ] {
            let question = question(&name(asked), A, IN);
            client.send(packet([1, 2], QUERY | RECURSION_DESIRED, &question));
            let flags = AUTHORITATIVE_RESPONSE | RECURSION_DESIRED;
            let header = [1, 2, flags, NO_ERROR, 0, 1, 0, 1, 0, 0, 0, 0];
            let record = [0xc0, 12, 0, A, 0, IN, 0, 0, 0, 60, 0, 4];
            assert_eq!(client.receive(), [&header, &question[..], &record, &address].concat(), "{asked}");
        }
    }

    #[test]
    fn a_query_that_has_no_address_is_told_why() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        let www = name("www.example.test");
        for (question, opcode, code) in [
            (question(&www, AAAA, IN), QUERY, NO_ERROR),
            (question(&www, 255, IN), QUERY, NO_ERROR),
            (question(&name("other.example.test"), A, IN), QUERY, NAME_ERROR),
            (question(&name("www.example.test.com"), A, IN), QUERY, NAME_ERROR),
            (question(&name("ww.wexample.test"), A, IN), QUERY, NAME_ERROR),
            (question(&name(""), A, IN), QUERY, NAME_ERROR),
            (question(&www, A, CHAOS), QUERY, REFUSED),
            (question(&www, A, IN), STATUS, NOT_IMPLEMENTED),
        ] {
            client.send(packet([1, 2], opcode, &question));
            let authoritative = matches!(code, NO_ERROR | NAME_ERROR);
            let flags = opcode | if authoritative { AUTHORITATIVE_RESPONSE } else { RESPONSE };
            let header = [1, 2, flags, code, 0, 1, 0, 0, 0, 0, 0, 0];
            assert_eq!(client.receive(), [&header, &question[..]].concat());
        }
    }

    #[test]
    fn what_follows_the_question_is_ignored() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        let plain = answer(&client, &good_query([1, 2]));
        let opt = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        for extra in [&opt[..], &opt[..5], b"\xff\xff\xff", &[0; 4096]] {
            let mut query = good_query([1, 2]);
            query[11] = 1;
            query.extend(extra);
            assert_eq!(answer(&client, &query), plain, "{extra:?}");
        }
    }

    #[test]
    fn a_malformed_question_is_a_format_error() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        let long_label = [&[64], &[b'x'; 64][..], &[0]].concat();
        let long_name = [&[&[63], &[b'x'; 63][..]].concat().repeat(4)[..], &[0]].concat();
        for bad_name in [
            b"".as_slice(),
            b"\x03ww",
            b"\x03www",
            b"\x03www\x07example",
            b"\xc0\x0c",
            b"\xc0\x00",
            b"\xff\xff",
            b"\x03www\xc0\x0c",
            b"\x80",
            b"\x40",
            &long_label,
            &long_name,
            &[1; 65_000],
        ] {
            let reply = answer(&client, &packet([1, 2], QUERY, &question(bad_name, A, IN)));
            let format_error = [1, 2, RESPONSE, FORMAT_ERROR, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(reply.as_deref(), Some(&format_error[..]), "{bad_name:?}");
        }
    }

    #[test]
    fn a_query_needs_exactly_one_question() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        for count in [[0, 0], [0, 2], [1, 1], [255, 255]] {
            let mut query = good_query([1, 2]);
            query[4..6].copy_from_slice(&count);
            let reply = answer(&client, &query).expect("a reply");
            assert_eq!((reply[3], reply.len()), (FORMAT_ERROR, 12), "{count:?}");
        }
    }

    #[test]
    fn the_longest_name_is_served() {
        let label = "x".repeat(63);
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        let server = start_with(&[&format!("{longest}=192.0.2.3")]);
        let client = DatagramClient::connect(server.address());
        client.send(packet([1, 2], QUERY, &question(&name(&longest), A, IN)));
        let reply = client.receive();
        assert!(reply.len() <= 512 && reply.ends_with(&[192, 0, 2, 3]), "{reply:?}");
    }

    #[test]
    fn a_response_and_a_piece_of_a_header_are_not_answered() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        for length in 0..12 {
            assert_eq!(answer(&client, &good_query([1, 2])[..length]), None);
        }
        let mut response = good_query([1, 2]);
        response[2] |= RESPONSE;
        assert_eq!(answer(&client, &response), None);
    }

    #[test]
    fn no_packet_brings_it_down() {
        let server = start();
        let client = DatagramClient::connect(server.address());
        let good = good_query([1, 2]);
        for cut in 12..good.len() {
            check(&client, &good[..cut]);
        }
        for place in 2..good.len() {
            for byte in [0, 1, 2, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff] {
                let mut packet = good.clone();
                packet[place] = byte;
                check(&client, &packet);
            }
        }
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..1000 {
            let length = random.below(80);
            let mut packet: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            // Many of them get as far as the question.
            if let Some(header) = packet.get_mut(2..12)
                && random.below(4) > 0
            {
                header.copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            }
            check(&client, &packet);
        }

        /// Whatever is answered is a response to that packet.
        fn check(client: &DatagramClient, packet: &[u8]) {
            let Some(reply) = answer(client, packet) else { return };
            assert_eq!(reply[..2], packet[..2], "{packet:?}");
            assert_eq!(reply[2] & RESPONSE, RESPONSE, "{packet:?}");
            assert!(reply[3] <= REFUSED, "{packet:?}");
            assert!((12..=512).contains(&reply.len()), "{packet:?}");
        }

        /// xorshift64: the same packets each time.
        struct Random(u64);

        impl Random {
            fn below(&mut self, limit: u64) -> u64 {
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 7;
                self.0 ^= self.0 << 17;
                self.0 % limit
            }
        }
    }

    #[test]
    fn a_record_that_is_none_is_named() {
        for record in ["www.test=1.2.3", "www..test=192.0.2.1", "=192.0.2.1", &format!("{}=192.0.2.1", "x".repeat(64))]
        {
            let mut server = Process::start(example("dns").args(["127.0.0.1:0", record]));
            server.reports(record);
            assert!(!server.ended().success());
        }
    }

    #[test]
    fn dig_is_answered() {
        if installed("dig").is_none() {
            return;
        }
        let server = start();
        let [host, port] = host_and_port(&server);
        let dig = |arguments: &[&str]| {
            let server = [&format!("@{host}"), "-p", &port, "+norecurse", "+tries=1", "+time=20"];
            output_of("dig", &[&server, arguments].concat())
        };
        for edns in ["+edns", "+noedns", "+bufsize=512"] {
            assert_eq!(dig(&["+short", edns, "www.example.test"]), "192.0.2.1\n");
        }
        for (question, status) in [
            (["www.example.test", "A"], "status: NOERROR"),
            (["www.example.test", "AAAA"], "status: NOERROR"),
            (["www.example.test", "MX"], "status: NOERROR"),
            (["other.example.test", "A"], "status: NXDOMAIN"),
        ] {
            let answer = dig(&question);
            let answers = u8::from(question[1] == "A" && status == "status: NOERROR");
            assert!(answer.contains(status) && answer.contains(&format!("ANSWER: {answers},")), "{answer}");
            assert!(!answer.contains("WARNING"), "{answer}");
        }
    }
}

mod syslog {
    use super::*;

    #[test]
    fn the_priority_is_told_in_words() {
        let server = serve("syslog", "unix_datagram");
        let client = DatagramClient::unnamed(server.address());
        for (message, printed) in [
            (&b"<13>hello"[..], "user.notice hello"),
            (b"<0>panic", "kern.emerg panic"),
            (b"<191>Jan 19 03:14:08 me: hello\n\0", "local7.debug Jan 19 03:14:08 me: hello"),
            // RFC 3164, 4.3.3: what has no valid priority is a notice of a user.
            (b"<192>hello", "user.notice <192>hello"),
            (b"<1000>hello", "user.notice <1000>hello"),
            (b"<+13>hello", "user.notice <+13>hello"),
            (b"<>hello", "user.notice <>hello"),
            (b"<13", "user.notice <13"),
            (b"", "user.notice "),
            (b"hello", "user.notice hello"),
            (b"<\xff>", "user.notice <\u{fffd}>"),
            (b"<14>\xff\xfe", "user.info \u{fffd}\u{fffd}"),
            // One message is one line, and no command to the terminal.
            (b"<13>a\nkern.emerg forged\x1b[2J", "user.notice a?kern.emerg forged?[2J"),
        ] {
            client.send(message);
            assert_eq!(server.line(), printed);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_says_so() {
        let server = serve("syslog", "unix_datagram");
        let client = DatagramClient::unnamed(server.address());
        client.send([&b"<13>"[..], &[b'x'; 10_000]].concat());
        assert_eq!(server.line(), format!("user.notice {} (cut)", "x".repeat(8 * 1024 - 4)));
    }

    #[test]
    fn messages_keep_their_order() {
        let server = serve("syslog", "unix_datagram");
        let clients = [(); 2].map(|()| DatagramClient::unnamed(server.address()));
        for number in 0..200 {
            clients[number % 2].send(format!("<13>{number}"));
        }
        for number in 0..200 {
            assert_eq!(server.line(), format!("user.notice {number}"));
        }
    }

    #[test]
    fn logger_is_heard() {
        let Some(mut logger) = installed("logger") else { return };
        let server = serve("syslog", "unix_datagram");
        logger.args(["-p", "mail.warning", "-t", "postman", "-u"]).arg(server.address().to_string()).arg("hello there");
        assert_eq!(Process::start(&mut logger).output(), "");
        let line = server.line();
        assert!(line.starts_with("mail.warning ") && line.ends_with(" postman: hello there"), "{line}");
    }

    #[test]
    fn a_signal_ends_it_and_its_file() {
        let mut server = serve("syslog", "unix_datagram");
        server.signal("TERM");
        assert!(server.ended().success());
        assert!(!server.path().exists());
    }
}

mod access_log {
    use super::*;

    /// The next line of the log: the number, what follows the address and the time, and whether these two are right.
    fn logged(server: &ServerProcess, client: &Address) -> (String, bool) {
        let line = server.line();
        let [number, address, time, rest] = *line.splitn(4, ' ').collect::<Vec<_>>() else { panic!("{line:?}") };
        let seconds = time.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
        (format!("{number} {rest}"), address == client.to_string() && seconds.is_some_and(|seconds| seconds < 60.0))
    }

    #[test]
    fn each_connection_has_a_line() {
        let server = serve("access_log", "tcp");
        let mut client = Client::connect(server.address());
        client.ask("hello");
        client.finish();
        client.wait_for_end();
        assert_eq!(logged(&server, &client.address()), ("1 6 6 finished".to_owned(), true));
        let mut ten: Vec<_> = (0..10).map(|_| Client::connect(server.address())).collect();
        ten.iter_mut().for_each(|client| drop(client.ask("hello")));
        let mut eleventh = Client::connect(server.address());
        eleventh.wait_for_end();
        let turned_away = "12 0 0 turned away: per_client".to_owned();
        assert_eq!(logged(&server, &eleventh.address()), (turned_away, true));
        let address = ten[0].address();
        ten.swap_remove(0).reset();
        assert_eq!(logged(&server, &address), ("2 6 6 disconnected: handle failed".to_owned(), true));
    }
}

mod forking {
    use super::*;

    /// Sends a line, and returns the number of the process that answered it.
    fn process_of(client: &mut Client) -> u32 {
        let answer = client.ask("hello");
        let number = answer.strip_prefix("process ").and_then(|rest| rest.strip_suffix(": hello"));
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
    }

    #[test]
    fn each_connection_has_a_process_of_its_own() {
        let server = serve("forking", "tcp");
        let mut clients = [(); 3].map(|()| Client::connect(server.address()));
        let processes = clients.each_mut().map(process_of);
        assert!(!processes.contains(&server.id()));
        assert!(processes[0] != processes[1] && processes[1] != processes[2] && processes[2] != processes[0]);
        assert_eq!(clients.each_mut().map(process_of), processes);
    }

    #[test]
    fn a_handler_that_crashes_ends_its_own_connection_only() {
        let server = serve("forking", "tcp");
        let mut other = Client::connect(server.address());
        let process = process_of(&mut other);
        for (command, report) in [
            ("panic", "handle panicked: the client has asked for it"),
            ("abort", "the child process ended by itself: signal: 6"),
            ("panic", "handle panicked: the client has asked for it"),
        ] {
            let mut client = Client::connect(server.address());
            process_of(&mut client);
            client.send(format!("{command}\n"));
            assert_eq!(client.rest(), "");
            server.reports(report);
        }
        assert_eq!(process_of(&mut other), process);
        process_of(&mut Client::connect(server.address()));
    }
}

#[test]
fn tls_answers_openssl_with_a_certificate_that_it_has_made() {
    let directory = Directory::new();
    let mut tls = example("tls");
    tls.env("TMPDIR", directory.path());
    let server = ServerProcess::start(tls, Place::of("tcp"));
    let certificate = server.line_after("the certificate is in ");
    let Some(mut openssl) = installed("openssl") else { return };
    let [host, port] = host_and_port(&server);
    openssl.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", "-CAfile"]);
    let mut client = Process::start(openssl.arg(certificate).arg("-connect").arg(format!("{host}:{port}")));
    client.enter("hello");
    assert_eq!(client.line(), "HELLO");
    client.enter("tls");
    assert!(client.line().starts_with("TLSv1.3 with TLS13_"));
}
