use std::io::Write;

use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Upper {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            writeln!(self.wfile, "{}", line.to_uppercase())?;
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    UpperServer.bind("127.0.0.1:9999")?.serve_forever()
}
