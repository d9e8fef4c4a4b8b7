//! Every transport × every concurrency that threads can test, by one word each; `forking.rs` has the others.

use std::io::Write;

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Service, Writer, request_handler};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    place::Place,
    served::Served,
};

/// One cell: the same handler, composed by the attribute alone.
macro_rules! cell {
    ($cell:ident: $transport:literal, $concurrency:literal, $client:ident) => {
        mod $cell {
            use super::*;

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

            pub(super) fn serve(place: &Place) -> Served {
                Served::new(UpperServer.bind(place.address()).expect("a free place"))
            }

            #[test]
            fn a_request_is_answered() {
                let place = Place::of($transport);
                let server = serve(&place);
                let mut client = $client::connect(server.server_address());
                assert_eq!(client.ask("hello"), "HELLO");
            }

            #[test]
            fn requests_of_one_client_are_answered_in_turn() {
                let place = Place::of($transport);
                let server = serve(&place);
                let mut client = $client::connect(server.server_address());
                for number in 0..50 {
                    assert_eq!(client.ask(&format!("request {number}")), format!("REQUEST {number}"));
                }
            }

            #[test]
            fn clients_are_served_one_after_the_other() {
                let place = Place::of($transport);
                let server = serve(&place);
                for number in 0..20 {
                    let mut client = $client::connect(server.server_address());
                    assert_eq!(client.ask(&format!("client {number}")), format!("CLIENT {number}"));
                }
            }

            #[test]
            fn a_hundred_clients_at_once_each_get_their_own_answer() {
                let place = Place::of($transport);
                let server = serve(&place);
                let mut clients: Vec<_> = (0..100).map(|_| $client::connect(server.server_address())).collect();
                for (number, client) in clients.iter_mut().enumerate() {
                    client.send(format!("client {number}\n"));
                    client.finish();
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    assert_eq!(client.line(), format!("CLIENT {number}"));
                }
                eventually("all requests have ended", || server.stats().finished == 100);
                assert_eq!(server.stats().accepted, 100);
            }

            #[test]
            fn the_counters_add_up_and_nothing_is_left_over_at_the_end() {
                let place = Place::of($transport);
                let server = serve(&place);
                let mut client = $client::connect(server.server_address());
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

cell!(tcp_sync: "tcp", "sync", Client);
cell!(tcp_threading: "tcp", "threading", Client);
cell!(tcp_pool: "tcp", "pool", Client);
cell!(udp_sync: "udp", "sync", DatagramClient);
cell!(udp_threading: "udp", "threading", DatagramClient);
cell!(udp_pool: "udp", "pool", DatagramClient);
cell!(unix_sync: "unix", "sync", Client);
cell!(unix_threading: "unix", "threading", Client);
cell!(unix_pool: "unix", "pool", Client);
cell!(stream_sync: "stream", "sync", Client);
cell!(stream_threading: "stream", "threading", Client);
cell!(stream_pool: "stream", "pool", Client);
cell!(unix_datagram_sync: "unix_datagram", "sync", DatagramClient);
cell!(unix_datagram_threading: "unix_datagram", "threading", DatagramClient);
cell!(unix_datagram_pool: "unix_datagram", "pool", DatagramClient);

#[test]
fn a_hundred_connections_are_served_while_all_are_open() {
    for (transport, serve) in [("tcp", tcp_threading::serve as fn(&Place) -> Served), ("unix", unix_threading::serve)] {
        let place = Place::of(transport);
        let server = serve(&place);
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
