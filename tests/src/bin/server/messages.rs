//! One message handler with every transport and every concurrency: `messages CELL ADDRESS`, with a `CELL` like
//! `tcp_threading`.

use std::io::Write;

use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};

use crate::Ended;

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

            pub(super) fn serve(address: &str) -> Ended {
                let server = UpperServer.bind(address)?;
                println!("listening on {}", server.server_address());
                Ok(server.serve_forever()?)
            }
        })*

        pub(crate) fn serve(arguments: &[String]) -> Ended {
            let [cell, address] = arguments else { return Err("messages CELL ADDRESS".into()) };
            match cell.as_str() {
                $(stringify!($cell) => $cell::serve(address),)*
                cell => Err(format!("there is no cell {cell}").into()),
            }
        }
    };
}

cells! {
    tcp_sync: "tcp", "sync";
    tcp_threading: "tcp", "threading";
    tcp_pool: "tcp", "pool";
    tcp_forking: "tcp", "forking";
    tcp_event_loop: "tcp", "event_loop";
    udp_sync: "udp", "sync";
    udp_threading: "udp", "threading";
    udp_pool: "udp", "pool";
    udp_forking: "udp", "forking";
    udp_event_loop: "udp", "event_loop";
    unix_sync: "unix", "sync";
    unix_threading: "unix", "threading";
    unix_pool: "unix", "pool";
    unix_forking: "unix", "forking";
    unix_event_loop: "unix", "event_loop";
    unix_datagram_sync: "unix_datagram", "sync";
    unix_datagram_threading: "unix_datagram", "threading";
    unix_datagram_pool: "unix_datagram", "pool";
    unix_datagram_forking: "unix_datagram", "forking";
    unix_datagram_event_loop: "unix_datagram", "event_loop";
}
