use sockserver::*;

#[message_handler(framing = "line", max_frame = "1KiB")]
#[server(transport = "tcp", concurrency = "threading")]
pub struct Upper {
    wfile: Writer,
}

impl MessageHandler for Upper {
    type Message = String;

    fn message(&mut self, _line: String) -> HandlerResult {
        Ok(())
    }
}
