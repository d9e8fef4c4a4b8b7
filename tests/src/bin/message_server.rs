//! One message handler with the transport and the concurrency that the variable `CELL` names, like `tcp_threading`.

use std::{env, io, io::Write};

use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};

macro_rules! cells {
    ($($cell:ident: $transport:literal, $concurrency:literal;)*) => {
        $(mod $cell {
            use super::*;

            #[message_handler(framing = "line")]
            #[server(transport = $transport, concurrency = $concurrency)]
            struct Upper {
                wfile: Writer,
            }

            impl MessageHandler for Upper {
                type Message = str;

                fn message(&mut self, line: &str) -> HandlerResult {
                    Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
                }
            }

            pub(crate) fn serve(address: String) -> io::Result<()> {
                let server = UpperServer.bind(address)?;
                println!("listening on {}", server.server_address());
                server.serve_forever()
            }
        })*

        fn main() -> io::Result<()> {
            let address = env::args().nth(1).expect("an address");
            match &*env::var("CELL").expect("CELL names a cell") {
                $(stringify!($cell) => $cell::serve(address),)*
                cell => panic!("there is no cell {cell}"),
            }
        }
    };
}

cells! {
    tcp_sync: "tcp", "sync";
    tcp_threading: "tcp", "threading";
    tcp_pool: "tcp", "pool";
    tcp_forking: "tcp", "forking";
    udp_sync: "udp", "sync";
    udp_threading: "udp", "threading";
    udp_pool: "udp", "pool";
    udp_forking: "udp", "forking";
    unix_sync: "unix", "sync";
    unix_threading: "unix", "threading";
    unix_pool: "unix", "pool";
    unix_forking: "unix", "forking";
    unix_datagram_sync: "unix_datagram", "sync";
    unix_datagram_threading: "unix_datagram", "threading";
    unix_datagram_pool: "unix_datagram", "pool";
    unix_datagram_forking: "unix_datagram", "forking";
}
