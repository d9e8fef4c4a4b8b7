//! The classic without lines: Python's `BaseRequestHandler` with `self.request.recv(1024)`. The server answers whatever
//! has come, in upper case and at once: a client may send `abc` without a line end and wait for the answer.
//!
//! ```console
//! $ cargo run --example recv_upper
//! listening on 127.0.0.1:9999
//! Received from 127.0.0.1:51966:
//! abc
//! client 127.0.0.1:51966 has reset the connection
//! ```
//!
//! ```console
//! $ python3
//! >>> import socket, struct
//! >>> client = socket.create_connection(("127.0.0.1", 9999))
//! >>> client.sendall(b"abc")
//! >>> client.recv(1024)
//! b'ABC'
//! >>> client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
//! >>> client.close()
//! ```

use std::{
    env, fmt,
    io::{self, ErrorKind, Read, Write},
};

use sockserver::{Address, HandlerResult, RequestHandler, Server, Stream, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct RecvUpper {
    request: Stream,
    client_address: Address,
}

impl RequestHandler for RecvUpper {
    fn handle(&mut self) -> HandlerResult {
        match self.answer_all() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                say(format_args!("client {} has reset the connection", self.client_address));
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

impl RecvUpper {
    fn answer_all(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while let length @ 1.. = self.request.read(&mut buffer)? {
            let data = &mut buffer[..length];
            say(format_args!("Received from {}:\n{}", self.client_address, printable(data)));
            // All bytes but ASCII letters come back as they are.
            data.make_ascii_uppercase();
            self.request.write_all(data)?;
        }
        Ok(())
    }
}

/// The data as one line of text, without its line end. A client is not to steer the terminal.
fn printable(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    line.replace(char::is_control, "?")
}

/// Prints a line. `println!` would panic where the standard output is closed; this server goes on without it.
fn say(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{message}");
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = RecvUpperServer.bind(address)?;
    say(format_args!("listening on {}", server.server_address()));
    server.serve_forever()
}
