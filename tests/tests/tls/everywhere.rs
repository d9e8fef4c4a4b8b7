//! TLS with every stream transport and every concurrency: the example `tls` as a program, also where it forks, and connections
//! that were accepted elsewhere.

use std::{fs, net::TcpListener, os::unix::net::UnixStream, process::Command, thread};

use sockserver::{Concurrency, Server, Stage, transport::AnyStream};
use sockserver_tests::{
    client::Client,
    in_each_concurrency,
    place::{Directory, Place},
    process::ServerProcess,
    script::Script,
    served::Watchdog,
    tls::{Authority, TlsClient, client_of},
};

#[test]
fn one_word_moves_tls_to_another_transport_or_concurrency() {
    for transport in ["tcp", "unix", "stream"] {
        for concurrency in ["sync", "threading", "pool", "forking"] {
            let cell = format!("tls {transport} {concurrency}");
            let directory = Directory::new();
            let mut tls = Command::new(env!("CARGO_BIN_EXE_examples_everywhere"));
            tls.env("CELL", &cell).env("TMPDIR", directory.path());
            let server = ServerProcess::start(tls, Place::of(transport));
            let certificate = fs::read_to_string(server.line_after("the certificate is in ")).expect("a file");
            for _ in 0..2 {
                let mut client = TlsClient::connect(server.address(), &client_of(&certificate));
                assert_eq!(client.ask("hello"), "HELLO", "{cell}");
                assert!(client.ask("tls").starts_with("TLSv1.3"), "{cell}");
                client.finish();
                assert_eq!(client.rest(), "", "{cell}");
            }
        }
    }
}

fn a_connection_that_was_accepted_elsewhere_is_encrypted<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let authority = Authority::new();
    let serve = |client: Client, request: socket2::Socket| {
        thread::scope(|scope| {
            let (server, _reports) = Script::<AnyStream, C>::upper();
            let served = scope.spawn(|| server.serve_connection_with(request, authority.options()));
            let mut client = TlsClient::begin(client.into_socket(), "localhost", &authority.client());
            assert_eq!(client.ask("hello"), "HELLO");
            client.finish();
            assert_eq!(client.rest(), "");
            served.join().expect("it does not panic").expect("the client has ended in order");
        });
    };
    let (client, request) = UnixStream::pair().expect("a socket pair");
    serve(Client::new(client), request.into());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = Client::connect(&listener.local_addr().expect("an address").into());
    serve(client, listener.accept().expect("the client").0.into());
}

fn a_connection_that_was_accepted_elsewhere_and_speaks_no_tls_is_an_error<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let authority = Authority::new();
    let (client, request) = UnixStream::pair().expect("a socket pair");
    let mut client = Client::new(client);
    client.send("hello\n");
    let (server, _reports) = Script::<AnyStream, C>::upper();
    let error = server.serve_connection_with(request, authority.options()).expect_err("that is no handshake");
    assert_eq!(error.stage(), Stage::Handshake);
    client.wait_for_end();
}

in_each_concurrency! {
    [sync threading pool forking event_loop]:
    a_connection_that_was_accepted_elsewhere_is_encrypted
    a_connection_that_was_accepted_elsewhere_and_speaks_no_tls_is_an_error
}
