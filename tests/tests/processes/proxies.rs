//! Servers behind HAProxy and behind nginx's stream module.

use sockserver::concurrency::Threading;
use sockserver_tests::{
    behind::Behind,
    client::eventually,
    concurrencies::Word,
    in_each_concurrency,
    process::{Process, installed},
    proxies::{Proxy, make_certificate},
};

fn start<C: Word>(settings: &[&str]) -> Behind {
    Behind::start::<C>(env!("CARGO_BIN_EXE_behind"), settings)
}

fn haproxy_names_the_client<C: Word>() {
    for directive in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let server = start::<C>(&[]);
        let Some(proxy) = Proxy::haproxy("", &format!("{} {directive}", server.address()), "", |_| ()) else { return };
        let mut client = proxy.connect();
        let who = client.ask("who");
        let (seen, by) = who.split_once(" by ").expect("two addresses");
        assert_eq!(seen, client.address().to_string(), "{directive}");
        let (by, at) = by.split_once(" at ").expect("two addresses");
        assert!(by.starts_with("127.0.0.1:") && by != seen, "{who}");
        assert_eq!(at, proxy.address().to_string());
    }
}

fn nginx_names_the_client<C: Word>() {
    let server = start::<C>(&[]);
    let Some(proxy) = Proxy::nginx(server.address()) else { return };
    let mut client = proxy.connect();
    let who = client.ask("who");
    assert!(who.starts_with(&format!("{} by 127.0.0.1:", client.address())), "{who}");
    assert!(who.ends_with(&format!(" at {}", proxy.address())), "{who}");
}

fn haproxy_finds_the_server_well<C: Word>() {
    let talk = "option tcp-check\ntcp-check send hello\\n\ntcp-check expect string HELLO";
    for (directive, options, status) in [
        ("send-proxy", "", "L4OK"),
        ("send-proxy-v2", "", "L4OK"),
        ("send-proxy-v2-ssl-cn proxy-v2-options ssl,unique-id,authority,crc32c", "", "L4OK"),
        // A server that answers a connection of the proxy's own: LOCAL, or its own addresses.
        ("send-proxy", talk, "L7OK"),
        ("send-proxy-v2", talk, "L7OK"),
        ("send-proxy-v2-ssl-cn proxy-v2-options ssl,unique-id,authority,crc32c", talk, "L7OK"),
        // Checks without a header.
        ("send-proxy-v2 port PORT no-check-send-proxy", "", "L4OK"),
    ] {
        let server = start::<C>(&[]);
        let address = server.address().to_string();
        let port = address.rsplit(':').next().expect("a port");
        let line = format!("{address} {} check inter 50ms", directive.replace("PORT", port));
        let Some(proxy) = Proxy::haproxy("", &line, options, |_| ()) else { return };
        // A star is before the state of a check that is under way.
        eventually(&format!("{directive} {options}: {status}"), || {
            proxy.stat("check_status").trim_start_matches("* ") == status
        });
        // A check without a header ends before the server can accept it.
        let mut looks = 0;
        eventually("it is checked some times", || {
            looks += 1;
            directive.contains("no-check-send-proxy") || server.stat("accepted") >= 10 + looks
        });
        assert_eq!(proxy.stat("chkfail"), "0", "{directive}");
        proxy.stop();
        server.connect_for("198.51.100.1:1").send("stop\n");
        let output = server.output();
        assert!(!output.contains("Preamble"), "{directive}: {output}");
    }
}

#[test]
fn haproxy_tells_of_the_clients_tls() {
    let server = start::<Threading>(&[]);
    if installed("openssl").is_none() {
        return;
    }
    let line = format!(
        "{} send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,unique-id,authority,crc32c",
        server.address()
    );
    let bind = "ssl crt DIR/server.pem ca-file DIR/client.crt verify optional alpn h2";
    let Some(proxy) = Proxy::haproxy(bind, &line, "", |directory| {
        ["server", "client"].iter().for_each(|name| make_certificate(directory, name));
    }) else {
        return;
    };
    for has_certificate in [true, false] {
        let mut command = installed("openssl").expect("it was there");
        command.args(["s_client", "-quiet", "-connect", &proxy.address().to_string(), "-servername", "example.net"]);
        command.args(["-alpn", "h2"]);
        if has_certificate {
            command.arg("-cert").arg(proxy.path("client.crt")).arg("-key").arg(proxy.path("client.key"));
        }
        let mut client = Process::start(&mut command);
        client.enter("header");
        let header = client.line();
        for part in [
            "authority: Some(\"example.net\")",
            "alpn: Some([104, 50])",
            "is_encrypted: true",
            "version: Some(\"TLSv1.3\")",
            "cipher: Some(\"TLS_AES_256_GCM_SHA384\")",
            &format!("has_certificate: {has_certificate}, is_verified: {has_certificate}"),
            if has_certificate { "common_name: Some(\"client\")" } else { "common_name: None" },
        ] {
            assert!(header.contains(part), "{part} in {header}");
        }
    }
}

#[test]
fn haproxy_reaches_a_unix_socket() {
    let server = Behind::start_on::<Threading>(env!("CARGO_BIN_EXE_behind"), "unix", &["per_client=1"]);
    let line = format!("unix@{} send-proxy-v2", server.address());
    let Some(proxy) = Proxy::haproxy("", &line, "", |_| ()) else { return };
    // What has waited for HAProxy to listen was a client as well, until the server has seen its end.
    let mut connected = None;
    eventually("one is served", || {
        let mut client = proxy.connect();
        let who = format!("{} by (unnamed) at {}", client.address(), proxy.address());
        let is_served = client.ask("who") == who;
        connected = Some(client);
        is_served
    });
    // Both have the same address.
    proxy.connect().wait_for_end();
}

#[test]
fn a_proxy_that_was_told_to_send_nothing_is_reported() {
    let server = start::<Threading>(&[]);
    let Some(proxy) = Proxy::haproxy("", &server.address().to_string(), "", |_| ()) else { return };
    let mut client = proxy.connect();
    client.send("hello\n");
    client.wait_for_end();
    let report = server.line_after("Preamble of 127.0.0.1:");
    assert!(report.contains("have the proxy send one (`send-proxy-v2` in HAProxy"), "{report}");
}

in_each_concurrency! { [sync threading pool forking]:
    haproxy_names_the_client
    nginx_names_the_client
    haproxy_finds_the_server_well
}
