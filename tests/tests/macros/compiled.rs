//! What the macros say and write, as a user's compiler sees it.

use sockserver::{
    Address, HandlerError, HandlerResult, Limits, OnLimit, Options, Rate, RequestHandler, Server, ServerHandle,
    SocketOptions, Stream, Timeouts, request_handler,
};
use std::{collections::BTreeMap, time::Duration};

#[test]
fn mistakes_are_told_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

/// Written out, as in `expand/`, the parameters of the expansion would hide the hooks.
#[test]
fn a_hook_can_have_the_name_of_what_it_is_given() {
    #[request_handler]
    #[server(
        transport = "tcp",
        concurrency = "sync",
        hooks(server_activate = handle, verify_request = request, handle_error = client_address),
    )]
    struct Silent;

    impl RequestHandler for Silent {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    fn handle(_: &SilentServer, _: &ServerHandle) {}

    fn request(_: &SilentServer, _: &Stream, _: &Address) -> bool {
        true
    }

    fn client_address(_: &SilentServer, _: &HandlerError, _: &Address) {}

    drop(SilentServer.bind("127.0.0.1:0").unwrap());
}

/// All keys of the attribute that are options, none with its default.
#[test]
fn options_of_the_methods_are_those_of_the_attribute() {
    #[request_handler]
    #[server(
        transport = "tcp",
        concurrency = "pool",
        workers = 4,
        stack_size = "256KiB",
        socket(
            request_queue_size = 5,
            allow_reuse_address = false,
            allow_reuse_port = true,
            nodelay = false,
            keepalive = "60s",
            keepalive_interval = "10s",
            keepalive_retries = 3,
            user_timeout = "90s",
            defer_accept = "5s",
            receive_buffer = "1MiB",
            send_buffer = 65_536,
            dscp = 46,
            device = "eth0",
            only_v6 = true,
        ),
        limits(connections = 100, per_client = 2, rate = "200/s", rate_per_client = "100/m", on_limit = "reject"),
        timeouts(handle_request = "1s", idle = "2s", lifetime = "3s", linger = "4s", shutdown = "5s", poll = "6s",)
    )]
    struct Stream;

    #[request_handler]
    #[server(transport = "unix", concurrency = "forking", allow_threads = true, socket(mode = 0o600, unlink = false))]
    struct UnixStream;

    #[request_handler]
    #[server(transport = "udp", concurrency = "sync", socket(max_packet_size = 512))]
    struct Packet;

    impl RequestHandler for Stream {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    impl RequestHandler for UnixStream {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    impl RequestHandler for Packet {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    const OF_STREAM: Options = Options::new()
        .workers(4)
        .stack_size(256 << 10)
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
                .only_v6(true),
        )
        .limits(
            Limits::new()
                .connections(100)
                .per_client(2)
                .rate(Rate::per_second(200))
                .rate_per_client(Rate::per_minute(100))
                .on_limit(OnLimit::Reject),
        )
        .timeouts(
            Timeouts::new()
                .handle_request(Duration::from_secs(1))
                .idle(Duration::from_secs(2))
                .lifetime(Duration::from_secs(3))
                .linger(Duration::from_secs(4))
                .shutdown(Duration::from_secs(5))
                .poll(Duration::from_secs(6)),
        );
    const OF_UNIX_STREAM: Options =
        Options::new().allow_threads(true).socket(SocketOptions::new().mode(0o600).unlink(false));
    const OF_PACKET: Options = Options::new().socket(SocketOptions::new().max_packet_size(512));

    assert_eq!(OF_STREAM, StreamServer::OPTIONS);
    assert_eq!(OF_UNIX_STREAM, UnixStreamServer::OPTIONS);
    assert_eq!(OF_PACKET, PacketServer::OPTIONS);
}

const REFERENCE: &str = include_str!("../../../sockserver/docs/keys.md");

/// The rows of the reference that are fields of the options, as `(path, default)`. Those of a handler's attribute have no
/// default in the options: there they are as the attribute says.
fn options_in_the_reference() -> BTreeMap<String, String> {
    let rows = REFERENCE.lines().filter_map(|row| {
        let cells: Vec<&str> = row.strip_prefix("| [`")?.split(" | ").collect();
        let (key, link) = cells[0].split_once("`](")?;
        if link.starts_with("Context::set_") {
            return Some((format!("handler.{key}"), "as the attribute says".to_string()));
        }
        let is_option =
            ["Options::", "SocketOptions::", "Limits::", "Timeouts::", "Access::", "ProxyOptions::", "TlsOptions::"]
                .iter()
                .any(|it| link.starts_with(it));
        let path = key.replace('(', ".").replace(')', "");
        is_option.then(|| (path, cells[2].to_string()))
    });
    rows.collect()
}

#[test]
fn the_reference_has_every_option_with_its_default() {
    let shown = format!("{:#?}", Options::new());
    let mut groups: Vec<String> = Vec::new();
    let mut defaults = BTreeMap::new();
    for line in shown.lines().skip(1) {
        let line = line.trim().trim_end_matches(',');
        match line.split_once(": ") {
            Some((group, value)) if value.ends_with('{') => groups.push(format!("{group}.")),
            Some((field, value)) => drop(defaults.insert(format!("{}{field}", groups.concat()), value.to_string())),
            None => drop(groups.pop()),
        }
    }
    let reference = options_in_the_reference();
    assert!(reference.keys().eq(defaults.keys()), "{reference:#?}\n{defaults:#?}");
    for (path, default) in defaults {
        let said = &reference[&path];
        // As the attribute has it, in code; in words, where there is none.
        let literal = said.strip_prefix('`').and_then(|said| said.strip_suffix('`')).map(|said| said.replace('"', ""));
        match &*default {
            "None" => assert_eq!(literal.filter(|literal| literal != "::std::thread"), None, "{path}: {said}"),
            "0ns" => assert_eq!(literal.as_deref(), Some("0s"), "{path}"),
            default => assert_eq!(literal, Some(default.to_lowercase()), "{path}"),
        }
    }
}
