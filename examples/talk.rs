//! The operator of the server answers each message of its clients, on the terminal that the server runs in.
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
    io::{self, BufRead, Write},
};

use sockserver::{Address, HandlerResult, Reader, RequestHandler, Server, ServerHandle, Writer, request_handler};

#[request_handler(max_line = "1KiB")]
#[server(transport = "tcp", concurrency = "threading", limits(connections = 20))]
struct Talk {
    rfile: Reader,
    wfile: Writer,
    client_address: Address,
    server: ServerHandle,
}

impl RequestHandler for Talk {
    fn handle(&mut self) -> HandlerResult {
        while let Some(message) = self.rfile.next_line()? {
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
