//! A broker of MQTT 3.1.1 for what sensors and lamps mostly need: topics with wildcards, retained messages, wills, and
//! delivery at most once.
//!
//! ```console
//! $ cargo run --example mqtt_lite
//! listening on 127.0.0.1:1883
//! ```
//!
//! ```console
//! $ mosquitto_sub -t 'house/+/temperature' -v
//! house/kitchen/temperature 21
//! ```
//!
//! ```console
//! $ mosquitto_pub -t house/kitchen/temperature -m 21
//! ```
//!
//! What is published with QoS 1 is acknowledged, and delivered at most once all the same. There are no sessions that outlive
//! their connections, and no passwords.

use std::{
    env,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use sockserver::{
    ConnectionId, FrameWriter, HandlerResult, HangUp, MailHandler, Mailbox, MessageHandler, Server, ServerHandle,
    Stream, message_handler,
};

mod broker;
mod packet;

use broker::Broker;
use packet::{Connect, Mqtt, Packet, Publish, Reply};

#[derive(Default, Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Device,
    limits(connections = 20_000),
    timeouts(idle = "30s", message = "20s", shutdown = "5s"),
)]
struct MqttLite {
    broker: Broker,
}

#[message_handler(framing = Mqtt, max_frame = "256KiB", mailbox = 256)]
struct Device {
    replies: FrameWriter<Mqtt>,
    mailbox: Mailbox<Arc<Publish>>,
    stream: Stream,
    id: ConnectionId,
    handle: ServerHandle,
    server: Arc<MqttLite>,
    /// The device has said who it is.
    #[default]
    is_connected: bool,
    /// What the others hear when the connection breaks.
    #[default]
    will: Option<Publish>,
}

impl MessageHandler for Device {
    type Message = Packet;

    fn message(&mut self, packet: Packet) -> HandlerResult {
        match packet {
            Packet::Connect(connect) if !self.is_connected => self.connect(connect),
            Packet::Connect(_) => Err("a second CONNECT".into()),
            _ if !self.is_connected => Err("the first packet is no CONNECT".into()),
            Packet::Publish { publish, qos, number } => {
                self.server.broker.publish(publish);
                match qos {
                    0 => Ok(()),
                    1 => Ok(self.replies.send(&Reply::PublishAck(number))?),
                    _ => Err("QoS 2 is not here".into()),
                }
            }
            Packet::Subscribe { number, filters } => {
                let codes = filters.iter().map(|filter| if broker::is_filter(filter) { 0 } else { 0x80 }).collect();
                self.replies.send(&Reply::SubscribeAck(number, codes))?;
                let filters = filters.into_iter().filter(|filter| broker::is_filter(filter));
                for retained in self.server.broker.subscribe(self.id, filters.collect()) {
                    self.replies.send(&Reply::Publish(&retained, true))?;
                }
                Ok(())
            }
            Packet::Unsubscribe { number, filters } => {
                self.server.broker.unsubscribe(self.id, &filters);
                Ok(self.replies.send(&Reply::UnsubscribeAck(number))?)
            }
            Packet::Ping => Ok(self.replies.send(&Reply::Pong)?),
            Packet::Disconnect => {
                self.will = None;
                Err(HangUp.into())
            }
        }
    }

    /// However the connection has ended, but not for a device that has said goodbye.
    fn finish(&mut self) -> HandlerResult {
        self.server.broker.leave(self.id);
        if let Some(will) = self.will.take() {
            self.server.broker.publish(will);
        }
        Ok(())
    }
}

impl MailHandler for Device {
    type Mail = Arc<Publish>;

    fn mail(&mut self, publish: Arc<Publish>) -> HandlerResult {
        Ok(self.replies.send(&Reply::Publish(&publish, false))?)
    }
}

impl Device {
    fn connect(&mut self, connect: Connect) -> HandlerResult {
        let Connect { protocol, client, keep_alive, will } = connect;
        if protocol != 4 {
            // Unacceptable protocol version.
            self.replies.send(&Reply::ConnectAck(1))?;
            return Err(HangUp.into());
        }
        // A device that is silent for half as long again as it has said is gone.
        let silence = (keep_alive > 0).then(|| Duration::from_millis(1500 * u64::from(keep_alive)));
        self.stream.set_idle_timeout(silence)?;
        // A device that connects anew takes the place of its old connection, which may be dead.
        if let Some(old) = self.server.broker.join(self.id, client, self.mailbox.sender()) {
            self.handle.close(old);
        }
        (self.is_connected, self.will) = (true, will);
        Ok(self.replies.send(&Reply::ConnectAck(0))?)
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".into());
    let server = MqttLite::default().bind(address)?;
    server.shutdown_on_signals()?;
    // `println` would panic where the output is closed.
    let _ = writeln!(io::stdout(), "listening on {}", server.server_address());
    server.serve_forever()
}
