//! The metrics of the feature `metrics`.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    address::Address,
    connections::stats::Outcome,
    event::{ConnectionRef, Event, TurnedAway},
};

/// The metrics of one server. They are registered once, so that an event allocates nothing.
pub(super) struct Meters {
    accepted: Counter,
    active: Gauge,
    ended: [Counter; Outcome::ALL.len()],
    turned_away: [Counter; TurnedAway::ALL.len()],
    duration: Histogram,
    received: Counter,
    sent: Counter,
    accept_errors: Counter,
    at_limit: Gauge,
}

impl Meters {
    pub(super) fn new(server_address: &Address) -> Meters {
        let server = server_address.to_string();
        Meters {
            accepted: counter!("sockserver_connections_accepted_total", "server" => server.clone()),
            active: gauge!("sockserver_connections_active", "server" => server.clone()),
            ended: Outcome::ALL.map(|outcome| {
                let outcome = outcome.to_string();
                counter!("sockserver_connections_ended_total", "server" => server.clone(), "outcome" => outcome)
            }),
            turned_away: TurnedAway::ALL.map(|why| {
                let why = why.to_string();
                counter!("sockserver_connections_turned_away_total", "server" => server.clone(), "why" => why)
            }),
            duration: histogram!("sockserver_connection_duration_seconds", "server" => server.clone()),
            received: counter!("sockserver_received_bytes_total", "server" => server.clone()),
            sent: counter!("sockserver_sent_bytes_total", "server" => server.clone()),
            accept_errors: counter!("sockserver_accept_errors_total", "server" => server.clone()),
            at_limit: gauge!("sockserver_connections_at_limit", "server" => server),
        }
    }

    pub(super) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Accepted(_) => {
                self.accepted.increment(1);
                self.active.increment(1);
            }
            Event::Ended { connection, outcome, .. } => self.ended(connection, *outcome),
            Event::TurnedAway { connection, why, .. } => {
                self.turned_away[*why as usize].increment(1);
                self.ended(connection, why.outcome());
            }
            Event::AcceptError(_) => self.accept_errors.increment(1),
            Event::LimitReached(_) => self.at_limit.set(1),
            Event::LimitLeft(_) => self.at_limit.set(0),
            Event::Listening(_)
            | Event::Started(_)
            | Event::Suspended
            | Event::Resumed
            | Event::Stopping
            | Event::Stopped(_) => {}
        }
    }

    fn ended(&self, connection: &ConnectionRef<'_>, outcome: Outcome) {
        self.active.decrement(1);
        self.ended[outcome as usize].increment(1);
        self.duration.record(connection.age());
        self.received.increment(connection.bytes_in());
        self.sent.increment(connection.bytes_out());
    }
}
