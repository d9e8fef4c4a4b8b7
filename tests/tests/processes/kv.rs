//! The example `kv`, a store that Redis's own clients talk to.

use std::process::Command;

use sockserver::Address;
use sockserver_tests::{
    client::{Client, eventually},
    place::Place,
    process::{Process, ServerProcess, example, example_with, installed},
};

/// With its own concurrency, and with another word.
fn kvs() -> [ServerProcess; 2] {
    [example("kv"), example_with("kv", "tcp", "event_loop")].map(|kv| ServerProcess::start(kv, Place::of("tcp")))
}

/// One of Redis's programs, told where the server is.
fn redis(program: &str, server: &ServerProcess) -> Option<Command> {
    let Address::Inet(address) = server.address() else { panic!("{} has no port", server.address()) };
    let mut command = installed(program)?;
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    Some(command)
}

/// A request as Redis's clients send it.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// Sends bytes, and expects these next.
#[track_caller]
fn expect(client: &mut Client, sent: impl AsRef<[u8]>, answer: &str) {
    client.send(sent);
    assert_eq!(String::from_utf8_lossy(&client.bytes(answer.len())), answer);
}

#[test]
fn redis_cli_is_answered() {
    for server in kvs() {
        for (words, answer) in [
            (&["PING"][..], "PONG\n"),
            (&["set", "greeting", "hello there\r\n"], "OK\n"),
            (&["GET", "greeting"], "hello there\r\n\n"),
            (&["GET", "nothing"], "\n"),
            (&["INCR", "counter"], "1\n"),
            (&["INCR", "counter"], "2\n"),
            (&["INCR", "greeting"], "ERR value is not an integer or out of range\n\n"),
            (&["DEL", "greeting", "counter", "nothing"], "2\n"),
            (&["EXPIRE", "greeting", "10"], "0\n"),
            (&["GET"], "ERR wrong number of arguments for 'get' command\n\n"),
            (&["FLY", "to", "the moon"], "ERR unknown command 'FLY', with args beginning with: 'to' 'the moon' \n\n"),
            (&["CONFIG", "GET", "save"], "save\n\n"),
            // It says HELLO 3 first.
            (&["-3", "PING"], "PONG\n"),
        ] {
            let Some(mut cli) = redis("redis-cli", &server) else { return };
            assert_eq!(Process::start(cli.args(words)).output(), answer, "{words:?}");
        }
        eventually("the other clients have ended", || {
            let mut cli = redis("redis-cli", &server).expect("it was installed");
            let info = Process::start(cli.arg("INFO")).output();
            assert!(info.contains("\ndb0:keys=0,expires=0\r\n"), "{info}");
            info.contains("\nconnected_clients:1\r\n")
        });
    }
}

#[test]
fn redis_benchmark_runs_clean() {
    for server in kvs() {
        for pipeline in ["1", "16"] {
            let Some(mut benchmark) = redis("redis-benchmark", &server) else { return };
            benchmark.args(["-t", "ping_inline,ping_mbulk,set,get,incr", "-n", "5000", "-c", "20", "-r", "100", "-q"]);
            let mut benchmark = Process::start(benchmark.args(["-P", pipeline]));
            let output = benchmark.rest();
            assert!(benchmark.ended().success(), "{output}");
            assert_eq!(benchmark.error_line(), "", "with {pipeline} requests at once");
            assert_eq!(output.matches(" requests per second").count(), 5, "{output}");
            assert!(!output.contains("ERR") && !output.contains("WARN"), "{output}");
        }
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        let requests = [&request(&[b"SET", b"key", b"*1\r\n$"])[..], b"GET key\r\n", &request(&[b"PING"])].concat();
        let answers = "+OK\r\n$5\r\n*1\r\n$\r\n+PONG\r\n";
        for cut in 1..requests.len() {
            let (piece, rest) = requests.split_at(cut);
            client.send([&request(&[b"PING", b"before"]), piece].concat());
            // The server has received the piece together with what it answers here.
            expect(&mut client, "", "$6\r\nbefore\r\n");
            expect(&mut client, rest, answers);
        }
        for byte in &requests {
            client.send([*byte]);
        }
        expect(&mut client, "", answers);
    }
}

#[test]
fn a_pipeline_is_answered_in_its_order() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        let requests = request(&[b"INCR", b"counter"]).repeat(5000);
        let answers: String = (1..=5000).map(|number| format!(":{number}\r\n")).collect();
        expect(&mut client, requests, &answers);
    }
}

#[test]
fn keys_and_values_are_any_bytes() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for value in [&all[..], b"", b"\r\n", b"$-1\r\n"] {
            expect(&mut client, request(&[b"SET", &all, value]), "+OK\r\n");
            client.send(request(&[b"GET", &all]));
            let answer = [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat();
            assert!(client.bytes(answer.len()) == answer, "{value:?}");
        }
    }
}

#[test]
fn an_inline_command_is_a_line_of_words() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        for (line, answer) in [
            ("PING\n", "+PONG\r\n"),
            ("  set\tkey   value \r\n", "+OK\r\n"),
            // An empty line and an empty array ask for nothing.
            ("\r\n*0\r\n*-1\r\nGET key\r\n", "$5\r\nvalue\r\n"),
        ] {
            expect(&mut client, line, answer);
        }
    }
}

#[test]
fn errors_are_worded_as_by_redis() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        expect(&mut client, format!("SET most {}\n", i64::MAX), "+OK\r\n");
        for (line, answer) in [
            ("INCR most", "-ERR increment or decrement would overflow"),
            ("SET key", "-ERR wrong number of arguments for 'set' command"),
            ("SET key value EX 10", "-ERR syntax error"),
            ("DEL", "-ERR wrong number of arguments for 'del' command"),
            ("EXPIRE key soon", "-ERR value is not an integer or out of range"),
            ("EXPIRE most 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE most 1 NOW", "-ERR Unsupported option NOW"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("HELLO 3", "-NOPROTO unsupported protocol version"),
            ("CLIENT FLY", "-ERR unknown subcommand 'FLY'."),
            ("\u{1}FLY", "-ERR unknown command '\u{1}FLY', with args beginning with: "),
        ] {
            expect(&mut client, format!("{line}\r\n"), &format!("{answer}\r\n"));
        }
        // The words of a client end no line.
        let answer = "-ERR unknown command 'a  +OK', with args beginning with: \r\n";
        expect(&mut client, request(&[b"a\r\n+OK"]), answer);
    }
}

#[test]
fn a_request_that_is_too_long_is_refused_and_the_next_one_is_answered() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        let long = vec![b'x'; 3 << 20];
        for request in
            [request(&[b"SET", b"key", &long]), request(&[b"DEL", &long, b"key"]), [&long[..], b"\n"].concat()]
        {
            client.send([&request[..], b"PING\r\n"].concat());
            let answer = client.line();
            assert!(answer.starts_with("-ERR Protocol error: a frame of "), "{answer}");
            assert_eq!(client.line(), "+PONG\r");
        }
        expect(&mut client, "GET key\r\n", "$-1\r\n");
    }
}

#[test]
fn what_is_no_request_is_told_and_ends_its_own_connection_only() {
    for server in kvs() {
        let mut other = Client::connect(server.address());
        expect(&mut other, "PING\r\n", "+PONG\r\n");
        for (bytes, mistake) in [
            ("*x\r\n", "invalid multibulk length"),
            ("*1048577\r\n", "invalid multibulk length"),
            ("*99999999999999999999999999999999999", "invalid multibulk length"),
            ("*00000000000000000000000000000000000", "invalid multibulk length"),
            ("*\r\n", "invalid multibulk length"),
            ("*1\r\r\n", "invalid multibulk length"),
            ("*1\r\nPING\r\n", "expected '$', got 'P'"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*1\r\n$4\nPING\r\n", "invalid bulk length"),
        ] {
            let mut client = Client::connect(server.address());
            client.send(format!("PING\r\n{bytes}"));
            // It does not wait for the client's end.
            assert_eq!(client.rest(), format!("+PONG\r\n-ERR Protocol error: {mistake}\r\n"), "{bytes:?}");
        }
        expect(&mut other, "PING\r\n", "+PONG\r\n");
    }
}

#[test]
fn quit_ends_the_connection() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        client.send("PING\r\nQUIT\r\nPING\r\n");
        assert_eq!(client.rest(), "+PONG\r\n+OK\r\n");
    }
}

#[test]
fn a_key_expires() {
    for server in kvs() {
        let mut client = Client::connect(server.address());
        for key in ["one", "two", "later", "kept"] {
            expect(&mut client, format!("SET {key} value\r\n"), "+OK\r\n");
            expect(&mut client, format!("EXPIRE {key} 1\r\n"), ":1\r\n");
        }
        expect(&mut client, "EXPIRE later 1000\r\n", ":1\r\n");
        // What is set anew does not expire.
        expect(&mut client, "SET kept value\r\n", "+OK\r\n");
        assert_eq!(keyspace(&mut client), "db0:keys=4,expires=3");
        // Nothing is left of them, although no client asks for them.
        eventually("one and two have expired", || keyspace(&mut client) == "db0:keys=2,expires=1");
        expect(&mut client, "GET one\r\nGET kept\r\nGET later\r\n", "$-1\r\n$5\r\nvalue\r\n$5\r\nvalue\r\n");
        // In the past: at once.
        expect(&mut client, "EXPIRE later -1\r\nGET later\r\n", ":1\r\n$-1\r\n");
        assert_eq!(keyspace(&mut client), "db0:keys=1,expires=0");
    }
}

/// What `INFO` says of the keys.
fn keyspace(client: &mut Client) -> String {
    client.send("INFO\r\n");
    let length = client.line()[1..].trim_end().parse::<usize>().expect("the length of a string");
    let info = String::from_utf8(client.bytes(length + 2)).expect("text");
    info.lines().find(|line| line.starts_with("db0:")).expect("a line on the keys").to_owned()
}
