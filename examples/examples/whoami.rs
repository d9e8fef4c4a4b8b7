//! Tells each client of a Unix socket who it is: its user, group and process, as the kernel knows them.
//!
//! ```console
//! $ cargo run --example whoami
//! listening on /tmp/whoami.sock
//! ```
//!
//! ```console
//! $ nc -U /tmp/whoami.sock
//! uid=1000 gid=1000 pid=4711
//! ```
//!
//! Ctrl-C ends it in good order: the socket file is gone afterwards. One that was left behind by a crash is replaced at
//! the next start.

use std::{env, io, io::Write};

use sockserver::{HandlerResult, PeerCred, RequestHandler, Server, Writer, request_handler};

// By its mode, the socket is for all users.
#[request_handler]
#[server(transport = "unix", concurrency = "threading", socket(mode = 0o666))]
struct Whoami {
    wfile: Writer,
    client: PeerCred,
}

impl RequestHandler for Whoami {
    fn handle(&mut self) -> HandlerResult {
        let PeerCred { uid, gid, pid, .. } = self.client;
        write!(self.wfile, "uid={uid} gid={gid}")?;
        if let Some(pid) = pid {
            write!(self.wfile, " pid={pid}")?;
        }
        writeln!(self.wfile)?;
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let path = env::args().nth(1).unwrap_or_else(|| "/tmp/whoami.sock".into());
    let server = WhoamiServer.bind(path)?;
    server.shutdown_on_signals()?;
    println!("listening on {}", server.server_address());
    server.serve_forever()
}
