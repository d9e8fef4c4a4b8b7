//! The example `tcp_proxy`, between real clients and real servers.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use sockserver::Address;
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    place::{Directory, Place},
    process::{Process, ServerProcess, example, installed},
    proxies::Proxy,
};

fn proxy(behind: impl ToString, options: &[&str]) -> ServerProcess {
    let mut command = example("tcp_proxy");
    command.args(["--to", &behind.to_string()]).args(options);
    ServerProcess::start(command, Place::of("tcp"))
}

/// A listener that plays the server behind the proxy.
fn behind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("it is bound").to_string()
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (server, _) = listener.accept().expect("the proxy connects");
    server.set_read_timeout(Some(PATIENCE)).expect("a socket");
    server
}

fn read(server: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    server.read_exact(&mut bytes).expect("the proxy sends it");
    bytes
}

#[test]
fn each_half_ends_for_itself() {
    let listener = behind();
    let proxy = proxy(address(&listener), &[]);
    let mut client = Client::connect(proxy.address());
    let mut server = accept(&listener);
    client.send("question");
    client.finish();
    assert_eq!(std::io::read_to_string(&mut server).expect("text"), "question");
    server.write_all(b"answer\n").expect("the proxy takes it");
    assert_eq!(client.line(), "answer");
    server.write_all(b"more\n").expect("the proxy takes it");
    assert_eq!(client.line(), "more");
    drop(server);
    assert_eq!(client.rest(), "");

    // The other way round.
    let mut client = Client::connect(proxy.address());
    let mut server = accept(&listener);
    server.write_all(b"hello\n").expect("the proxy takes it");
    server.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(client.rest(), "hello\n");
    client.send("bye");
    client.finish();
    assert_eq!(std::io::read_to_string(&mut server).expect("text"), "bye");
}

#[test]
fn an_end_that_is_a_reset_ends_both() {
    let listener = behind();
    let proxy = proxy(address(&listener), &[]);
    let mut client = Client::connect(proxy.address());
    let mut server = accept(&listener);
    client.send("x");
    assert_eq!(read(&mut server, 1), b"x");
    client.reset();
    assert_eq!(server.read(&mut [0; 8]).unwrap_or(0), 0);

    let mut client = Client::connect(proxy.address());
    let mut server = accept(&listener);
    client.send("x");
    assert_eq!(read(&mut server, 1), b"x");
    socket2::SockRef::from(&server).set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket");
    drop(server);
    client.wait_for_end();
}

#[test]
fn a_server_that_is_not_there_is_reported_and_ends_the_connection() {
    let nobody = address(&behind());
    let proxy = proxy(&nobody, &[]);
    let mut client = Client::connect(proxy.address());
    client.wait_for_end();
    proxy.reports(&format!("cannot connect to {nobody}: Connection refused"));
}

#[test]
fn what_is_silent_either_way_is_idle_and_what_flows_one_way_is_not() {
    let listener = behind();
    let proxy = proxy(address(&listener), &["--idle", "2"]);
    let mut download = Client::connect(proxy.address());
    let mut sender = accept(&listener);
    let mut silent = Client::connect(proxy.address());
    let mut server = accept(&listener);
    let has_ended = thread::spawn(move || {
        silent.wait_for_end();
        assert_eq!(server.read(&mut [0; 8]).unwrap_or(0), 0);
    });
    // The client of this one says nothing for as long.
    while !has_ended.is_finished() {
        sender.write_all(b".").expect("the proxy takes it");
        assert_eq!(download.bytes(1), b".");
        thread::sleep(std::time::Duration::from_millis(50));
    }
    has_ended.join().expect("the silent connection has ended");
    sender.write_all(b"still there\n").expect("the proxy takes it");
    assert_eq!(download.line(), "still there");
}

#[test]
fn a_proxy_that_stops_waits_for_what_is_under_way() {
    let listener = behind();
    let mut proxy = proxy(address(&listener), &[]);
    let mut client = Client::connect(proxy.address());
    let mut server = accept(&listener);
    client.send("question\n");
    assert_eq!(read(&mut server, 9), b"question\n");
    server.write_all(b"half an ").expect("the proxy takes it");
    assert_eq!(client.bytes(8), b"half an ");
    proxy.signal("TERM");
    eventually("nobody else is accepted", || Client::try_connect(proxy.address()).is_err());
    server.write_all(b"answer\n").expect("the proxy takes it");
    assert_eq!(client.line(), "answer");
    client.send("thanks\n");
    assert_eq!(read(&mut server, 7), b"thanks\n");
    drop(server);
    assert_eq!(client.rest(), "");
    client.finish();
    // Those who tried whether anybody is accepted may have been, before the proxy had the signal.
    listener.set_nonblocking(true).expect("a socket");
    eventually("the proxy ends", || {
        while listener.accept().is_ok() {}
        proxy.has_ended()
    });
    assert!(proxy.ended().success());
}

/// Downloads a large file by curl, and compares it.
fn download(url: &str, directory: &Directory) -> Option<()> {
    let got = directory.path().join("got");
    let mut curl = installed("curl")?;
    Process::start(curl.args(["--silent", "--show-error", "--fail", "--max-time", "20", "-o"]).arg(&got).arg(url))
        .output();
    let [got, sent] = [got, directory.path().join("sent")].map(|file| fs::read(file).expect("it is there"));
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    Some(())
}

fn directory() -> (Directory, String) {
    let directory = Directory::new();
    let bytes: Vec<u8> = (0..20_000_000).map(|byte| (byte % 251) as u8).collect();
    fs::write(directory.path().join("sent"), bytes).expect("a file");
    let root = directory.path().display().to_string();
    (directory, root)
}

#[test]
fn nginx_behind_is_told_who_the_client_is() {
    let (directory, root) = directory();
    for version in ["v1", "v2"] {
        let block =
            format!("root {root}; location = /who {{ return 200 '$proxy_protocol_addr:$proxy_protocol_port\\n'; }}");
        let Some(nginx) = Proxy::nginx_http("proxy_protocol", &block) else { return };
        let proxy = proxy(nginx.address(), &["--send-proxy", version]);
        let mut client = Client::connect(proxy.address());
        client.send("GET /who HTTP/1.0\r\n\r\n");
        let answer = client.rest();
        assert!(answer.ends_with(&format!("\r\n\r\n{}\n", client.address())), "{version}: {answer}");
        let Some(()) = download(&format!("http://{}/sent", proxy.address()), &directory) else { return };
    }
}

#[test]
fn haproxy_can_be_in_front_and_behind() {
    let (directory, root) = directory();
    let Some(nginx) = Proxy::nginx_http("", &format!("root {root};")) else { return };
    let server = nginx.address().to_string();
    let Some(behind) = Proxy::haproxy("accept-proxy", &server, "", |_| ()) else { return };
    let inner = proxy(behind.address(), &["--send-proxy", "v2"]);
    let Some(front) = Proxy::haproxy("", &inner.address().to_string(), "", |_| ()) else { return };
    let Some(()) = download(&format!("http://{}/sent", front.address()), &directory) else { return };
    let Address::Inet(_) = inner.address() else { panic!("no port") };
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let listener = behind();
    let taken = address(&listener);
    for (words, said) in [
        (&["--loud"][..], "tcp_proxy: --loud is not understood"),
        (&["--to"], "tcp_proxy: --to takes a value"),
        (&["--to", "127.0.0.1"], "tcp_proxy: --to 127.0.0.1: "),
        (&["--idle", "-1"], "tcp_proxy: --idle is a number of seconds, not -1"),
        (&["--send-proxy", "v3"], "tcp_proxy: --send-proxy is v1 or v2, not v3"),
        (&[], "tcp_proxy: say which server is behind: --to HOST:PORT"),
        (&[&taken, "--to", &taken], "Address already in use"),
    ] {
        let mut process = Process::start(example("tcp_proxy").args(words));
        process.reports(said);
        assert!(!process.ended().success());
    }
}
