//! How a request ended, as its child reports it to the parent.

use std::io::{self, Write};

use crate::{
    connections::stats::Outcome,
    error::{HandlerError, Stage},
};

/// How a request ended. The child sends it to the parent in one write, which the pipe takes whole.
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) error: Option<HandlerError>,
}

/// Every system writes this many bytes to a pipe in one piece (`_POSIX_PIPE_BUF`).
pub(super) const REPORT_SIZE: usize = 512;

/// In a child: sends the parent how the request ended.
pub(super) fn report(pipe: &mut impl Write, outcome: Outcome, error: Option<HandlerError>) -> io::Result<()> {
    Report { outcome, error }.write(pipe)
}

impl Report {
    fn write(&self, pipe: &mut impl Write) -> io::Result<()> {
        let mut bytes = vec![self.outcome as u8];
        if let Some(error) = &self.error {
            bytes.extend([error.stage() as u8, error.is_panic().into()]);
            bytes.extend(error.cause().bytes());
            bytes.truncate(REPORT_SIZE);
        }
        pipe.write_all(&bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Report> {
        let (&outcome, error) = bytes.split_first()?;
        let outcome = Outcome::ALL.into_iter().find(|known| *known as u8 == outcome)?;
        let error = match error {
            [stage, is_panic, cause @ ..] => {
                let stage = Stage::ALL.into_iter().find(|known| *known as u8 == *stage)?;
                let cause = String::from_utf8_lossy(cause).into_owned();
                Some(match is_panic {
                    1 => HandlerError::panic(stage, cause),
                    _ => HandlerError::new(stage, cause).of_outcome(outcome),
                })
            }
            _ => None,
        };
        Some(Report { outcome, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_the_child_said() {
        let mut pipe = Vec::new();
        report(&mut pipe, Outcome::Panicked, Some(HandlerError::panic(Stage::Setup, "no disk")))
            .expect("a vector takes all");
        let Report { outcome, error } = Report::parse(&pipe).expect("a whole report");
        assert_eq!(outcome, Outcome::Panicked);
        assert_eq!(error.expect("an error").to_string(), "setup panicked: no disk");
    }

    #[test]
    fn a_report_fits_into_one_write() {
        let mut pipe = Vec::new();
        report(&mut pipe, Outcome::Failed, Some(HandlerError::new(Stage::Handle, "é".repeat(REPORT_SIZE))))
            .expect("a vector takes all");
        assert_eq!(pipe.len(), REPORT_SIZE);
        assert!(Report::parse(&pipe).is_some_and(|report| report.error.is_some()));
    }

    #[test]
    fn a_hang_up_or_a_timeout_stays_one_across_the_processes() {
        let told = |outcome, kind| {
            let mut pipe = Vec::new();
            let error = HandlerError::new(Stage::Handle, io::Error::from(kind));
            report(&mut pipe, outcome, Some(error)).expect("a vector takes all");
            Report::parse(&pipe).and_then(|report| report.error).expect("an error")
        };
        assert!(told(Outcome::Disconnected, io::ErrorKind::BrokenPipe).is_disconnect());
        assert!(told(Outcome::TimedOut, io::ErrorKind::TimedOut).is_timeout());
    }

    #[test]
    fn what_is_no_report_is_none() {
        for bytes in [&b""[..], &[200], &[0, 200, 0]] {
            assert!(Report::parse(bytes).is_none());
        }
    }
}
