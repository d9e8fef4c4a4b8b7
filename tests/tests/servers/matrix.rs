//! Every transport × every concurrency that threads can test, by one word each, and streams over TLS as well; `forking.rs`
//! and `tls/everywhere.rs` have the others.

use std::{io::Write, time::Duration};

use sockserver::{
    Address, HandlerResult, MessageHandler, Options, Reader, RequestHandler, Server, Service, Writer, message_handler,
    request_handler,
};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    place::Place,
    served::Served,
    tls::{Authority, TlsClient},
};

/// How the clients of a cell speak.
trait Clients: Default {
    type Client;

    /// The options of the cell's server.
    fn options(&self, options: Options) -> Options {
        options
    }

    fn connect(&self, server: &Address) -> Self::Client;
}

#[derive(Default)]
struct Plain;

impl Clients for Plain {
    type Client = Client;

    fn connect(&self, server: &Address) -> Client {
        Client::connect(server)
    }
}

#[derive(Default)]
struct Packets;

impl Clients for Packets {
    type Client = DatagramClient;

    fn connect(&self, server: &Address) -> DatagramClient {
        DatagramClient::connect(server)
    }
}

struct Tls(Authority);

impl Default for Tls {
    fn default() -> Tls {
        Tls(Authority::new())
    }
}

impl Clients for Tls {
    type Client = TlsClient;

    fn options(&self, mut options: Options) -> Options {
        // The clients of a cell shake hands one after the other.
        options.limits.handshakes = Some(100);
        options.timeouts.handshake = Duration::from_secs(60);
        options.tls(self.0.options().tls)
    }

    fn connect(&self, server: &Address) -> TlsClient {
        TlsClient::connect_silently(server, &self.0.client())
    }
}

/// The handler of a cell: of a connection, or of a line where an event loop calls it.
macro_rules! upper {
    ($transport:literal, "event_loop") => {
        #[message_handler(framing = "line")]
        #[server(transport = $transport, concurrency = "event_loop")]
        struct Upper {
            wfile: Writer,
        }

        impl MessageHandler for Upper {
            type Message = str;

            fn message(&mut self, line: &str) -> HandlerResult {
                Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
            }
        }
    };
    ($transport:literal, $concurrency:literal) => {
        #[request_handler]
        #[server(transport = $transport, concurrency = $concurrency)]
        struct Upper {
            rfile: Reader,
            wfile: Writer,
        }

        impl RequestHandler for Upper {
            fn handle(&mut self) -> HandlerResult {
                while let Some(line) = self.rfile.next_line()? {
                    writeln!(self.wfile, "{}", line.to_uppercase())?;
                }
                Ok(())
            }
        }
    };
}

/// One cell: the same handler, composed by the attribute alone.
macro_rules! cell {
    ($cell:ident: $transport:tt, $concurrency:tt, $clients:ident) => {
        mod $cell {
            use super::*;

            upper!($transport, $concurrency);

            pub(super) fn serve(clients: &$clients, place: &Place) -> Served {
                let options = clients.options(UpperServer::OPTIONS);
                Served::new(UpperServer.bind_with(place.address(), options).expect("a free place"))
            }

            #[test]
            fn a_request_is_answered() {
                let (clients, place) = ($clients::default(), Place::of($transport));
                let server = serve(&clients, &place);
                let mut client = clients.connect(server.server_address());
                assert_eq!(client.ask("hello"), "HELLO");
            }

            #[test]
            fn requests_of_one_client_are_answered_in_turn() {
                let (clients, place) = ($clients::default(), Place::of($transport));
                let server = serve(&clients, &place);
                let mut client = clients.connect(server.server_address());
                for number in 0..50 {
                    assert_eq!(client.ask(&format!("request {number}")), format!("REQUEST {number}"));
                }
            }

            #[test]
            fn clients_are_served_one_after_the_other() {
                let (clients, place) = ($clients::default(), Place::of($transport));
                let server = serve(&clients, &place);
                for number in 0..20 {
                    let mut client = clients.connect(server.server_address());
                    assert_eq!(client.ask(&format!("client {number}")), format!("CLIENT {number}"));
                }
            }

            #[test]
            fn a_hundred_clients_at_once_each_get_their_own_answer() {
                let (clients, place) = ($clients::default(), Place::of($transport));
                let server = serve(&clients, &place);
                let mut connected: Vec<_> = (0..100).map(|_| clients.connect(server.server_address())).collect();
                for (number, client) in connected.iter_mut().enumerate() {
                    client.send(format!("client {number}\n"));
                    client.finish();
                }
                for (number, client) in connected.iter_mut().enumerate() {
                    assert_eq!(client.line(), format!("CLIENT {number}"));
                }
                eventually("all requests have ended", || server.stats().finished == 100);
                assert_eq!(server.stats().accepted, 100);
            }

            #[test]
            fn the_counters_add_up_and_nothing_is_left_over_at_the_end() {
                let (clients, place) = ($clients::default(), Place::of($transport));
                let server = serve(&clients, &place);
                let mut client = clients.connect(server.server_address());
                assert_eq!(client.ask("hello"), "HELLO");
                client.finish();
                eventually("the request has ended", || server.stats().finished == 1);
                assert_eq!(server.stats().active, 0);
                let report = server.stop();
                // It was counted before its client saw the end, and the drain may still have found it.
                assert!(report.in_time <= 1 && (report.forced, report.leaked) == (0, 0), "{report:?}");
            }
        }
    };
}

cell!(tcp_sync: "tcp", "sync", Plain);
cell!(tcp_threading: "tcp", "threading", Plain);
cell!(tcp_pool: "tcp", "pool", Plain);
cell!(udp_sync: "udp", "sync", Packets);
cell!(udp_threading: "udp", "threading", Packets);
cell!(udp_pool: "udp", "pool", Packets);
cell!(unix_sync: "unix", "sync", Plain);
cell!(unix_threading: "unix", "threading", Plain);
cell!(unix_pool: "unix", "pool", Plain);
cell!(stream_sync: "stream", "sync", Plain);
cell!(stream_threading: "stream", "threading", Plain);
cell!(stream_pool: "stream", "pool", Plain);
cell!(tcp_event_loop: "tcp", "event_loop", Plain);
cell!(unix_event_loop: "unix", "event_loop", Plain);
cell!(stream_event_loop: "stream", "event_loop", Plain);
cell!(tls_tcp_sync: "tcp", "sync", Tls);
cell!(tls_tcp_threading: "tcp", "threading", Tls);
cell!(tls_tcp_pool: "tcp", "pool", Tls);
cell!(tls_tcp_event_loop: "tcp", "event_loop", Tls);
cell!(tls_unix_sync: "unix", "sync", Tls);
cell!(tls_unix_threading: "unix", "threading", Tls);
cell!(tls_unix_pool: "unix", "pool", Tls);
cell!(tls_unix_event_loop: "unix", "event_loop", Tls);
cell!(tls_stream_sync: "stream", "sync", Tls);
cell!(tls_stream_threading: "stream", "threading", Tls);
cell!(tls_stream_pool: "stream", "pool", Tls);
cell!(tls_stream_event_loop: "stream", "event_loop", Tls);
cell!(unix_datagram_sync: "unix_datagram", "sync", Packets);
cell!(unix_datagram_threading: "unix_datagram", "threading", Packets);
cell!(unix_datagram_pool: "unix_datagram", "pool", Packets);

#[test]
fn a_hundred_connections_are_served_while_all_are_open() {
    let servers = [
        ("tcp", tcp_threading::serve as fn(&Plain, &Place) -> Served),
        ("unix", unix_threading::serve),
        ("tcp", tcp_event_loop::serve),
    ];
    for (transport, serve) in servers {
        let place = Place::of(transport);
        let server = serve(&Plain, &place);
        let mut clients: Vec<_> = (0..100).map(|_| Client::connect(server.server_address())).collect();
        for round in 0..2 {
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.ask(&format!("{number} in {round}")), format!("{number} IN {round}"));
            }
        }
        assert_eq!(server.stats().active, 100);
    }
}

/// Types of the user's own, named by their paths, and the crate under another name.
mod own {
    use std::{
        io,
        os::fd::OwnedFd,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        thread,
    };

    use super::*;

    mod framework {
        pub(super) use sockserver as server;
    }
    use framework::server::{
        Address, BindTo, Concurrency, Job, Options, Stream, Transport,
        transport::{StreamTransport, Tcp, TcpAcceptor},
    };

    /// TCP with a line to each client before its handler has it.
    struct Greeting;

    impl Transport for Greeting {
        type Listener = TcpAcceptor;
        type Request = Stream;

        fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<TcpAcceptor> {
            Tcp::from_listener(socket, options)
        }

        fn server_address(listener: &TcpAcceptor) -> io::Result<Address> {
            Tcp::server_address(listener)
        }

        fn get_request(listener: &TcpAcceptor) -> io::Result<Stream> {
            let stream = Tcp::get_request(listener)?;
            writeln!(&stream, "welcome")?;
            Ok(stream)
        }
    }

    impl StreamTransport for Greeting {}

    impl BindTo<Greeting> for &str {
        fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<TcpAcceptor>> {
            BindTo::<Tcp>::server_bind(self, options, beside)
        }
    }

    /// A new thread for each request, counted.
    #[derive(Default)]
    struct ThreadEach;

    static STARTED: AtomicUsize = AtomicUsize::new(0);

    impl Concurrency for ThreadEach {
        fn process_request<S: Service>(&self, accepted: Job<S>) {
            STARTED.fetch_add(1, SeqCst);
            thread::spawn(|| accepted.process());
        }
    }

    #[derive(Server)]
    #[server(crate = framework::server, transport = self::Greeting, concurrency = ThreadEach, handler = Echo)]
    struct Own;

    #[request_handler(crate = framework::server)]
    struct Echo {
        rfile: Reader,
        wfile: Writer,
    }

    impl RequestHandler for Echo {
        fn handle(&mut self) -> HandlerResult {
            while let Some(line) = self.rfile.next_line()? {
                writeln!(self.wfile, "{line}")?;
            }
            Ok(())
        }
    }

    #[test]
    fn a_transport_and_a_concurrency_of_the_users_own_are_used() {
        let server = Served::new(Own.bind("127.0.0.1:0").expect("a free port"));
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server.server_address())).collect();
        for client in &mut clients {
            assert_eq!(client.line(), "welcome");
            assert_eq!(client.ask("hello"), "hello");
        }
        assert_eq!(STARTED.load(SeqCst), 3);
    }
}
