//! The least that a blocking server can do: no errors are handled, no line is looked for, nothing is stopped or
//! counted. One thread where a request is all of a connection, or is a packet; a thread for each connection that stays.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
};

use super::{BULK, Service};

pub fn serve(service: Service) -> io::Result<()> {
    super::exit_when_told();
    if service == Service::Packets {
        return packets();
    }
    let listener = super::std_threads::listen()?;
    match service {
        Service::OneLine => one_by_one(&listener),
        _ => loop {
            let (connection, _) = listener.accept()?;
            thread::spawn(move || answer(connection, service));
        },
    }
}

fn one_by_one(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept()?;
        answer(connection, Service::OneLine)?;
    }
}

fn answer(mut connection: TcpStream, service: Service) -> io::Result<()> {
    let mut buffer = [0; 2 * 1024];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            _ if service == Service::Bulk => connection.write_all(&BULK)?,
            received => {
                if service == Service::Computing {
                    super::compute_if_told(&buffer[..received]);
                }
                connection.write_all(&buffer[..received])?;
            }
        }
    }
}

fn packets() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    super::announce(socket.local_addr()?.port());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (received, client) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..received], client)?;
    }
}
