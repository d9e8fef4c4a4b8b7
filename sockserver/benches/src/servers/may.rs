//! may: a coroutine for each connection.

use std::{
    io::{self, BufRead, BufReader, Write},
    thread,
};

use may::net::{TcpListener, TcpStream};

use super::{BULK, Service};

pub fn serve(service: Service) -> io::Result<()> {
    super::exit_when_told();
    may::config().set_workers(thread::available_parallelism().map_or(1, usize::from));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    super::announce(listener.local_addr()?.port());
    loop {
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        may::go!(move || answer(connection, service));
    }
}

fn answer(connection: TcpStream, service: Service) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        match service {
            Service::Bulk => reader.get_mut().write_all(&BULK)?,
            Service::Computing => {
                super::be_slow_if_told(&line);
                reader.get_mut().write_all(&line)?;
            }
            _ => reader.get_mut().write_all(&line)?,
        }
        line.clear();
    }
    Ok(())
}
