//! A client of Redis, as small as this example needs it. Others take the crate `redis`.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a call is tried again while Redis cannot be reached, for example because it restarts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than Redis is asked to wait.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection, which is made again when it breaks. Threads take turns.
pub(crate) struct Redis {
    address: SocketAddr,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

#[derive(Debug)]
pub(crate) enum Reply {
    Nil,
    /// A number as well.
    Text(String),
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) fn into_text(self) -> String {
        if let Reply::Text(text) = self { text } else { String::new() }
    }

    pub(crate) fn into_array(self) -> Vec<Reply> {
        if let Reply::Array(replies) = self { replies } else { Vec::new() }
    }
}

impl Redis {
    pub(crate) fn new(address: SocketAddr) -> Redis {
        Redis { address, connection: Mutex::new(None) }
    }

    /// Calls a command, which may be carried out more than once: if the connection breaks, it is not known whether it was.
    pub(crate) fn call(&self, words: &[&str]) -> io::Result<Reply> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_call(words) {
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
                result => return result,
            }
        }
    }

    /// As [`call`](Self::call), at most once.
    pub(crate) fn try_call(&self, words: &[&str]) -> io::Result<Reply> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error it is not known what comes next: the connection is dropped.
        let mut redis = match connection.take() {
            Some(redis) => redis,
            None => self.connect()?,
        };
        let reply = exchange(&mut redis, words)?;
        *connection = Some(redis);
        Ok(reply)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let redis = TcpStream::connect_timeout(&self.address, READ_TIMEOUT)?;
        redis.set_nodelay(true)?;
        redis.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(BufReader::new(redis))
    }
}

fn exchange(redis: &mut BufReader<TcpStream>, words: &[&str]) -> io::Result<Reply> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    redis.get_mut().write_all(request.as_bytes())?;
    read(redis)
}

fn read(redis: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    redis.read_line(&mut line)?;
    let Some(line) = line.strip_suffix("\r\n") else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    match kind {
        "+" | ":" => Ok(Reply::Text(rest.to_owned())),
        "-" => Err(io::Error::other(format!("Redis: {rest}"))),
        "$" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nil) };
            let mut text = vec![0; length + "\r\n".len()];
            redis.read_exact(&mut text)?;
            text.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "*" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nil) };
            Ok(Reply::Array((0..length).map(|_| read(redis)).collect::<io::Result<_>>()?))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
