use sockserver::{Datagram, Frames, HandlerResult, PeerCred, Reader, RequestHandler, Server, Writer, framing, request_handler};
use std::sync::Arc;

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Mixed {
    rfile: Reader,
    datagram: Datagram,
    peer: PeerCred,
    count: u32,
    #[default]
    wfile: Writer,
}

impl RequestHandler for Mixed {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct DoesNotHandle {
    rfile: Reader,
}

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session)]
struct Chat;

#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Session)]
struct Other;

#[request_handler]
struct Session {
    server: Arc<Chat>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Unmarked)]
struct Plain;

struct Unmarked;

impl RequestHandler for Unmarked {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct TwoReaders {
    rfile: Reader,
    frames: Frames<framing::Line, str>,
}

impl RequestHandler for TwoReaders {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct NoMessage {
    frames: Frames<framing::Line, u64>,
}

impl RequestHandler for NoMessage {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

fn main() {}
