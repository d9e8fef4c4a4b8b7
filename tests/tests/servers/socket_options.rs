//! The options of sockets, read back from the kernel.

use std::{net::TcpStream, os::fd::AsFd, sync::mpsc, time::Duration};

use socket2::{Domain, SockRef, Socket, Type};
use sockserver::{
    BindTo, Options, Server, SocketOptions, Transport,
    concurrency::Threading,
    transport::{Tcp, Udp, UnixDatagram},
};
use sockserver_tests::{
    client::PATIENCE,
    place::Local,
    script::{Script, Session},
    served::Served,
};

/// What `look` sees of the listening socket, bound by the server and bound elsewhere.
#[track_caller]
fn of_listeners<T: Transport, A: BindTo<T> + Clone>(
    address: A,
    elsewhere: impl FnOnce() -> Socket,
    options: SocketOptions,
    look: impl Fn(&Socket),
) {
    let options = Options::new().socket(options);
    let script = || Script::<T, Threading>::new(|_| Ok(())).0;
    let look_at = |fd: &dyn AsFd| look(&fd.as_fd().try_clone_to_owned().expect("a descriptor").into());
    look_at(&script().bind_with(address, options.clone()).expect("a free place"));
    look_at(&script().with_listener(elsewhere(), options).expect("it fits"));
}

fn inet(address: &str, kind: Type) -> impl FnOnce() -> Socket {
    let address: std::net::SocketAddr = address.parse().expect("an address");
    move || {
        let socket = Socket::new(Domain::for_address(address), kind, None).expect("a socket");
        socket.bind(&address.into()).expect("a free port");
        socket
    }
}

/// What `look` sees of a connection, at the server's end.
fn of_connection(address: &str, options: SocketOptions, look: impl Fn(SockRef<'_>) + Send + Sync + 'static) {
    let (seen, has_seen) = mpsc::channel();
    let handle = move |session: &mut Session<Tcp, Threading>| {
        look(SockRef::from(&session.request));
        Ok(seen.send(())?)
    };
    let (script, _reports) = Script::<Tcp, Threading>::new(handle);
    let options = Options::new().socket(options);
    let server = Served::new(script.bind_with(address, options).expect("a free port"));
    let port = server.server_address().port().expect("a port");
    let _client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    has_seen.recv_timeout(PATIENCE).expect("it was as expected");
}

#[test]
fn connections_are_probed_as_the_options_say() {
    let options = SocketOptions::new().keepalive_interval(Duration::from_secs(7)).keepalive_retries(3);
    let look = |socket: &Socket| {
        assert!(socket.keepalive().expect("known"));
        assert_eq!(socket.tcp_keepalive_interval().expect("known"), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().expect("known"), 3);
    };
    of_listeners::<Tcp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::STREAM), options.clone(), look);
    of_connection("127.0.0.1:0", options, move |socket| look(&socket));
}

#[test]
fn buffers_are_as_long_as_the_options_say() {
    let options = SocketOptions::new().receive_buffer(20_000).send_buffer(30_000);
    // Linux doubles them.
    let look = |socket: &Socket| {
        let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
        assert_eq!(socket.recv_buffer_size().expect("known"), factor * 20_000);
        assert_eq!(socket.send_buffer_size().expect("known"), factor * 30_000);
    };
    of_listeners::<Tcp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::STREAM), options.clone(), look);
    of_listeners::<Udp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::DGRAM), options.clone(), look);
    let [one, other] = [(); 2].map(|()| UnixDatagram::place());
    let elsewhere = || {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
        socket
            .bind(&socket2::SockAddr::unix(other.address().path().expect("a path")).expect("an address"))
            .expect("free");
        socket
    };
    of_listeners::<UnixDatagram, _>(one.address(), elsewhere, options.clone(), look);
    of_connection("127.0.0.1:0", options, move |socket| look(&socket));
}

#[test]
fn what_is_sent_is_marked_as_the_options_say() {
    let options = SocketOptions::new().dscp(46);
    let look = |socket: &Socket| assert_eq!(socket.tos_v4().expect("known"), 46 << 2);
    of_listeners::<Tcp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::STREAM), options.clone(), look);
    of_listeners::<Udp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::DGRAM), options.clone(), look);
    let look_v6 = |socket: &Socket| assert_eq!(socket.tclass_v6().expect("known"), 46 << 2);
    of_listeners::<Udp, _>("[::1]:0", inet("[::1]:0", Type::DGRAM), options.clone(), look_v6);
    of_connection("127.0.0.1:0", options.clone(), move |socket| look(&socket));
    if cfg!(target_os = "linux") {
        // An IPv4 client of an IPv6 server.
        of_connection("[::]:0", options, move |socket| look(&socket));
    }
}

#[cfg(target_os = "linux")]
mod on_linux {
    use sockserver_tests::client::Client;

    use super::*;

    #[test]
    fn a_connection_ends_when_its_client_has_acknowledged_nothing_for_so_long() {
        let options = SocketOptions::new().user_timeout(Duration::from_millis(12_345));
        let look = |socket: &Socket| {
            assert_eq!(socket.tcp_user_timeout().expect("known"), Some(Duration::from_millis(12_345)));
        };
        of_listeners::<Tcp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::STREAM), options.clone(), look);
        of_connection("127.0.0.1:0", options, move |socket| look(&socket));
    }

    #[test]
    fn a_client_is_accepted_when_it_has_spoken() {
        let handle = |session: &mut Session<Tcp, Threading>| {
            assert_eq!(session.rfile.next_line()?.as_deref(), Some("hello"));
            Ok(std::io::Write::write_all(&mut session.wfile, b"HELLO")?)
        };
        let (script, reports) = Script::<Tcp, Threading>::new(handle);
        let options = Options::new().socket(SocketOptions::new().defer_accept(Duration::from_secs(100)));
        let server = Served::new(script.bind_with("127.0.0.1:0", options).expect("a free port"));
        let [mut silent, mut client] = [(); 2].map(|()| Client::connect(server.server_address()));
        client.send("hello\n");
        assert_eq!(client.rest(), "HELLO");
        // The first one would have been accepted first.
        assert_eq!(server.stats().accepted, 1);
        silent.send("hello\n");
        assert_eq!(silent.rest(), "HELLO");
        assert_eq!(reports.try_iter().count(), 0);
    }

    #[test]
    fn only_what_comes_in_by_the_device_is_served() {
        let options = SocketOptions::new().device("lo");
        let look = |socket: &Socket| assert_eq!(socket.device().expect("known").as_deref(), Some(&b"lo"[..]));
        of_listeners::<Tcp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::STREAM), options.clone(), look);
        of_listeners::<Udp, _>("127.0.0.1:0", inet("127.0.0.1:0", Type::DGRAM), options.clone(), look);
        of_connection("127.0.0.1:0", options, |_| ());
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let (script, _reports) = Script::<Tcp, Threading>::new(|_| Ok(()));
        let options = Options::new().socket(SocketOptions::new().device("none0"));
        let error = script.bind_with("127.0.0.1:0", options).expect_err("there is no such device");
        assert!(error.to_string().contains("the interface none0: No such device"), "{error}");
    }
}
