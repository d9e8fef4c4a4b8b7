//! What fits what: the words for transports and concurrencies, and which of them a key needs.

use crate::{
    errors::Errors,
    suggest::{listed, quoted},
    value::{Value, Word, Words},
};
use proc_macro2::Ident;

pub(crate) static TRANSPORT: Words = Words {
    words: &[
        Word { word: "tcp", name: "Tcp" },
        Word { word: "udp", name: "Udp" },
        Word { word: "unix", name: "Unix" },
        Word { word: "unix_datagram", name: "UnixDatagram" },
        Word { word: "stream", name: "AnyStream" },
    ],
    home: "transport",
    are_types: true,
    synonyms: &[],
};

pub(crate) static CONCURRENCY: Words = Words {
    words: &[
        Word { word: "sync", name: "Synchronous" },
        Word { word: "threading", name: "Threading" },
        Word { word: "pool", name: "Pool" },
        Word { word: "forking", name: "Forking" },
        Word { word: EVENT_LOOP, name: "EventLoop" },
    ],
    home: "concurrency",
    are_types: true,
    synonyms: &[("async", "\"event_loop\""), ("epoll", "\"event_loop\"")],
};

/// The concurrency for message handlers only.
pub(crate) const EVENT_LOOP: &str = "event_loop";

/// What a key needs to mean something.
pub(crate) struct Rule {
    pub(crate) of: Axis,
    pub(crate) fits: &'static [&'static str],
    pub(crate) because: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Axis {
    Transport,
    Concurrency,
}

pub(crate) const WORKS: Rule =
    with(&["pool", EVENT_LOOP], "the others have no fixed number of threads (see `limits(connections = …)`)");

pub(crate) const STARTS_THREADS: Rule = with(&["threading", "pool", EVENT_LOOP], "the others start no threads");

pub(crate) const SERVES_SEVERAL: Rule = with(
    &["threading", "pool", "forking", EVENT_LOOP],
    "the one thread of `\"sync\"` is serving when the limit is reached, and can turn no client away meanwhile",
);

pub(crate) const SHARES_MEMORY: Rule = with(
    &["sync", "threading", "pool", EVENT_LOOP],
    "a mailbox is in the memory of its process, which the children of `\"forking\"` do not share",
);

pub(crate) const HANDS_OVER: Rule = with(
    &[EVENT_LOOP],
    "the others have a thread for each connection, or a fixed number of them (see `limits(connections = …)` and `workers`)",
);

pub(crate) const FORKS: Rule = with(&["forking"], "the others do not fork");

pub(crate) const HAS_QUEUE: Rule = on(&["tcp", "unix", "stream"], "a datagram socket has no queue of connections");

pub(crate) const REUSES_ADDRESS: Rule = on(
    &["tcp", "stream"],
    "on udp it would let two servers share the port, one of them receiving nothing (see `allow_reuse_port`); a Unix \
     socket is a file and has no port (see `unlink`)",
);

pub(crate) const HAS_PORT: Rule =
    on(&["tcp", "udp", "stream"], "a Unix socket is a file and has no port; `unlink` says what becomes of an old one");

pub(crate) const TCP: Rule = on(&["tcp", "stream"], "it is an option of TCP");

pub(crate) const PASSES_BUFFERS_ON: Rule =
    on(&["tcp", "udp", "unix_datagram", "stream"], "connections do not take it from the listening Unix socket");

pub(crate) const IP: Rule = on(&["tcp", "udp", "stream"], "a Unix socket has no IP address");

pub(crate) const COUNTS_CLIENTS: Rule = on(
    &["tcp", "udp", "unix", "stream"],
    "clients are told apart by their addresses, or their users, and here they have neither",
);

pub(crate) const HAS_IP_CLIENTS: Rule = on(
    &["tcp", "udp", "unix", "stream"],
    "clients are let in by their IP addresses (on a Unix socket a proxy names them), and here they have none",
);

pub(crate) const HAS_PACKETS: Rule =
    on(&["udp", "unix_datagram"], "a stream has no packets; `#[request_handler(max_line = …)]` bounds a line");

pub(crate) const HAS_FILE: Rule = on(&["unix", "unix_datagram", "stream"], "an internet socket has no file");

pub(crate) const HAS_CONNECTIONS: Rule =
    on(&["tcp", "unix", "stream"], "a datagram has no connection that could stay open");

pub(crate) const HAS_PREAMBLE: Rule =
    on(&["tcp", "unix", "stream"], "a datagram has no connection that could begin with a PROXY header");

#[cfg(feature = "tls")]
pub(crate) const HAS_TLS: Rule =
    on(&["tcp", "unix", "stream"], "datagrams would need DTLS, which rustls does not have");

pub(crate) const HAS_BUFFERS: Rule = on(&["tcp", "unix", "stream"], "a datagram is received and sent whole");

const fn on(fits: &'static [&'static str], because: &'static str) -> Rule {
    Rule { of: Axis::Transport, fits, because }
}

const fn with(fits: &'static [&'static str], because: &'static str) -> Rule {
    Rule { of: Axis::Concurrency, fits, because }
}

/// Reports the keys that mean nothing with this transport or this concurrency. A type of the user's own fits all.
pub(crate) fn check<'a>(
    given: impl IntoIterator<Item = &'a (Ident, &'static Rule)>,
    transport: Option<&Value>,
    concurrency: Option<&Value>,
    errors: &mut Errors,
) {
    for (word, rule) in given {
        let (axis, chosen) = match rule.of {
            Axis::Transport => ("transport", transport),
            Axis::Concurrency => ("concurrency", concurrency),
        };
        if let Some(Value::Word(_, choice)) = chosen
            && !rule.fits.contains(&choice.word)
        {
            let fits = listed(rule.fits.iter().map(|word| quoted(word)), "and");
            let message = format!(
                "`{word}` means nothing with `{axis} = \"{}\"`, only with {fits}: {}",
                choice.word, rule.because
            );
            errors.at(word, message);
        }
    }
}
