//! sockserver.

use std::io::{self, BufRead, Write};

use sockserver::{BindTo, Datagram, HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

use super::{BULK, Service};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", limits(connections = 10_000))]
struct Lines {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            self.wfile.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Computing {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Computing {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            super::compute_if_told(&self.line);
            self.wfile.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Bulk {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: Vec<u8>,
}

impl RequestHandler for Bulk {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_until(b'\n', &mut self.line)? > 0 {
            self.wfile.write_all(&BULK)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Packets {
    request: Datagram,
}

impl RequestHandler for Packets {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.request.reply(self.request.payload())?)
    }
}

pub fn serve(service: Service, on_signals: bool) -> io::Result<()> {
    match service {
        Service::OneLine | Service::Lines => run(LinesServer, on_signals),
        Service::Computing => run(ComputingServer, on_signals),
        Service::Bulk => run(BulkServer, on_signals),
        Service::Packets => run(PacketsServer, on_signals),
    }
}

fn run<S: Server>(server: S, on_signals: bool) -> io::Result<()>
where
    &'static str: BindTo<S::Transport>,
{
    let server = server.bind("127.0.0.1:0")?;
    if on_signals {
        server.shutdown_on_signals()?;
    }
    super::announce(server.server_address().port().unwrap_or_default());
    let handle = server.handle();
    super::when_told(move || handle.shutdown());
    server.serve_forever()?;
    super::stopped();
    Ok(())
}
