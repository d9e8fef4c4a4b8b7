//! What the public types promise beside their methods.

use std::{
    error::Error,
    fmt::Debug,
    marker,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    panic::{RefUnwindSafe, UnwindSafe},
};

use sockserver::{
    Acceptor, Address, Closing, ConnectionId, ConnectionInfo, Context, Datagram, DrainReport, HandlerError,
    HandlerOptions, HandlerResult, Job, Limits, LineTooLong, NotAnAddress, OnLimit, Options, PeerCred, Reader,
    ReaderTaken, RequestHandler, RunningServer, Server, ServerHandle, SocketOptions, SocketServer, Stage, Stats,
    Stream, Timeouts, UnixAddress, UnnamedPeer, Writer,
    concurrency::{Forking, Pool, Synchronous, Threading},
    request_handler,
    transport::{DatagramListener, Tcp, TcpAcceptor, Udp, Unix, UnixAcceptor, UnixDatagram, UnixDatagramListener},
};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Idle;

impl RequestHandler for Idle {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[test]
fn what_can_be_moved_to_another_thread_can() {
    fn is_send<T: Send + Debug + 'static>() {}
    fn is_shared<T: Send + marker::Sync + Debug + 'static>() {}

    // What one request has is one thread's at a time.
    is_send::<Reader>();
    is_send::<Writer>();
    is_send::<Job<IdleServer>>();
    is_shared::<Stream>();
    is_shared::<Datagram>();
    is_shared::<PeerCred>();
    is_shared::<SocketServer<IdleServer>>();
    is_shared::<Acceptor<IdleServer>>();
    is_shared::<RunningServer>();
    is_shared::<ServerHandle>();
    is_shared::<ConnectionInfo>();
    is_shared::<Address>();
    is_shared::<Options>();
}

#[test]
fn errors_can_be_boxed_and_sent() {
    fn is_error<T: Error + Send + marker::Sync + 'static>() {}
    is_error::<HandlerError>();
    is_error::<LineTooLong>();
    is_error::<ReaderTaken>();
    is_error::<UnnamedPeer>();
    is_error::<NotAnAddress>();
}

#[test]
fn what_is_looked_at_while_debugging_can_be_shown() {
    fn is_shown<T: Debug>() {}
    is_shown::<Context<'_, IdleServer>>();
    is_shown::<(Closing, ConnectionId, DrainReport, Stage, Stats)>();
    is_shown::<(Tcp, Udp, Unix, UnixDatagram)>();
    is_shown::<(TcpAcceptor, DatagramListener, UnixAcceptor, UnixDatagramListener)>();
    is_shown::<(Synchronous, Threading, Pool, Forking)>();
}

#[test]
fn what_a_handler_has_can_be_used_where_panics_are_caught() {
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_unwind_safe::<Stream>();
    is_unwind_safe::<Datagram>();
    is_unwind_safe::<Reader>();
    is_unwind_safe::<Writer>();
    is_unwind_safe::<ServerHandle>();
    is_unwind_safe::<RunningServer>();
}

#[test]
fn an_ipv4_client_has_an_ipv4_address_whatever_the_server_is_bound_to() {
    let mapped: SocketAddr = "[::ffff:127.0.0.1]:80".parse().expect("an address");
    assert_eq!(Address::from(mapped).ip(), Some(IpAddr::from([127, 0, 0, 1])));
}

#[test]
fn a_bound_server_is_a_descriptor() {
    fn is_descriptor<T: AsFd>() {}
    is_descriptor::<SocketServer<IdleServer>>();
    is_descriptor::<Stream>();
}

#[test]
fn each_group_of_options_has_the_defaults_of_the_whole() {
    let Options { socket, limits, timeouts, handler, .. } = Options::default();
    assert_eq!((socket, &limits, timeouts), (SocketOptions::default(), &Limits::default(), Timeouts::default()));
    assert_eq!(handler, HandlerOptions::default());
    assert_eq!(limits.on_limit, OnLimit::default());
}

#[test]
fn a_reason_to_close_is_shown_in_words() {
    assert_eq!(Closing::Draining.to_string(), "the server is stopping");
    assert_eq!(Closing::Idle.to_string(), "nothing was transferred for longer than the idle timeout");
}

#[test]
fn addresses_are_made_from_what_they_are_made_of() {
    for (name, shown) in [
        (UnixAddress::Path("/run/app.sock".into()), "/run/app.sock"),
        (UnixAddress::Abstract(b"app\n".to_vec()), "@app\\n"),
        (UnixAddress::Unnamed, "(unnamed)"),
    ] {
        assert_eq!(name.to_string(), shown);
        assert_eq!(Address::from(name).to_string(), shown);
    }
    let inet = SocketAddr::from(([127, 0, 0, 1], 80));
    assert_eq!(Address::from(inet), inet);
    assert_eq!(inet, Address::from(inet));
    assert_ne!(inet, Address::unix("127.0.0.1:80"));
}

#[test]
fn an_address_is_parsed_from_what_it_is_displayed_as() {
    for address in [
        Address::from(SocketAddr::from(([127, 0, 0, 1], 80))),
        Address::from("[fe80::1%2]:80".parse::<SocketAddr>().expect("an address")),
        Address::unix("/run/app.sock"),
        Address::unix("./app.sock"),
        Address::unix("\0app"),
        Address::from(UnixAddress::Abstract(b"\0\xff\\ \"'\t\n\r@".to_vec())),
        Address::from(UnixAddress::Unnamed),
    ] {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    for (text, path) in [("unix:/run/app.sock", "/run/app.sock"), ("unix:app.sock", "app.sock"), ("unix:@app", "\0app")]
    {
        assert_eq!(text.parse(), Ok(Address::unix(path)));
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in ["", "127.0.0.1", "localhost:80", "10.0.0.0/8", "http://localhost:80/", "app.sock", "unix:", "@\\x4"] {
        let error = text.parse::<Address>().expect_err(text);
        assert!(error.to_string().starts_with(&format!("`{text}` is no address: expected one like ")), "{error}");
    }
}

#[test]
fn a_handle_outlives_what_runs_the_server() {
    let running = IdleServer.bind("127.0.0.1:0").expect("a free port").spawn().expect("a thread");
    let handle = running.handle();
    running.stop().expect("nobody was served");
    assert_eq!(handle.wait().expect("this is no handler"), DrainReport::default());
}
