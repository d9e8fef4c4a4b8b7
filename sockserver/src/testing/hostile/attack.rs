//! The ways of doing harm.

use std::fmt;

/// One way of doing harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attack {
    /// Connects, and says nothing.
    Silent,
    /// Sends a request a byte at a time, and never the last one.
    Dribbling,
    /// Sends requests, and never reads the answers.
    NeverReading,
    /// Ends its half of the connection before a request, in the middle of one, and behind it.
    HalfClosing,
    /// Resets the connection before a request, in the middle of one, and behind it.
    Resetting,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends a line that does not end.
    EndlessLine,
    /// Connects and leaves, as often as it can.
    Flood,
    /// Begins a TLS handshake, and does not go on, or goes on with garbage.
    TlsLiar,
    /// Names another client's address in a PROXY header, or begins a header of 64 KiB.
    ProxyLiar,
}

impl Attack {
    /// All of them.
    pub const ALL: &[Attack] = &[
        Attack::Silent,
        Attack::Dribbling,
        Attack::NeverReading,
        Attack::HalfClosing,
        Attack::Resetting,
        Attack::Garbage,
        Attack::EndlessLine,
        Attack::Flood,
        Attack::TlsLiar,
        Attack::ProxyLiar,
    ];
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Attack::Silent => "silent",
            Attack::Dribbling => "dribbling",
            Attack::NeverReading => "never reading",
            Attack::HalfClosing => "half-closing",
            Attack::Resetting => "resetting",
            Attack::Garbage => "garbage",
            Attack::EndlessLine => "endless line",
            Attack::Flood => "flood",
            Attack::TlsLiar => "TLS liar",
            Attack::ProxyLiar => "PROXY liar",
        })
    }
}
