//! The operator of the server answers each message of its clients, on the terminal that the server runs in.
//!
//! A message is whatever has come, as with Python's `self.request.recv(1024)`: it needs no line end.
//!
//! A handler may wait as long as it likes for anything: here it waits for a human being. When several clients have sent
//! something, the operator sees one message after the other. Ctrl-D ends the server, by the handle that a handler takes
//! like everything else.
//!
//! ```console
//! $ cargo run --example talk
//! listening on 127.0.0.1:9999
//! 127.0.0.1:51966: are you there?
//! yes, what is it?
//! ```
//!
//! ```console
//! $ nc 127.0.0.1 9999
//! are you there?
//! yes, what is it?
//! ```

use std::{
    env,
    io::{self, BufRead, Read, Write},
};

use sockserver::{Address, HandlerResult, Reader, RequestHandler, Server, ServerHandle, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", limits(connections = 20))]
struct Talk {
    rfile: Reader,
    wfile: Writer,
    client_address: Address,
    server: ServerHandle,
}

impl RequestHandler for Talk {
    fn handle(&mut self) -> HandlerResult {
        let mut buffer = [0; 1024];
        while let length @ 1.. = self.rfile.read(&mut buffer)? {
            let message = String::from_utf8_lossy(&buffer[..length]);
            let Some(answer) = ask_operator(&self.client_address, &message)? else {
                self.server.shutdown();
                break;
            };
            writeln!(self.wfile, "{answer}")?;
        }
        Ok(())
    }
}

/// What the operator says to the message; `None` at the end of the input.
fn ask_operator(client: &Address, message: &str) -> io::Result<Option<String>> {
    // Whoever has locked it has the operator's attention.
    let keyboard = io::stdin().lock();
    let message = message.strip_suffix('\n').map_or(message, |line| line.strip_suffix('\r').unwrap_or(line));
    // A client is not to steer the operator's terminal.
    writeln!(io::stdout(), "{client}: {}", message.replace(char::is_control, "?"))?;
    keyboard.lines().next().transpose()
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9999".into());
    let server = TalkServer.bind(address)?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
