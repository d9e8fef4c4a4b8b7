use sockserver::{BoxError, Frames, HandlerResult, MessageHandler, Reader, Server, Writer, framing, message_handler};

#[message_handler]
struct Unframed;

impl MessageHandler for Unframed {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "lines", max_line = "1KiB")]
struct Misspelt;

impl MessageHandler for Misspelt {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Reads {
    rfile: Reader,
    frames: Frames<framing::Line, str>,
    wfile: Writer,
}

impl MessageHandler for Reads {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line", max_frame = 0)]
#[server(transport = "udp", concurrency = "threading", timeouts(message = "1s"))]
struct Packets;

impl MessageHandler for Packets {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = "line")]
enum NoStruct {}

impl MessageHandler for NoStruct {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = Frame::new())]
struct Called;

impl MessageHandler for Called {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[message_handler(framing = Frame)]
#[server(transport = "tcp", concurrency = "threading")]
struct WithoutDefault;

impl MessageHandler for WithoutDefault {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

struct Frame;

impl framing::Framing for Frame {
    fn scan(&mut self, _: &[u8]) -> Result<framing::Scan, BoxError> {
        unreachable!()
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), BoxError> {
        unreachable!()
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Counts)]
struct Counter;

#[message_handler(framing = "line")]
struct Counts {
    count: u64,
}

impl MessageHandler for Counts {
    type Message = String;

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Generic<u8>)]
struct OfGeneric;

#[message_handler(framing = "line")]
struct Generic<T: Send + 'static> {
    #[default]
    value: Option<T>,
}

fn main() {}
