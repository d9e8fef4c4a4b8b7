//! The client that a server must serve, whatever the others do.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// What an honest client says, and how the answer begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    pub(super) request: Vec<u8>,
    pub(super) answer: Vec<u8>,
}

/// How the honest clients were served beside one attack.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    pub(super) served: usize,
    pub(super) slowest: Duration,
    /// Why those were not who were not served in time.
    pub(super) failures: Vec<String>,
}

impl Exchange {
    pub(super) fn ask(&self, server: SocketAddr, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let mut client = TcpStream::connect_timeout(&server, patience)?;
        client.set_write_timeout(Some(patience))?;
        client.write_all(&self.request)?;
        let mut answer = vec![0; self.answer.len()];
        let mut received = 0;
        while received < answer.len() {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            client.set_read_timeout(Some(left))?;
            match client.read(&mut answer[received..]) {
                Ok(0) => return Err(io::Error::other("the connection was ended without an answer")),
                Ok(length) => received += length,
                // By a signal, in a program that handles some.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}")));
                }
                Err(error) => return Err(error),
            }
        }
        match answer == self.answer {
            true => Ok(()),
            false => Err(io::Error::other(format!("the answer began with \"{}\"", answer.escape_ascii()))),
        }
    }
}

impl Service {
    pub(super) fn ask(&mut self, exchange: &Exchange, server: SocketAddr, patience: Duration) {
        let began = Instant::now();
        match exchange.ask(server, patience) {
            Ok(()) => {
                self.served += 1;
                self.slowest = self.slowest.max(began.elapsed());
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}
