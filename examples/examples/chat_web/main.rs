//! A chat room in the browser: the page and its WebSockets on one port, and a mailbox for each member.
//!
//! ```console
//! $ cargo run --features chat_web --example chat_web
//! listening on 127.0.0.1:8080
//! ```
//!
//! Open <http://127.0.0.1:8080> in two windows.
//!
//! A member first says its name, and then lines. It hears JSON: `{"kind":"said","name":"alice","text":"hello"}`, and of the
//! kinds `welcome`, `joined`, `left`, `missed` and `refused`. Only pages of this server may connect: a browser says where its page
//! comes from.

use std::{
    env,
    io::{self, Write},
    sync::Arc,
};

use serde_json::json;
use sockserver::{
    Closing, FrameWriter, HandlerResult, HangUp, MailHandler, Mailbox, MessageHandler, Server, Writer,
    framing::FrameError, message_handler,
};

mod room;
mod websocket;

use room::Room;
use websocket::{BadRequest, Incoming, Status, WebSocket};

const PAGE: &str = include_str!("page.html");

#[derive(Default, Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Member,
    limits(connections = 10_000, per_client = 200),
    timeouts(idle = "5m", message = "10s", shutdown = "5s"),
)]
struct Chat {
    room: Room,
}

#[message_handler(framing = WebSocket, max_frame = "16KiB", mailbox = 256)]
struct Member {
    wfile: Writer,
    frames: FrameWriter<WebSocket>,
    mailbox: Mailbox<Arc<str>>,
    chat: Arc<Chat>,
    #[default]
    name: Option<String>,
    /// What has come of a message in several frames.
    #[default]
    parts: Vec<u8>,
}

impl MessageHandler for Member {
    type Message = Incoming<'static>;

    fn message(&mut self, incoming: Incoming<'_>) -> HandlerResult {
        match incoming {
            Incoming::Upgrade(upgrade) => Ok(upgrade.accept(&mut self.wfile)?),
            Incoming::Get(path) => {
                let (status, page) =
                    if path == "/" { ("200 OK", PAGE) } else { ("404 Not Found", "There is nothing here.") };
                websocket::write_page(&mut self.wfile, status, page)?;
                Err(HangUp.into())
            }
            Incoming::Text { part, is_last } => self.hear(part, is_last),
            Incoming::Ping(payload) => Ok(websocket::write_pong(&mut self.wfile, payload)?),
            Incoming::Pong => Ok(()),
            Incoming::Close => self.close(Status::Normal, ""),
        }
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        match error {
            FrameError::TooLong { .. } => self.close(Status::TooLong, "that was too long"),
            FrameError::Malformed(error) if error.is::<BadRequest>() => {
                websocket::write_page(&mut self.wfile, "400 Bad Request", &error.to_string())?;
                Err(HangUp.into())
            }
            error => self.close(Status::Protocol, &error.to_string()),
        }
    }

    /// The page connects again when the server is back.
    fn closing(&mut self, _why: Closing) -> HandlerResult {
        Ok(websocket::write_close(&mut self.wfile, Status::GoingAway, "the server stops")?)
    }

    /// However the connection has ended.
    fn finish(&mut self) -> HandlerResult {
        if let Some(name) = self.name.take() {
            self.chat.room.leave(&name);
        }
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = Arc<str>;

    fn mail(&mut self, event: Arc<str>) -> HandlerResult {
        Ok(self.frames.send(&*event)?)
    }
}

impl Member {
    fn hear(&mut self, part: &[u8], is_last: bool) -> HandlerResult {
        self.parts.extend_from_slice(part);
        if self.parts.len() > 16 << 10 {
            return self.close(Status::TooLong, "that was too long");
        }
        if !is_last {
            return Ok(());
        }
        let Ok(text) = String::from_utf8(std::mem::take(&mut self.parts)) else {
            return self.close(Status::NotText, "that was no text");
        };
        match &self.name {
            // An empty line only says that the page is still there.
            _ if text.trim().is_empty() => Ok(()),
            Some(name) => {
                self.chat.room.say(name, &text);
                Ok(())
            }
            None => self.choose_name(text.trim()),
        }
    }

    fn choose_name(&mut self, name: &str) -> HandlerResult {
        let joined = match name.chars().count() {
            1..=20 if !name.contains(char::is_control) => self.chat.room.join(name, self.mailbox.sender()),
            _ => Err("a name has 1 to 20 letters".into()),
        };
        let answer = match joined {
            Ok(members) => {
                self.name = Some(name.to_owned());
                json!({"kind": "welcome", "name": name, "members": members})
            }
            Err(why) => json!({"kind": "refused", "text": why}),
        };
        Ok(self.frames.send(&answer.to_string())?)
    }

    fn close(&mut self, status: Status, why: &str) -> HandlerResult {
        websocket::write_close(&mut self.wfile, status, why)?;
        Err(HangUp.into())
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let server = Chat::default().bind(address)?;
    server.shutdown_on_signals()?;
    // `println` would panic where the output is closed.
    let _ = writeln!(io::stdout(), "listening on {}", server.server_address());
    server.serve_forever()
}
