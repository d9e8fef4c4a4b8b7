//! Options that a program reads from a file.

use std::{io::Write, net::SocketAddr, sync::mpsc, time::Duration};

use serde::{Deserialize, Deserializer};
use sockserver::{
    Address, Frames, HandlerOptions, HandlerResult, Limits, LineTooLong, Mailbox, OnLimit, Options, Rate, Reader,
    RequestHandler, Server, SocketOptions, Timeouts, UntrustedPeer, Writer,
    concurrency::{Synchronous, Threading},
    framing::Line,
    request_handler,
    transport::Tcp,
};
use sockserver_tests::{
    client::Client,
    script::{Script, Session},
    served::Served,
};

fn from_toml(text: &str) -> Result<Options, String> {
    from_toml_over(Options::new(), text)
}

fn from_toml_over(options: Options, text: &str) -> Result<Options, String> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| error.to_string())?;
    options.merge(deserializer).map_err(|error| error.to_string())
}

fn from_json(text: &str) -> Result<Options, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

const EVERYTHING: Options = Options::new()
    .workers(4)
    .stack_size(256 << 10)
    .allow_threads(true)
    .socket(
        SocketOptions::new()
            .request_queue_size(5)
            .allow_reuse_address(false)
            .allow_reuse_port(true)
            .nodelay(false)
            .keepalive(Duration::from_secs(60))
            .keepalive_interval(Duration::from_secs(10))
            .keepalive_retries(3)
            .user_timeout(Duration::from_secs(90))
            .defer_accept(Duration::from_secs(5))
            .receive_buffer(1 << 20)
            .send_buffer(65_536)
            .dscp(46)
            .device("eth0")
            .only_v6(true)
            .max_packet_size(512)
            .mode(0o660)
            .unlink(false),
    )
    .limits(
        Limits::new()
            .connections(1000)
            .per_client(2)
            .rate(Rate::per_second(200))
            .rate_per_client(Rate::per_minute(100))
            .on_limit(OnLimit::Reject),
    )
    .timeouts(
        Timeouts::new()
            .handle_request(Duration::from_millis(250))
            .idle(Duration::from_secs(300))
            .lifetime(Duration::from_secs(3600))
            .linger(Duration::ZERO)
            .shutdown(Duration::from_secs(5))
            .poll(Duration::from_secs(6)),
    )
    .handler(
        HandlerOptions::new()
            .timeout(Duration::from_secs(30))
            .rbufsize(8192)
            .wbufsize(0)
            .max_line(1 << 20)
            .max_frame(2048)
            .mailbox(16),
    );

#[test]
fn toml_has_the_words_of_the_attribute() {
    let text = r#"
        workers = 4
        stack_size = "256KiB"
        allow_threads = true

        [socket]
        request_queue_size = 5
        allow_reuse_address = false
        allow_reuse_port = true
        nodelay = false
        keepalive = "60s"
        keepalive_interval = "10s"
        keepalive_retries = 3
        user_timeout = "90s"
        defer_accept = "5s"
        receive_buffer = "1MiB"
        send_buffer = 65_536
        dscp = 46
        device = "eth0"
        only_v6 = true
        max_packet_size = 512
        mode = 0o660
        unlink = false

        [limits]
        connections = 1_000
        per_client = 2
        rate = "200/s"
        rate_per_client = "100/m"
        on_limit = "reject"

        [timeouts]
        handle_request = "250ms"
        idle = "5m"
        lifetime = "1h"
        linger = "0s"
        shutdown = "5s"
        poll = "6s"

        [handler]
        timeout = "30s"
        rbufsize = 8192
        wbufsize = 0
        max_line = "1MiB"
        max_frame = "2KiB"
        mailbox = 16
    "#;
    assert_eq!(from_toml(text), Ok(EVERYTHING));
}

#[test]
fn json_has_the_words_of_the_attribute() {
    let text = r#"{
        "workers": 4, "stack_size": "256KiB", "allow_threads": true,
        "socket": {
            "request_queue_size": 5, "allow_reuse_address": false, "allow_reuse_port": true, "nodelay": false,
            "keepalive": "60s", "keepalive_interval": "10s", "keepalive_retries": 3, "user_timeout": "90s",
            "defer_accept": "5s", "receive_buffer": "1MiB", "send_buffer": 65536, "dscp": 46, "device": "eth0", "only_v6": true, "max_packet_size": 512, "mode": "0o660", "unlink": false
        },
        "limits": {
            "connections": 1000, "per_client": 2, "rate": "200/s", "rate_per_client": "100/m", "on_limit": "reject"
        },
        "timeouts": {
            "handle_request": "250ms", "idle": "5m", "lifetime": "1h", "linger": "0s", "shutdown": "5s", "poll": "6s"
        },
        "handler": { "timeout": "30s", "rbufsize": 8192, "wbufsize": 0, "max_line": "1MiB", "max_frame": "2KiB", "mailbox": 16 }
    }"#;
    assert_eq!(from_json(text), Ok(EVERYTHING));
}

#[test]
fn what_a_file_does_not_say_is_as_the_attribute_says() {
    let declared = Options::new().limits(Limits::new().connections(10).per_client(2));
    let merged = from_toml_over(declared, "limits.connections = 20").expect("it is right");
    assert_eq!(merged, Options::new().limits(Limits::new().connections(20).per_client(2)));
    assert_eq!(from_json("{}"), Ok(Options::new()));
}

#[test]
fn who_is_let_in_is_a_list() {
    let options = from_toml("access = { allow = ['10.0.0.0/8'], deny = [] }").expect("it is right");
    assert_eq!(options.access.allow, Some(&["10.0.0.0/8".parse().expect("a network")][..]));
    assert_eq!(options.access.deny, Some(&[][..]));
}

#[test]
fn the_proxies_are_a_list() {
    let options =
        from_toml("[proxy]\ntrust = [\"10.0.0.0/8\", \"unix\"]\nuntrusted = \"direct\"").expect("it is right");
    let trust = ["10.0.0.0/8", "unix"].map(|proxy| proxy.parse().expect("a proxy"));
    assert_eq!(options.proxy.trust, Some(&trust[..]));
    assert_eq!(options.proxy.untrusted, UntrustedPeer::Direct);
}

#[test]
fn every_mistake_is_reported_with_its_key_and_what_to_write() {
    let mistakes = [
        ("timeouts.idle = 300", &["`timeouts.idle`", r#""5m""#, "integer `300`"] as &[_]),
        ("timeouts.idle = \"5\"", &["`timeouts.idle`", "an integer with a unit in quotes", r#"string "5""#]),
        ("timeouts.idle = \"5d\"", &["`timeouts.idle`", "\"1h\""]),
        ("timeouts.idle = \"9999999999999999999h\"", &["`timeouts.idle`"]),
        ("timeouts.idle = \"0s\"", &["`timeouts.idle` cannot be zero: leave it out for no timeout"]),
        ("timeouts.idle = { minutes = 5 }", &["`timeouts.idle`", "an integer with a unit in quotes"]),
        ("socket.keepalive = \"10h\"", &["`socket.keepalive` can be at most `\"32767s\"`"]),
        ("socket.keepalive_retries = 128", &["`socket.keepalive_retries` can be at most `127`"]),
        ("socket.user_timeout = \"600h\"", &["`socket.user_timeout` can be at most `\"596h\"`"]),
        ("socket.send_buffer = \"2GiB\"", &["`socket.send_buffer` can be at most `\"2047MiB\"`"]),
        ("socket.dscp = 64", &["`socket.dscp` can be at most `63`"]),
        ("socket.device = \"\"", &["`socket.device` cannot be empty"]),
        ("socket.device = 0", &["`socket.device`", "text in quotes, like `\"eth0\"`"]),
        ("socket.mode = 660", &["`socket.mode`", "octal, like `0o660`"]),
        ("socket.mode = \"660\"", &["`socket.mode`", "octal, like `0o660`"]),
        ("socket.mode = \"0o1777\"", &["`socket.mode`", "at most `0o777`"]),
        ("socket.nodelay = \"yes\"", &["`socket.nodelay`", "`true` or `false`"]),
        ("limits.connections = 4294967296", &["`limits.connections`", "4294967295"]),
        ("limits.connections = -1", &["`limits.connections`", "integer `-1`"]),
        ("limits.connections = 1.5", &["`limits.connections`", "1.5"]),
        ("limits.connections = 0", &["`limits.connections` cannot be zero"]),
        ("limits.on_limit = \"refuse\"", &["`limits.on_limit`", r#"`"wait"` or `"reject"`"#]),
        (
            "limits = 5",
            &[
                "`limits`",
                "`connections`, `per_client`, `handshakes`, `threads`, `rate`, `rate_per_client`, `on_limit`",
            ],
        ),
        ("limits.rate = 20", &["`limits.rate`", r#"like `"20/s"`"#]),
        ("limits.rate = \"20/sec\"", &["`limits.rate`", r#"like `"20/s"`"#]),
        ("limits.rate_per_client = \"0/s\"", &["`limits.rate_per_client` cannot be zero"]),
        ("access.allow = []", &["`access.allow` cannot be empty"]),
        ("access.deny = [\"unix\"]", &["`access.deny`: `unix` is no network: expected an address, or"]),
        ("access.deny = \"10.0.0.0/8\"", &["`access.deny`", "a list of networks, like"]),
        ("access.allow = [\"10.0.0.0/8\", \"192.168.1.300\"]", &["`access.allow`: `192.168.1.300` is no network"]),
        ("proxy.trust = \"10.0.0.0/8\"", &["`proxy.trust`", "a list of networks"]),
        ("proxy.trust = [\"unix\", \"10.0.0.1/8\"]", &["`proxy.trust`: `10.0.0.1/8` is no network", "no bit is set"]),
        ("proxy.trust = []", &["`proxy.trust` cannot be empty"]),
        ("handler.rbufsize = \"8kb\"", &["`handler.rbufsize`", "\"64KiB\""]),
        ("handler.rbufsize = 0", &["`handler.rbufsize` cannot be zero"]),
        ("limits.conections = 5", &["unknown key `conections`", "limits has the keys `connections`, "]),
        ("idle = \"5m\"", &["unknown key `idle`: did you mean `timeouts.idle`? this configuration has"]),
        ("socket.idle = \"5m\"", &["unknown key `idle`: did you mean `timeouts.idle`? socket has the keys"]),
        ("timeouts.timeout = \"5m\"", &["did you mean `handler.timeout`?"]),
        ("limit.connections = 5", &["unknown key `limit`", "`limits`"]),
        ("transport = \"tcp\"", &["`transport` is decided by the program"]),
        ("hooks.verify_request = \"f\"", &["`hooks` is decided by the program"]),
    ];
    for (text, expected) in mistakes {
        let error = from_toml(text).expect_err(text);
        for part in expected {
            assert!(error.contains(part), "{text}: no {part} in {error}");
        }
        assert!(error.contains("line 1, column"), "{text}: where is it? {error}");
    }
    let twice = from_json(r#"{ "timeouts": { "idle": "5m", "idle": "6m" } }"#).expect_err("a key twice");
    assert!(twice.contains("`timeouts.idle` is given twice at line 1"), "{twice}");
    let nothing = from_json(r#"{ "timeouts": { "idle": null } }"#).expect_err("no value");
    assert!(nothing.contains("`timeouts.idle`"), "{nothing}");
    let list = from_json("[]").expect_err("a list");
    assert!(list.contains("the options of a server: `workers`, "), "{list}");
}

#[test]
fn options_can_be_a_part_of_a_programs_configuration() {
    #[derive(Deserialize)]
    struct Configuration {
        greeting: String,
        #[serde(deserialize_with = "declared")]
        server: Options,
        admin: Options,
    }

    fn declared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        Options::new().workers(4).merge(deserializer)
    }

    let text = "greeting = \"hello\"\nserver.limits.connections = 10\nadmin.workers = 1";
    let Configuration { greeting, server, admin } = toml::from_str(text).expect("it is right");
    assert_eq!(greeting, "hello");
    assert_eq!(server, Options::new().workers(4).limits(Limits::new().connections(10)));
    assert_eq!(admin, Options::new().workers(1));
}

#[test]
fn an_address_can_be_a_part_of_a_programs_configuration() {
    #[derive(Debug, Deserialize)]
    struct Configuration {
        listen: Vec<Address>,
    }

    let Configuration { listen } =
        toml::from_str("listen = ['127.0.0.1:80', 'unix:/run/app.sock']").expect("it is right");
    assert_eq!(listen, [SocketAddr::from(([127, 0, 0, 1], 80)).into(), Address::unix("/run/app.sock")]);
    let error = toml::from_str::<Configuration>("listen = ['localhost']").expect_err("a name is no address");
    assert!(error.to_string().contains("`localhost` is no address"), "{error}");
    let error = toml::from_str::<Configuration>("listen = [80]").expect_err("a number is no address");
    assert!(error.to_string().contains("an address in quotes"), "{error}");
}

#[test]
fn a_file_is_refused_where_the_attribute_would_be() {
    let refusal = |text| {
        let (script, _reports) = Script::<Tcp, Synchronous>::upper();
        let options = from_toml(text).expect("it is right in itself");
        script.bind_with("127.0.0.1:0", options).expect_err("it means nothing here").to_string()
    };
    let words = refusal("workers = 4");
    assert!(words.starts_with("the option `workers` means nothing with concurrency = \"sync\", only with \"pool\""));
    let words = refusal("socket.mode = 0o660");
    assert!(words.starts_with("the option `socket.mode` means nothing with transport = \"tcp\""), "{words}");
}

#[request_handler(timeout = "1h", max_line = 4, rbufsize = 16, wbufsize = 100)]
#[server(transport = "tcp", concurrency = "threading")]
struct Told {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Told {
    fn handle(&mut self) -> HandlerResult {
        let told = match self.rfile.next_line() {
            Ok(line) => format!("{line:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => "timeout".to_owned(),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<LineTooLong>()) {
                Some(LineTooLong { limit, .. }) => format!("longer than {limit}"),
                None => return Err(error.into()),
            },
        };
        Ok(self.wfile.write_all(told.as_bytes())?)
    }
}

fn told(options: &str, line: &str) -> String {
    let options = from_toml_over(ToldServer::OPTIONS, options).expect("it is right");
    let server = Served::new(ToldServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send(line);
    client.finish();
    client.rest()
}

#[test]
fn a_file_decides_over_the_attribute_of_the_handler() {
    assert_eq!(told("", "12345\n"), "longer than 4");
    assert_eq!(told("handler.max_line = 5", "12345\n"), "Some(\"12345\")");
    assert_eq!(told("handler.max_line = 2", "123\n"), "longer than 2");
}

#[test]
fn a_file_sets_the_timeout_of_a_handler() {
    let options = from_toml_over(ToldServer::OPTIONS, "handler.timeout = \"1ms\"").expect("it is right");
    let server = Served::new(ToldServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "timeout");
}

#[request_handler(max_frame = 4, mailbox = 1)]
#[server(transport = "tcp", concurrency = "threading")]
struct Framed {
    frames: Frames<Line, str>,
    mailbox: Mailbox<()>,
    wfile: Writer,
}

impl RequestHandler for Framed {
    fn handle(&mut self) -> HandlerResult {
        let sender = self.mailbox.sender();
        let mails = (0..).take_while(|_| sender.try_send(()).is_ok()).count();
        match self.frames.next() {
            Ok(frame) => Ok(write!(self.wfile, "{mails} mails, {frame:?}")?),
            Err(error) => Ok(write!(self.wfile, "{mails} mails, {error}")?),
        }
    }
}

fn framed(options: &str) -> String {
    let options = from_toml_over(FramedServer::OPTIONS, options).expect("it is right");
    let server = Served::new(FramedServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send("12345\n");
    client.finish();
    client.rest()
}

#[test]
fn a_file_sets_how_long_a_frame_and_how_full_a_mailbox_can_be() {
    assert_eq!(framed(""), "1 mails, a frame of 5 bytes or more is longer than max_frame (4 bytes)");
    assert_eq!(framed("handler.max_frame = 5"), "1 mails, Some(\"12345\")");
    assert_eq!(framed("handler = { max_frame = '1KiB', mailbox = 7 }"), "7 mails, Some(\"12345\")");
}

/// How much of two writes is sent before the handler ends, and in which pieces a reader receives.
fn buffered(options: &str) -> (u64, u64) {
    let (sender, receiver) = mpsc::channel();
    let handle = move |session: &mut Session<Tcp, Threading>| {
        session.rfile.next_line()?;
        session.wfile.write_all(b"one")?;
        session.wfile.write_all(b"two")?;
        let info = session.server.connections().remove(0);
        sender.send((info.bytes_out, info.bytes_in))?;
        Ok(())
    };
    let server = Script::<Tcp, Threading>::serve_with(handle, from_toml(options).expect("it is right"));
    let mut client = Client::connect(server.server_address());
    client.send([b'\n'; 1000]);
    client.finish();
    assert_eq!(client.rest(), "onetwo");
    receiver.recv().expect("it has told")
}

#[test]
fn a_file_sets_the_buffers_of_a_handler() {
    assert_eq!(buffered(""), (0, 1000));
    assert_eq!(buffered("handler.wbufsize = 0"), (6, 1000));
    assert_eq!(buffered("handler.wbufsize = 4"), (3, 1000));
    assert_eq!(buffered("handler.rbufsize = 10"), (0, 10));
}

#[test]
fn a_file_sets_the_timeout_of_a_handler_whose_attribute_has_none() {
    let options = from_toml("handler.timeout = \"1ms\"").expect("it is right");
    let impatient = |session: &mut Session<Tcp, Threading>| {
        let error = session.rfile.next_line().expect_err("no line comes");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        Ok(write!(session.wfile, "timeout")?)
    };
    let server = Script::<Tcp, Threading>::serve_with(impatient, options);
    assert_eq!(Client::connect(server.server_address()).rest(), "timeout");
}
