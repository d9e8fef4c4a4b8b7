//! Who has subscribed to what, and what is retained.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sockserver::{ConnectionId, Sender};

use crate::packet::Publish;

#[derive(Default)]
pub(crate) struct Broker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: HashMap<ConnectionId, Subscriber>,
    /// The last message of each topic that was published to stay.
    retained: BTreeMap<String, Arc<Publish>>,
}

struct Subscriber {
    /// Empty: it has not said one.
    name: String,
    mailbox: Sender<Arc<Publish>>,
    filters: HashSet<String>,
}

/// More topics than this are not retained.
const MAX_RETAINED: usize = 10_000;

impl Broker {
    /// Adds a device, and returns the connection that it had before.
    pub(crate) fn join(&self, id: ConnectionId, name: String, mailbox: Sender<Arc<Publish>>) -> Option<ConnectionId> {
        let mut state = self.state();
        let before = state.devices.iter().find(|(_, device)| !name.is_empty() && device.name == name);
        let before = before.map(|(id, _)| *id);
        state.devices.insert(id, Subscriber { name, mailbox, filters: HashSet::new() });
        before
    }

    pub(crate) fn leave(&self, id: ConnectionId) {
        self.state().devices.remove(&id);
    }

    /// Subscribes to filters, and returns what is retained for them.
    pub(crate) fn subscribe(&self, id: ConnectionId, filters: Vec<String>) -> Vec<Arc<Publish>> {
        let mut state = self.state();
        let matching = state.retained.iter().filter(|(topic, _)| filters.iter().any(|filter| matches(filter, topic)));
        let retained = matching.map(|(_, publish)| publish.clone()).collect();
        if let Some(device) = state.devices.get_mut(&id) {
            device.filters.extend(filters);
        }
        retained
    }

    pub(crate) fn unsubscribe(&self, id: ConnectionId, filters: &[String]) {
        if let Some(device) = self.state().devices.get_mut(&id) {
            device.filters.retain(|filter| !filters.contains(filter));
        }
    }

    /// A device that does not read misses messages, and holds up no other.
    pub(crate) fn publish(&self, publish: Publish) {
        let publish = Arc::new(publish);
        let mut state = self.state();
        for device in state.devices.values() {
            if device.filters.iter().any(|filter| matches(filter, &publish.topic)) {
                let _ = device.mailbox.try_send(publish.clone());
            }
        }
        if publish.is_retained {
            let is_known = state.retained.contains_key(&publish.topic);
            match publish.payload.is_empty() {
                true => _ = state.retained.remove(&publish.topic),
                false if is_known || state.retained.len() < MAX_RETAINED => {
                    state.retained.insert(publish.topic.clone(), publish);
                }
                false => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a topic is one of those that a filter names: `+` stands for one level, and `#` for all that follow.
fn matches(filter: &str, topic: &str) -> bool {
    // The server's own topics are asked for by name only.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether the wildcards of a filter are whole levels, and `#` the last.
pub(crate) fn is_filter(filter: &str) -> bool {
    let levels: Vec<_> = filter.split('/').collect();
    !filter.is_empty()
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "+" => true,
            "#" => at + 1 == levels.len(),
            level => !level.contains(['+', '#']),
        })
}
