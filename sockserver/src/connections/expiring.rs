//! What is remembered of many clients, each for its time.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use super::limits::Client;

/// So many clients are remembered at most. Above that, the one whose time ends first is forgotten.
const CAPACITY: usize = 65_536;

/// A value for each of a bounded number of clients, which is forgotten at some time.
pub(super) struct Expiring<T> {
    values: HashMap<Client, (Instant, T)>,
    /// The same clients by the ends of their times.
    ends: BTreeSet<(Instant, Client)>,
}

impl<T> Default for Expiring<T> {
    fn default() -> Expiring<T> {
        Expiring { values: HashMap::new(), ends: BTreeSet::new() }
    }
}

impl<T> Expiring<T> {
    /// Replaces what was remembered of the client.
    pub(super) fn insert(&mut self, client: Client, end: Instant, value: T, now: Instant) {
        self.remove(client);
        while let Some(&(its_end, first)) = self.ends.first()
            && (its_end <= now || self.ends.len() >= CAPACITY)
        {
            self.remove(first);
        }
        self.values.insert(client, (end, value));
        self.ends.insert((end, client));
    }

    /// Returns the end of its time.
    pub(super) fn remove(&mut self, client: Client) -> Option<Instant> {
        let (end, _) = self.values.remove(&client)?;
        self.ends.remove(&(end, client));
        Some(end)
    }

    /// The end of its time, which may be over.
    pub(super) fn end(&self, client: Client) -> Option<Instant> {
        self.values.get(&client).map(|(end, _)| *end)
    }

    /// What is remembered. The client whose time ends first is the first.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = (Instant, &T)> {
        let lasting = self.ends.iter().filter(move |(end, _)| *end > now);
        lasting.filter_map(|(_, client)| self.values.get(client).map(|(end, value)| (*end, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;

    #[test]
    fn the_table_is_bounded() {
        let mut table = Expiring::default();
        let now = Instant::now();
        for number in 0..=CAPACITY as u32 {
            let client = Client::Network(IpAddr::from(number.to_be_bytes()));
            table.insert(client, now + Duration::from_secs(3600 + u64::from(number)), number, now);
        }
        assert_eq!(table.iter(now).count(), CAPACITY);
        assert_eq!(table.iter(now).next().map(|(_, number)| *number), Some(1), "the first was forgotten");
    }

    #[test]
    fn what_is_over_makes_room() {
        let mut table = Expiring::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        table.insert(Client::User(1), later, (), now);
        table.insert(Client::User(2), later + Duration::from_secs(1), (), later);
        assert_eq!((table.values.len(), table.ends.len()), (1, 1));
        assert_eq!(table.end(Client::User(1)), None);
    }
}
