//! The packets of MQTT 3.1.1: where one ends, what it says, and how a reply is written.
//!
//! A packet begins with its kind and four flags, and the length of the rest, seven bits a byte.
//! <https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html>

use sockserver::{
    BoxError,
    framing::{Framing, FromFrame, Scan, ToFrame},
};

/// Where a packet ends.
#[derive(Default)]
pub(crate) struct Mqtt;

impl Framing for Mqtt {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        let mut length = 0;
        for (at, &byte) in bytes.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                // The kind in the first byte belongs to the packet.
                return Ok(Scan::End { length: 2 + at + length, header: 0, trailer: 0 });
            }
        }
        if bytes.len() > 4 { Err("a length has more than four bytes".into()) } else { Ok(Scan::More(0)) }
    }

    /// The payload is the first byte, and what follows the length.
    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        let (&first, rest) = payload.split_first().ok_or("a packet begins with its kind")?;
        outgoing.push(first);
        let mut length = rest.len();
        loop {
            let more = if length >= 0x80 { 0x80 } else { 0 };
            outgoing.push((length & 0x7f) as u8 | more);
            length >>= 7;
            if length == 0 {
                break;
            }
        }
        outgoing.extend_from_slice(rest);
        Ok(())
    }
}

/// What a device sends.
pub(crate) enum Packet {
    Connect(Connect),
    Publish { publish: Publish, qos: u8, number: u16 },
    Subscribe { number: u16, filters: Vec<String> },
    Unsubscribe { number: u16, filters: Vec<String> },
    Ping,
    Disconnect,
}

pub(crate) struct Connect {
    /// 4 is MQTT 3.1.1.
    pub(crate) protocol: u8,
    pub(crate) client: String,
    /// In seconds. Zero: it may be silent for ever.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Publish>,
}

/// A message.
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) is_retained: bool,
}

/// What the server sends.
pub(crate) enum Reply<'a> {
    ConnectAck(u8),
    /// A message, and whether it was published before the device has subscribed.
    Publish(&'a Publish, bool),
    PublishAck(u16),
    SubscribeAck(u16, Vec<u8>),
    UnsubscribeAck(u16),
    Pong,
}

impl FromFrame for Packet {
    type Message<'a> = Packet;

    fn from_frame(frame: &[u8]) -> Result<Packet, BoxError> {
        let (&first, rest) = frame.split_first().ok_or("a packet is empty")?;
        let length = rest.iter().position(|byte| byte & 0x80 == 0).ok_or("a packet has no length")? + 1;
        let mut fields = Fields(&rest[length..]);
        let flags = first & 0x0f;
        let packet = match (first >> 4, flags) {
            (1, 0) => Packet::Connect(connect(&mut fields)?),
            (3, _) => {
                let topic = fields.topic()?;
                let qos = flags >> 1 & 3;
                let number = if qos > 0 { fields.number()? } else { 0 };
                let payload = std::mem::take(&mut fields.0).to_vec();
                Packet::Publish { publish: Publish { topic, payload, is_retained: flags & 1 == 1 }, qos, number }
            }
            (8, 2) => {
                let number = fields.number()?;
                let mut filters = Vec::new();
                while !fields.0.is_empty() {
                    filters.push(fields.text()?);
                    // The quality that is asked for: at most once is what there is.
                    fields.byte()?;
                }
                Packet::Subscribe { number, filters }
            }
            (10, 2) => {
                let number = fields.number()?;
                let mut filters = Vec::new();
                while !fields.0.is_empty() {
                    filters.push(fields.text()?);
                }
                Packet::Unsubscribe { number, filters }
            }
            (12, 0) => Packet::Ping,
            (14, 0) => Packet::Disconnect,
            (kind, flags) => return Err(format!("a packet of the kind {kind} with the flags {flags}").into()),
        };
        match fields.0 {
            [] => Ok(packet),
            _ => Err("a packet is longer than what it says".into()),
        }
    }
}

fn connect(fields: &mut Fields<'_>) -> Result<Connect, BoxError> {
    const WILL: u8 = 0x04;
    const WILL_RETAIN: u8 = 0x20;
    const PASSWORD: u8 = 0x40;
    const USER: u8 = 0x80;
    if !matches!(&*fields.text()?, "MQTT" | "MQIsdp") {
        return Err("this is not MQTT".into());
    }
    let protocol = fields.byte()?;
    let flags = fields.byte()?;
    let keep_alive = fields.number()?;
    if protocol != 4 {
        // What follows is of another version, and is not read.
        fields.0 = &[];
        return Ok(Connect { protocol, client: String::new(), keep_alive, will: None });
    }
    let client = fields.text()?;
    let mut will = None;
    if flags & WILL != 0 {
        let (topic, payload) = (fields.topic()?, fields.bytes()?.to_vec());
        will = Some(Publish { topic, payload, is_retained: flags & WILL_RETAIN != 0 });
    }
    for flag in [USER, PASSWORD] {
        if flags & flag != 0 {
            fields.bytes()?;
        }
    }
    Ok(Connect { protocol, client, keep_alive, will })
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BoxError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("a packet is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, BoxError> {
        self.take().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u16, BoxError> {
        self.take().map(u16::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BoxError> {
        let length = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(length.into()).ok_or("a packet is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, BoxError> {
        Ok(String::from_utf8(self.bytes()?.to_vec())?)
    }

    /// The topic of a message.
    fn topic(&mut self) -> Result<String, BoxError> {
        let topic = self.text()?;
        match topic.is_empty() || topic.contains(['+', '#', '\0']) {
            true => Err("a topic is not empty, and has no wildcards".into()),
            false => Ok(topic),
        }
    }
}

impl ToFrame for Reply<'_> {
    fn to_frame<'a>(&'a self, payload: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        match self {
            Reply::ConnectAck(code) => payload.extend_from_slice(&[0x20, 0, *code]),
            Reply::Publish(publish, is_retained) => {
                payload.push(0x30 | u8::from(*is_retained));
                payload.extend_from_slice(&u16::try_from(publish.topic.len())?.to_be_bytes());
                payload.extend_from_slice(publish.topic.as_bytes());
                payload.extend_from_slice(&publish.payload);
            }
            Reply::PublishAck(number) => put_number(0x40, *number, payload),
            Reply::SubscribeAck(number, codes) => {
                put_number(0x90, *number, payload);
                payload.extend_from_slice(codes);
            }
            Reply::UnsubscribeAck(number) => put_number(0xb0, *number, payload),
            Reply::Pong => payload.push(0xd0),
        }
        Ok(payload)
    }
}

fn put_number(kind: u8, number: u16, payload: &mut Vec<u8>) {
    payload.push(kind);
    payload.extend_from_slice(&number.to_be_bytes());
}
