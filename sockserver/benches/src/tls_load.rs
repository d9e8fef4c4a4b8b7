//! The load of clients that speak TLS, from one thread.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Instant,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    load::{PATIENCE, Poll, connect_from, request, source, wait_for},
    measure::Meter,
    servers::{BULK, CERTIFICATE},
    workload::LINE,
};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client, and when it sent what it waits for the answer to.
struct Client {
    tls: Tls,
    sent: Instant,
    missing: usize,
}

/// Clients that each connect, shake hands in full, get one answer, and connect anew.
pub fn handshakes(server: SocketAddr, clients: usize, meter: &mut Meter<'_>) -> io::Result<()> {
    wait_for(server)?;
    let config = config()?;
    let mut connected = 0;
    let mut visit = || -> io::Result<Client> {
        connected += 1;
        let sent = Instant::now();
        let mut tls = session(connect_from(source(connected), server)?, &config)?;
        // It goes out as soon as the server has answered.
        tls.conn.writer().write_all(&request(1))?;
        tls.conn.write_tls(&mut tls.sock)?;
        tls.sock.set_nonblocking(true)?;
        Ok(Client { tls, sent, missing: LINE })
    };
    let mut all: Vec<Client> = (0..clients).map(|_| visit()).collect::<io::Result<_>>()?;
    let poll = Poll::new()?;
    for (number, client) in all.iter().enumerate() {
        poll.add(&client.tls.sock, number)?;
    }
    let mut buffer = [0; LINE];
    while meter.goes_on()? {
        poll.wait(|number| {
            let client = &mut all[number];
            client.missing -= read(&mut client.tls, &mut buffer[..client.missing])?;
            if client.missing == 0 {
                meter.answered(1, client.sent);
                *client = visit()?;
                poll.add(&client.tls.sock, number)?;
            }
            Ok(())
        })?;
    }
    all.iter().for_each(|client| meter.unanswered(client.sent));
    Ok(())
}

/// Connections that stay, with a line and its answer of [`BULK`] at a time.
pub fn bulk(server: SocketAddr, connections: usize, meter: &mut Meter<'_>) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut all = Vec::new();
    for (number, mut tls) in open(server, connections)?.into_iter().enumerate() {
        tls.write_all(&request(1))?;
        tls.sock.set_nonblocking(true)?;
        poll.add(&tls.sock, number)?;
        all.push(Client { tls, sent: Instant::now(), missing: BULK.len() });
    }
    let mut buffer = vec![0; BULK.len()];
    while meter.goes_on()? {
        poll.wait(|number| {
            let client = &mut all[number];
            // What has come is decrypted in pieces, and the kernel does not report it again.
            loop {
                let received = read(&mut client.tls, &mut buffer[..client.missing])?;
                client.missing -= received;
                if client.missing == 0 {
                    meter.answered(1, client.sent);
                    (client.sent, client.missing) = (Instant::now(), BULK.len());
                    client.tls.write_all(&request(1))?;
                }
                if received == 0 {
                    return Ok(());
                }
            }
        })?;
    }
    all.iter().for_each(|client| meter.unanswered(client.sent));
    Ok(())
}

/// Opens connections that have each had one answer.
pub fn idle(server: SocketAddr, connections: usize) -> io::Result<Vec<impl Sized>> {
    let mut all = open(server, connections)?;
    for tls in &mut all {
        tls.sock.set_read_timeout(Some(PATIENCE))?;
        tls.write_all(&request(1))?;
        tls.read_exact(&mut [0; LINE])?;
    }
    Ok(all)
}

fn open(server: SocketAddr, connections: usize) -> io::Result<Vec<Tls>> {
    let config = config()?;
    (0..connections).map(|_| session(TcpStream::connect(server)?, &config)).collect()
}

/// Zero: nothing has come.
fn read(tls: &mut Tls, buffer: &mut [u8]) -> io::Result<usize> {
    match tls.read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")),
        read => read,
    }
}

fn session(socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Tls> {
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}

fn config() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Each handshake is a full one.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
