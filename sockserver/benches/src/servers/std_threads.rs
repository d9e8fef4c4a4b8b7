//! A thread for each connection, written by hand on `std`: buffered reading, every answer written at once.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use socket2::{Domain, Socket, Type};

use super::{BULK, Service};

pub fn serve(service: Service) -> io::Result<()> {
    super::exit_when_told();
    let listener = listen()?;
    loop {
        let (connection, _) = listener.accept()?;
        thread::spawn(move || answer(&connection, service));
    }
}

fn answer(mut connection: &TcpStream, service: Service) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        match service {
            Service::Bulk => connection.write_all(&BULK)?,
            Service::Computing => {
                super::be_slow_if_told(&line);
                connection.write_all(&line)?;
            }
            _ => connection.write_all(&line)?,
        }
        line.clear();
    }
    Ok(())
}

/// With a queue as long as the other servers', and their `TCP_NODELAY`.
pub fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(1024)?;
    let listener = TcpListener::from(socket);
    super::announce(listener.local_addr()?.port());
    Ok(listener)
}
