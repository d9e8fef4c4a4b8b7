//! The least that a blocking server can do: no errors are handled, no line is looked for, nothing is counted, and nothing
//! is stopped but where stopping is measured. One thread where a request is all of a connection, or is a packet; a thread
//! for each connection that stays.

use std::{
    io::{self, PipeReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    process,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{BULK, Service};

pub fn serve(service: Service) -> io::Result<()> {
    if service == Service::Stopping {
        return until_stopped();
    }
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
                    super::be_slow_if_told(&buffer[..received]);
                }
                connection.write_all(&buffer[..received])?;
            }
        }
    }
}

/// How many connections are open.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    all_closed: Condvar,
}

impl Open {
    fn change(&self, by: isize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.wrapping_add_signed(by);
        if *count == 0 {
            self.all_closed.notify_one();
        }
    }

    fn wait(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.all_closed.wait_while(count, |count| *count > 0));
    }
}

/// The end of a pipe wakes all threads. Each one closes its connection; when all have, the server has stopped.
fn until_stopped() -> io::Result<()> {
    let (bell, ringer) = io::pipe()?;
    let bell = Arc::new(bell);
    let open = Arc::new(Open::default());
    let waiting = open.clone();
    super::when_told(move || {
        drop(ringer);
        waiting.wait();
        super::stopped();
        process::exit(0);
    });
    let listener = super::std_threads::listen()?;
    loop {
        let (connection, _) = listener.accept()?;
        open.change(1);
        let (bell, open) = (bell.clone(), open.clone());
        thread::spawn(move || {
            let _ = answer_until(connection, &bell);
            open.change(-1);
            // A thread that exits would be in the way of those that have not closed their connections.
            loop {
                thread::park();
            }
        });
    }
}

fn answer_until(mut connection: TcpStream, bell: &PipeReader) -> io::Result<()> {
    let mut buffer = [0; 2 * 1024];
    loop {
        let mut watched =
            [PollFd::new(connection.as_fd(), PollFlags::POLLIN), PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::NONE)?;
        if watched[1].any() == Some(true) {
            return Ok(());
        }
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            received => connection.write_all(&buffer[..received])?,
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
