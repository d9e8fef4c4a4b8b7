use sockserver::{Frames, HandlerResult, MessageHandler, Reader, Writer, framing, message_handler};

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

fn main() {}
