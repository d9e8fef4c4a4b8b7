//! The example `tls` with every stream transport and every concurrency, each as a program: also those that fork.

use std::{fs, process::Command};

use sockserver_tests::{
    place::{Directory, Place},
    process::ServerProcess,
    tls::{TlsClient, client_of},
};

#[test]
fn one_word_moves_tls_to_another_transport_or_concurrency() {
    for transport in ["tcp", "unix"] {
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
