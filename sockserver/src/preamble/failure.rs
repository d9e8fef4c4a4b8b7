//! Why a connection has ended before its handler was made.

use std::io;

use crate::{
    connections::stats::Outcome,
    error::{HandlerError, Stage},
    event::{Ending, TurnedAway},
    io::closing::Closing,
};

/// A connection whose preamble was not what it has to be.
pub(crate) struct Failure {
    pub(crate) how: Ending,
    /// `None`: nothing about it is worth a report.
    pub(crate) error: Option<HandlerError>,
}

impl Failure {
    pub(super) fn of(why: TurnedAway, error: io::Error) -> Failure {
        let stage = if why == TurnedAway::Handshake { Stage::Handshake } else { Stage::Preamble };
        Failure { how: Ending::TurnedAway(why), error: Some(HandlerError::new(stage, error)) }
    }

    /// Code of the user's has panicked within the handshake.
    #[cfg(feature = "tls")]
    pub(super) fn panic(message: &str) -> Failure {
        let error = HandlerError::panic(Stage::Handshake, message);
        Failure { how: Ending::Ended(Outcome::Panicked), error: Some(error) }
    }

    /// Nothing is reported.
    pub(super) fn silent(why: TurnedAway) -> Failure {
        Failure { how: Ending::TurnedAway(why), error: None }
    }

    /// `None`: the error is not that of a connection that the server ends, or the server ends it because it is slow.
    pub(super) fn of_server(error: &io::Error) -> Option<Failure> {
        let how = match error.get_ref()?.downcast_ref()? {
            Closing::Draining | Closing::Kicked => Ending::TurnedAway(TurnedAway::NotStarted),
            Closing::Lifetime => Ending::Ended(Outcome::TimedOut),
            Closing::Idle | Closing::Handshake => return None,
        };
        Some(Failure { how, error: None })
    }
}
