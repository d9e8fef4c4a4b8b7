//! The TLS session of one connection: records in, plaintext out, and the other way round.

use std::{
    fmt, mem,
    sync::{Arc, OnceLock},
};

use rustls::{
    Error, OtherError, ServerConfig,
    server::{ClientHello, ResolvesServerCert, ServerConnectionData, UnbufferedServerConnection},
    sign::CertifiedKey,
    unbuffered::{
        AppDataRecord, ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};

use crate::unwind;

/// The server's end of a TLS session.
pub(crate) struct Session {
    connection: UnbufferedServerConnection,
    resolver: Arc<NotingResolver>,
    /// Received bytes that are not processed: at most a part of a record, or of a handshake message.
    partial: Vec<u8>,
    /// Decrypted bytes. The first `taken` of them were taken.
    plaintext: Vec<u8>,
    taken: usize,
    /// Records to be sent, in this order, before all that are encrypted later.
    pending: Vec<u8>,
    /// The client's close_notify has come: it sends no more.
    is_ended: bool,
    /// A close_notify was made: nothing is sent behind it.
    is_closed: bool,
    /// The client broke the protocol, or has given up. What is pending may still be sent, as it says why.
    failure: Option<Error>,
}

/// The longest record that a client may send, with its header.
pub(crate) const MAX_RECORD: usize = 5 + (16 << 10) + 2048;

/// What a record has beside its plaintext, in every version and cipher suite: more is asked for if that is wrong.
const RECORD_OVERHEAD: usize = 40;

const MAX_PLAINTEXT: usize = 16 << 10;

impl Session {
    pub(crate) fn new(config: &ServerConfig) -> Result<Session, Error> {
        let resolver = Arc::new(NotingResolver { inner: config.cert_resolver.clone(), server_name: OnceLock::new() });
        let mut config = config.clone();
        config.cert_resolver = resolver.clone();
        Ok(Session {
            connection: UnbufferedServerConnection::new(Arc::new(config))?,
            resolver,
            partial: Vec::new(),
            plaintext: Vec::new(),
            taken: 0,
            pending: Vec::new(),
            is_ended: false,
            is_closed: false,
            failure: None,
        })
    }

    /// What was received and not processed. The next [`process`](Self::process) must begin with it.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Processes all records that are complete. The plaintext goes to `deliver`, which returns how many of the bytes it
    /// takes; the others are kept. `received` begins with [`partial`](Self::partial). Returns how many bytes were taken.
    pub(crate) fn process(
        &mut self,
        received: &mut [u8],
        mut deliver: impl FnMut(&[u8]) -> usize,
    ) -> Result<usize, Error> {
        let mut delivered = 0;
        let consumed = self.advance(
            received,
            |rest, payload| {
                let taken = if rest.is_empty() { deliver(payload) } else { 0 };
                delivered += taken;
                rest.extend_from_slice(&payload[taken..]);
            },
            |_, _| Ok(()),
        );
        let rest = &received[consumed..];
        self.partial.clear();
        // An idle session holds no memory for a record that has come.
        self.partial.shrink_to(rest.len());
        self.partial.extend_from_slice(rest);
        match &self.failure {
            Some(failure) if delivered == 0 => Err(failure.clone()),
            _ => Ok(delivered),
        }
    }

    /// Gives `deliver` plaintext that was kept. Returns how many bytes it has taken.
    pub(crate) fn take_plaintext(&mut self, deliver: impl FnOnce(&[u8]) -> usize) -> usize {
        if !self.has_plaintext() {
            return 0;
        }
        let taken = deliver(&self.plaintext[self.taken..]);
        self.taken += taken;
        if self.taken == self.plaintext.len() {
            (self.plaintext, self.taken) = (Vec::new(), 0);
        }
        taken
    }

    /// Encrypts the bytes into records behind those that are pending. All of them are added to `records`, to be sent
    /// before any that a later call adds.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], records: &mut Vec<u8>) -> Result<(), Error> {
        self.add_records(records, |traffic, records| {
            let overhead = RECORD_OVERHEAD * (1 + plaintext.len() / MAX_PLAINTEXT);
            append(records, plaintext.len() + overhead, |room| Ok(traffic.encrypt(plaintext, room)?))
        })
    }

    /// Adds what is pending and a close_notify to `records`: the client is sent no more.
    pub(crate) fn close(&mut self, records: &mut Vec<u8>) -> Result<(), Error> {
        self.is_closed = true;
        self.add_records(records, |traffic, records| {
            append(records, RECORD_OVERHEAD, |room| Ok(traffic.queue_close_notify(room)?))
        })
    }

    /// Has a close_notify sent behind what is pending. `false`: nothing is to be done, as after a failure.
    pub(crate) fn queue_close(&mut self) -> bool {
        if !self.is_open() {
            return false;
        }
        let mut records = Vec::new();
        let is_queued = self.close(&mut records).is_ok();
        self.pending = records;
        is_queued
    }

    /// Whether more can be sent to the client.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed && self.failure.is_none() && !self.is_handshaking()
    }

    /// These records were not sent: they go before all others.
    pub(crate) fn put_back(&mut self, records: &[u8]) {
        self.pending.splice(..0, records.iter().copied());
    }

    fn add_records(
        &mut self,
        records: &mut Vec<u8>,
        add: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        records.append(&mut self.pending);
        self.pending = mem::take(records);
        // A part of a handshake message may be in there, whose place the connection has noted.
        let mut partial = mem::take(&mut self.partial);
        let consumed = self.advance(&mut partial, |rest, payload| rest.extend_from_slice(payload), add);
        partial.drain(..consumed);
        self.partial = partial;
        *records = mem::take(&mut self.pending);
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Processes what was received, gives plaintext to `keep` with the place for what is kept, and calls `add` if bytes
    /// can be encrypted then. Returns how many of the received bytes are done with.
    fn advance(
        &mut self,
        received: &mut [u8],
        mut keep: impl FnMut(&mut Vec<u8>, &[u8]),
        add: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> usize {
        let mut consumed = 0;
        if self.failure.is_some() {
            return consumed;
        }
        loop {
            // A resolver of certificates and a verifier can be the user's.
            let UnbufferedStatus { mut discard, state } =
                match unwind::catch(|| self.connection.process_tls_records(&mut received[consumed..])) {
                    Ok(status) => status,
                    Err(message) => {
                        self.failure = Some(Error::Other(OtherError(Arc::new(Panicked(message)))));
                        return consumed;
                    }
                };
            let result = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        None => break Ok(()),
                        Some(Ok(AppDataRecord { discard: more, payload, .. })) => {
                            discard += more;
                            keep(&mut self.plaintext, payload);
                        }
                        Some(Err(error)) => break Err(error),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.pending, 0, |room| Ok(data.encode(room)?))
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // Nothing that is encrypted later is sent before it.
                    data.done();
                    Ok(())
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    Ok(())
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    self.failure = add(&mut traffic, &mut self.pending).err();
                    return consumed + discard;
                }
                // The handshake waits for the client, or both sides have closed.
                Ok(_) => return consumed + discard,
                Err(error) => Err(error),
            };
            consumed += discard;
            self.failure = self.failure.take().or(result.err());
            // After a failure only the alert that tells the client is left to be taken.
            if self.failure.is_some() && !self.connection.wants_write() {
                return consumed;
            }
        }
    }

    pub(super) fn connection(&self) -> &UnbufferedServerConnection {
        &self.connection
    }

    /// The name that the client has asked for (SNI).
    pub(super) fn requested_name(&self) -> Option<&str> {
        self.resolver.server_name.get().map(String::as_str)
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes that are encrypted now could not be sent: records go before them, or the handshake.
    pub(crate) fn is_busy(&self) -> bool {
        self.has_pending() || self.is_handshaking()
    }

    /// How many bytes can be sent, of what is pending and of so much plaintext.
    pub(crate) fn unsent(&self, plaintext: usize) -> usize {
        let plaintext = if self.is_handshaking() { 0 } else { plaintext };
        self.pending.len().saturating_add(plaintext)
    }

    /// Decrypted bytes were kept.
    pub(crate) fn has_plaintext(&self) -> bool {
        self.taken < self.plaintext.len()
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the client has said that it sends no more.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }
}

/// The resolver of the configuration, for one session: a connection that leaves the buffers to its user does not tell the
/// name that the client has asked for.
#[derive(Debug)]
struct NotingResolver {
    inner: Arc<dyn ResolvesServerCert>,
    server_name: OnceLock<String>,
}

impl ResolvesServerCert for NotingResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = client_hello.server_name() {
            let _ = self.server_name.set(name.to_owned());
        }
        self.inner.resolve(client_hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }
}

/// What the user has written for rustls has panicked, with this message.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the resolver of certificates or the verifier panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

/// Why nothing was written.
enum Refusal {
    Needs(usize),
    Failed(Error),
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Refusal {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Refusal::Needs(required_size),
            error @ EncodeError::AlreadyEncoded => Refusal::Failed(Error::General(error.to_string())),
        }
    }
}

impl From<EncryptError> for Refusal {
    fn from(error: EncryptError) -> Refusal {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Refusal::Needs(required_size),
            EncryptError::EncryptExhausted => Refusal::Failed(Error::EncryptError),
        }
    }
}

/// Appends what `write` writes into a room of this size, or of the size that it asks for.
fn append(
    records: &mut Vec<u8>,
    size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refusal>,
) -> Result<(), Error> {
    let before = records.len();
    records.resize(before + size, 0);
    let written = match write(&mut records[before..]) {
        Err(Refusal::Needs(size)) => {
            records.resize(before + size, 0);
            write(&mut records[before..])
        }
        written => written,
    };
    records.truncate(before + *written.as_ref().unwrap_or(&0));
    match written {
        Ok(_) => Ok(()),
        Err(Refusal::Failed(error)) => Err(error),
        Err(Refusal::Needs(_)) => Err(Error::General("a record became longer while it was written".into())),
    }
}
