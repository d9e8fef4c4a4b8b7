//! What a child reports to its parent: who the client is, and how the request ended.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
};

use crate::{
    address::{Address, UnixAddress},
    connections::stats::Outcome,
    error::{HandlerError, Stage},
    event::{Ending, TurnedAway},
    finish_request::Ended,
};

/// Every system writes this many bytes to a pipe in one piece (`_POSIX_PIPE_BUF`).
pub(super) const REPORT_SIZE: usize = 512;

/// In a report, the first byte of a request that was turned away: this, and its [`TurnedAway`]. A smaller one is an
/// [`Outcome`].
const TURNED_AWAY: u8 = 64;

/// In a child: sends the parent how the request ended, in one write, which the pipe takes whole.
pub(super) fn report(pipe: &mut impl Write, ended: &Ended) -> io::Result<()> {
    let mut bytes = vec![match ended.how {
        Ending::Ended(outcome) => outcome as u8,
        Ending::TurnedAway(why) => TURNED_AWAY + why as u8,
    }];
    if let Some(error) = &ended.error {
        bytes.extend([error.stage() as u8, error.is_panic().into()]);
        bytes.extend(error.cause().bytes());
        bytes.truncate(REPORT_SIZE);
    }
    pipe.write_all(&bytes)
}

/// `None`: it is no report.
pub(super) fn parse(bytes: &[u8]) -> Option<Ended> {
    let (&how, error) = bytes.split_first()?;
    let how = match how.checked_sub(TURNED_AWAY) {
        Some(why) => Ending::TurnedAway(TurnedAway::ALL.into_iter().find(|known| *known as u8 == why)?),
        None => Ending::Ended(Outcome::ALL.into_iter().find(|known| *known as u8 == how)?),
    };
    let error = match error {
        [stage, is_panic, cause @ ..] => {
            let stage = Stage::ALL.into_iter().find(|known| *known as u8 == *stage)?;
            let cause = String::from_utf8_lossy(cause).into_owned();
            Some(match is_panic {
                1 => HandlerError::panic(stage, cause),
                _ => HandlerError::new(stage, cause).of_outcome(how.outcome()),
            })
        }
        _ => None,
    };
    Some(Ended { how, error })
}

/// The longest introduction: the path of a Unix socket has 108 bytes at most.
pub(super) const INTRODUCTION_SIZE: usize = 3 + 108;

/// The first byte of an introduction, which no report has.
const INTRODUCTION: u8 = u8::MAX;

/// In a child: tells the parent that the preamble is complete, and who the client is. In one write.
pub(super) fn introduce(pipe: &mut impl Write, client: &Address) -> io::Result<()> {
    let (kind, mut name) = match client {
        Address::Inet(address) => (b'i', address.to_string().into_bytes()),
        Address::Unix(UnixAddress::Path(path)) => (b'p', path.as_os_str().as_bytes().to_vec()),
        Address::Unix(UnixAddress::Abstract(name)) => (b'a', name.clone()),
        Address::Unix(UnixAddress::Unnamed) => (b'u', Vec::new()),
    };
    name.truncate(INTRODUCTION_SIZE - 3);
    pipe.write_all(&[&[INTRODUCTION, kind, name.len() as u8], &name[..]].concat())
}

/// Splits the introduction off what the parent has read.
pub(super) fn split_introduction(bytes: &[u8]) -> (Option<Address>, &[u8]) {
    let &[INTRODUCTION, kind, length, ref rest @ ..] = bytes else { return (None, bytes) };
    let Some((name, rest)) = rest.split_at_checked(length.into()) else { return (None, &[]) };
    let client = match kind {
        b'i' => str::from_utf8(name).ok().and_then(|address| address.parse().ok()).map(Address::Inet),
        b'p' => Some(Address::unix(OsStr::from_bytes(name))),
        b'a' => Some(Address::Unix(UnixAddress::Abstract(name.to_vec()))),
        _ => Some(Address::Unix(UnixAddress::Unnamed)),
    };
    (client, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome, error: Option<HandlerError>) -> Ended {
        Ended { how: Ending::Ended(outcome), error }
    }

    #[test]
    fn a_report_says_what_the_child_said() {
        let mut pipe = Vec::new();
        let error = Some(HandlerError::panic(Stage::Setup, "no disk"));
        report(&mut pipe, &ended(Outcome::Panicked, error)).expect("a vector takes all");
        let Ended { how, error } = parse(&pipe).expect("a whole report");
        assert_eq!(how, Ending::Ended(Outcome::Panicked));
        assert_eq!(error.expect("an error").to_string(), "setup panicked: no disk");
        for why in TurnedAway::ALL {
            let mut pipe = Vec::new();
            report(&mut pipe, &Ended { how: Ending::TurnedAway(why), error: None }).expect("a vector takes all");
            assert!(parse(&pipe).is_some_and(|ended| ended.how == Ending::TurnedAway(why)));
        }
    }

    #[test]
    fn a_report_fits_into_one_write() {
        let mut pipe = Vec::new();
        let error = Some(HandlerError::new(Stage::Handle, "é".repeat(REPORT_SIZE)));
        report(&mut pipe, &ended(Outcome::Failed, error)).expect("a vector takes all");
        assert_eq!(pipe.len(), REPORT_SIZE);
        assert!(parse(&pipe).is_some_and(|report| report.error.is_some()));
    }

    #[test]
    fn a_hang_up_or_a_timeout_stays_one_across_the_processes() {
        let told = |outcome, kind| {
            let mut pipe = Vec::new();
            let error = HandlerError::new(Stage::Handle, io::Error::from(kind));
            report(&mut pipe, &ended(outcome, Some(error))).expect("a vector takes all");
            parse(&pipe).and_then(|report| report.error).expect("an error")
        };
        assert!(told(Outcome::Disconnected, io::ErrorKind::BrokenPipe).is_disconnect());
        assert!(told(Outcome::TimedOut, io::ErrorKind::TimedOut).is_timeout());
    }

    #[test]
    fn an_introduction_names_the_client_before_the_report() {
        let scoped = "[fe80::1%4]:9".parse::<std::net::SocketAddr>().expect("an address");
        for client in [
            Address::Inet(scoped),
            Address::unix("/run/a.sock"),
            Address::unix(""),
            Address::Unix(UnixAddress::Abstract(b"name".to_vec())),
            Address::unix("x".repeat(108)),
        ] {
            let mut pipe = Vec::new();
            introduce(&mut pipe, &client).expect("a vector takes all");
            assert!(pipe.len() <= INTRODUCTION_SIZE);
            assert_eq!(split_introduction(&pipe), (Some(client.clone()), &b""[..]));
            report(&mut pipe, &ended(Outcome::Finished, None)).expect("a vector takes all");
            let (introduced, rest) = split_introduction(&pipe);
            assert_eq!(introduced, Some(client));
            assert_eq!(parse(rest).expect("a report").how, Ending::Ended(Outcome::Finished));
            assert_eq!(split_introduction(rest), (None, rest));
        }
    }

    #[test]
    fn what_is_no_report_is_none() {
        for bytes in [&b""[..], &[200], &[0, 200, 0]] {
            assert!(parse(bytes).is_none());
        }
    }
}
