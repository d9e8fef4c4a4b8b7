//! tokio: a task for each connection, buffered both ways, flushed when no further request has been received.

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring::{self, Ticketer},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufStream, BufWriter},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Runtime,
    sync::{broadcast, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{BLOCK, BULK, CERTIFICATE, GREETING, KEY, Service};

pub fn serve(service: Service) -> io::Result<()> {
    let runtime = Runtime::new()?;
    match service {
        Service::Packets => runtime.block_on(packets()),
        Service::Broadcast => runtime.block_on(members()),
        Service::TlsLines | Service::TlsBulk => runtime.block_on(encrypted(service)),
        _ => runtime.block_on(connections(service)),
    }
}

/// Over TLS, with tokio-rustls and the settings of sockserver.
async fn encrypted(service: Service) -> io::Result<()> {
    super::exit_when_told();
    let listener = std_listener()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls_config().map_err(io::Error::other)?));
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(answer_encrypted(acceptor.clone(), connection, service));
    }
}

async fn answer_encrypted(acceptor: TlsAcceptor, connection: TcpStream, service: Service) -> io::Result<()> {
    let mut connection = BufStream::new(acceptor.accept(connection).await?);
    let mut line = Vec::new();
    while connection.read_until(b'\n', &mut line).await? > 0 {
        connection.write_all(if service == Service::TlsBulk { &BULK } else { &line }).await?;
        connection.flush().await?;
        line.clear();
    }
    connection.shutdown().await
}

fn tls_config() -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(CERTIFICATE)?.collect::<Result<_, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(KEY)?)?;
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

async fn connections(service: Service) -> io::Result<()> {
    let listener = std_listener()?;
    let (stop, mut stopping) = watch::channel(());
    super::when_told(move || drop(stop));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                tasks.spawn(connection(accepted?.0, service, stopping.clone()));
            }
            Some(_) = tasks.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
    super::stopped();
    Ok(())
}

async fn connection(connection: TcpStream, service: Service, mut stopping: watch::Receiver<()>) {
    tokio::select! {
        _ = answer(connection, service) => {}
        _ = stopping.changed() => {}
    }
}

async fn answer(mut connection: TcpStream, service: Service) -> io::Result<()> {
    let (reader, writer) = connection.split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        match service {
            Service::Bulk => writer.write_all(&BULK).await?,
            Service::Computing if line.first() == Some(&BLOCK) => {
                tokio::task::spawn_blocking(|| super::be_slow_if_told(&[BLOCK])).await?;
                writer.write_all(&line).await?;
            }
            Service::Computing => {
                super::be_slow_if_told(&line);
                writer.write_all(&line).await?;
            }
            _ => writer.write_all(&line).await?,
        }
        if reader.buffer().is_empty() {
            writer.flush().await?;
        }
        line.clear();
    }
    Ok(())
}

/// As much as a mailbox of sockserver holds.
const CAPACITY: usize = 128;

async fn members() -> io::Result<()> {
    super::exit_when_told();
    let listener = std_listener()?;
    let (lines, _) = broadcast::channel(CAPACITY);
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(member(connection, lines.clone()));
    }
}

async fn member(mut connection: TcpStream, lines: broadcast::Sender<Arc<[u8]>>) -> io::Result<()> {
    let mut mailbox = lines.subscribe();
    let (reader, writer) = connection.split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    writer.write_all(&GREETING).await?;
    let mut line = Vec::new();
    loop {
        if mailbox.is_empty() {
            writer.flush().await?;
        }
        tokio::select! {
            received = reader.read_until(b'\n', &mut line) => {
                if received? == 0 {
                    return Ok(());
                }
                // It fails where there is no member, and this is one.
                let _ = lines.send(line[..].into());
                line.clear();
            }
            mail = mailbox.recv() => match mail {
                Ok(line) => writer.write_all(&line).await?,
                // A member that does not read loses what the channel cannot hold.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
        }
    }
}

async fn packets() -> io::Result<()> {
    super::exit_when_told();
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    super::announce(socket.local_addr()?.port());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (received, client) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..received], client).await?;
    }
}

fn std_listener() -> io::Result<TcpListener> {
    let listener = super::std_threads::listen()?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
