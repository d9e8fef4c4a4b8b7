//! Under all lints of the compiler and of clippy, in every edition. What the user has written is allowed here, so that
//! what is left is what the macros have written.

#![allow(dead_code)]
#![allow(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::arbitrary_source_item_ordering,
    clippy::single_call_fn,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core
)]

use sockserver::{
    Address, Datagram, HandlerError, HandlerResult, MessageHandler, OnLimit, Reader, Request, RequestHandler, Server,
    ServerHandle, Writer, message_handler, request_handler,
};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A module that has no name but those it writes out.
#[no_implicit_prelude]
#[allow(clippy::absolute_paths, clippy::implicit_return, clippy::missing_trait_methods)]
pub mod bare {
    /// With its own server, and a default that never returns.
    #[::sockserver::request_handler]
    #[server(transport = "tcp", concurrency = "sync")]
    #[derive(Debug)]
    #[non_exhaustive]
    pub struct Bare {
        /// It cannot be made.
        #[default(::std::process::abort())]
        pub never: u64,
        /// What the client sends.
        pub rfile: ::sockserver::Reader,
    }

    impl ::sockserver::RequestHandler for Bare {
        #[inline]
        fn handle(&mut self) -> ::sockserver::HandlerResult {
            ::std::result::Result::Ok(())
        }
    }
}

/// Implements what every handler has.
macro_rules! handles {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $(
            $(#[$attribute])*
            #[allow(clippy::implicit_return, clippy::missing_trait_methods)]
            impl RequestHandler for $name {
                #[inline]
                fn handle(&mut self) -> HandlerResult {
                    Ok(())
                }
            }
        )*
    };
}

/// A limit.
const MAX: usize = 100;

/// A time.
const A_WHILE: Duration = Duration::from_secs(601);

/// With its own server.
#[request_handler(timeout = A_WHILE, rbufsize = "8KiB", wbufsize = 0, max_line = MAX)]
#[server(transport = "tcp", concurrency = "threading", limits(connections = MAX), timeouts(idle = "5m"))]
#[derive(Debug)]
#[non_exhaustive]
pub struct Upper {
    /// What the client sends.
    pub rfile: Reader,
    /// What the client gets.
    pub wfile: Writer,
    /// The server.
    pub server: Arc<UpperServer>,
    /// Counted.
    #[default]
    pub count: u64,
    /// Some.
    #[default(vec![1, 2])]
    pub numbers: Vec<u8>,
    /// On Unix.
    #[cfg(unix)]
    #[default]
    pub unix: Option<fn(&str) -> usize>,
    /// Elsewhere.
    #[cfg(not(unix))]
    pub not_unix: Address,
}

/// With a server of another name.
#[request_handler]
#[server(transport = "udp", concurrency = "pool", name = Loud, workers = 2)]
#[derive(Debug)]
#[non_exhaustive]
pub struct r#Shout(Datagram, #[default] u64);

/// Nothing in it.
#[request_handler]
#[server(transport = "unix", concurrency = "sync")]
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Silent;

/// Not exported.
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Private {
    /// The client's.
    client_address: Address,
}

/// Generic.
#[request_handler(timeout = "1s", max_line = Self::LINE)]
#[derive(Debug)]
#[non_exhaustive]
pub struct Generic<T, const N: usize = 4>
where
    T: Clone + Send,
{
    /// Of something.
    #[default]
    pub of: PhantomData<T>,
    /// Counts.
    #[default([0; N])]
    pub counts: [u8; N],
    /// The writer.
    pub wfile: Writer,
}

impl<T: Clone + Send, const N: usize> Generic<T, N> {
    /// How long a line may be.
    const LINE: usize = N;
}

#[allow(clippy::implicit_return, clippy::missing_trait_methods)]
impl<T: Clone + Send, const N: usize> RequestHandler for Generic<T, N> {
    #[inline]
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

/// Composed.
#[derive(Debug, Server)]
#[server(
    transport = "tcp",
    concurrency = "forking",
    handler = Generic<T>,
    socket(nodelay = Self::NODELAY, keepalive = "1m"),
    limits(connections = MAX, on_limit = OnLimit::Reject, per_client = 2),
    timeouts(handle_request = "1s", idle = A_WHILE),
    hooks(
        server_activate = Self::keep,
        verify_request = Self::is_welcome,
        handle_error = Self::report,
        server_close = close
    )
)]
#[non_exhaustive]
pub struct Chat<T: Clone + Send + Sync + 'static> {
    /// Something.
    pub of: T,
}

#[allow(clippy::implicit_return, clippy::unused_self)]
impl<T: Clone + Send + Sync + 'static> Chat<T> {
    /// Small packets.
    const NODELAY: bool = true;

    /// Nothing.
    const fn keep(&self, _: &ServerHandle) {}

    /// All are.
    const fn is_welcome(&self, _: &Request<Self>, _: &Address) -> bool {
        true
    }

    /// Nothing.
    const fn report(&self, _: &HandlerError, _: &Address) {}
}

/// Nothing.
const fn close<T: Clone + Send + Sync + 'static>(_: &Chat<T>) {}

/// Not to be used.
#[deprecated(note = "silent")]
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[derive(Debug)]
#[non_exhaustive]
pub struct Old {
    /// Not to be used.
    pub rfile: Reader,
}

/// Not to be used.
#[allow(deprecated)]
#[deprecated(note = "silent")]
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[derive(Debug)]
#[non_exhaustive]
pub struct OldAndAllowed {
    /// Not to be used.
    #[deprecated(note = "silent")]
    pub rfile: Reader,
}

/// Some of it is not to be used.
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[derive(Debug)]
#[non_exhaustive]
pub struct Newer {
    /// Not to be used.
    #[deprecated(note = "silent")]
    pub rfile: Reader,
    /// Not to be used.
    #[deprecated(note = "silent")]
    #[default]
    pub count: u64,
}

/// A part of it is of a type that is not to be used.
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
#[derive(Debug)]
#[non_exhaustive]
pub struct Wrapper {
    /// Not to be used.
    #[allow(deprecated)]
    #[default]
    pub old: Option<Old>,
}

/// Not to be used, and serves what is not to be used.
#[derive(Debug, Server)]
#[deprecated(note = "silent")]
#[server(transport = "tcp", concurrency = "sync", handler = Old)]
#[non_exhaustive]
pub struct OldChat;

/// Serves what is not to be used.
#[allow(deprecated)]
#[derive(Debug, Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Old)]
#[non_exhaustive]
pub struct NewerChat;

/// Not to be used.
#[deprecated(note = "silent")]
const OLD_SIZE: usize = 1024;

/// Handles messages, and is not to be used.
#[allow(deprecated)]
#[deprecated(note = "silent")]
#[message_handler(framing = "line", max_frame = OLD_SIZE)]
#[derive(Debug)]
#[non_exhaustive]
pub struct OldMessages {
    /// What the client is sent.
    pub wfile: Writer,
}

#[allow(deprecated)]
#[allow(clippy::implicit_return, clippy::missing_trait_methods)]
impl MessageHandler for OldMessages {
    type Message = str;

    #[inline]
    fn message(&mut self, _message: &str) -> HandlerResult {
        Ok(())
    }
}

/// Not to be used, and serves what is not to be used, with all that is written beside a server.
#[derive(Debug, Server)]
#[deprecated(note = "silent")]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = OldMessages,
    limits(connections = OLD_SIZE),
    proxy(trust = ["10.0.0.0/8"])
)]
#[non_exhaustive]
pub struct OldLoop;

handles!(Upper Shout Silent Private #[allow(deprecated)] Old #[allow(deprecated)] OldAndAllowed Newer Wrapper);
