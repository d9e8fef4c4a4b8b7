//! Who is in the room, and how they hear of each other.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use sockserver::Sender;

#[derive(Default)]
pub(crate) struct Room {
    /// By name.
    seats: Mutex<BTreeMap<String, Seat>>,
}

/// How the others reach a member.
struct Seat {
    mailbox: Sender<Arc<str>>,
    /// How many events its full mailbox has not taken since it was last told so.
    missed: usize,
}

impl Room {
    /// Adds a member, and returns who is there already; or says why not.
    pub(crate) fn join(&self, name: &str, mailbox: Sender<Arc<str>>) -> Result<Vec<String>, String> {
        let mut seats = self.seats();
        let others: Vec<String> = seats.keys().cloned().collect();
        match seats.entry(name.to_owned()) {
            Entry::Occupied(_) => return Err(format!("{name} is here already")),
            Entry::Vacant(place) => _ = place.insert(Seat { mailbox, missed: 0 }),
        }
        tell(&mut seats, Some(name), &json!({"kind": "joined", "name": name}));
        Ok(others)
    }

    pub(crate) fn leave(&self, name: &str) {
        let mut seats = self.seats();
        seats.remove(name);
        tell(&mut seats, None, &json!({"kind": "left", "name": name}));
    }

    /// Also the member itself hears it: all see all lines in the same order.
    pub(crate) fn say(&self, name: &str, text: &str) {
        tell(&mut self.seats(), None, &json!({"kind": "said", "name": name, "text": text}));
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends an event without waiting, so that a member that does not read holds up no other. Such a member misses events. It is
/// told how many before it gets the next event.
fn tell(seats: &mut BTreeMap<String, Seat>, except: Option<&str>, event: &Value) {
    let event: Arc<str> = event.to_string().into();
    for (_, Seat { mailbox, missed }) in seats.iter_mut().filter(|(name, _)| Some(&***name) != except) {
        let notice = || json!({"kind": "missed", "count": *missed}).to_string().into();
        if *missed > 0 && mailbox.try_send(notice()).is_ok() {
            *missed = 0;
        }
        if *missed > 0 || mailbox.try_send(event.clone()).is_err() {
            *missed += 1;
        }
    }
}
