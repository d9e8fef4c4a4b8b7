//! The keys, their values, and when they expire.

use std::{
    collections::{BTreeSet, HashMap},
    str,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Bytes that can be sent while others replace them.
pub(crate) type Value = Arc<[u8]>;

type Key = Arc<[u8]>;

#[derive(Default)]
pub(crate) struct Store {
    keys: Mutex<Keys>,
}

#[derive(Default)]
pub(crate) struct Keys {
    values: HashMap<Key, (Value, Option<Instant>)>,
    /// Each key that expires, the next one first.
    expiries: BTreeSet<(Instant, Key)>,
}

impl Store {
    /// The keys of this moment. Each command first removes the keys that have expired, so that none of them is seen, and
    /// none stays because no client asks for it.
    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove_expired();
        keys
    }
}

impl Keys {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Value> {
        self.values.get(key).map(|(value, _)| value.clone())
    }

    /// Sets a value, which does not expire.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.values.get_mut(key) {
            Some((old, None)) => *old = value.into(),
            _ => {
                self.delete(key);
                self.values.insert(key.into(), (value.into(), None));
            }
        }
    }

    /// Whether there was such a key.
    pub(crate) fn delete(&mut self, key: &[u8]) -> bool {
        match self.values.remove_entry(key) {
            Some((key, (_, expiry))) => {
                expiry.map(|expiry| self.expiries.remove(&(expiry, key)));
                true
            }
            None => false,
        }
    }

    /// Counts up a value that is a number. A key that is not there has 0. When it expires does not change.
    pub(crate) fn increment(&mut self, key: &[u8]) -> Result<i64, &'static str> {
        let number = match self.values.get(key) {
            Some((value, _)) => integer(value)?,
            None => 0,
        };
        let number = number.checked_add(1).ok_or("ERR increment or decrement would overflow")?;
        let value = number.to_string().into_bytes().into();
        match self.values.get_mut(key) {
            Some((old, _)) => *old = value,
            None => drop(self.values.insert(key.into(), (value, None))),
        }
        Ok(number)
    }

    /// Lets a key expire after this time, at once if it is zero. Whether there is such a key.
    pub(crate) fn expire(&mut self, key: &[u8], after: Duration) -> Option<bool> {
        let at = Instant::now().checked_add(after)?;
        let Some((key, _)) = self.values.get_key_value(key) else { return Some(false) };
        let key = key.clone();
        if let Some((_, expiry)) = self.values.get_mut(&key) {
            expiry.replace(at).map(|before| self.expiries.remove(&(before, key.clone())));
        }
        self.expiries.insert((at, key));
        Some(true)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// How many keys expire.
    pub(crate) fn expiring(&self) -> usize {
        self.expiries.len()
    }

    fn remove_expired(&mut self) {
        while let Some((expiry, key)) = self.expiries.first()
            && *expiry <= Instant::now()
        {
            self.values.remove(key);
            self.expiries.pop_first();
        }
    }
}

/// A value or an argument that is a number.
pub(crate) fn integer(word: &[u8]) -> Result<i64, &'static str> {
    let number = str::from_utf8(word).ok().and_then(|digits| digits.parse().ok());
    number.ok_or("ERR value is not an integer or out of range")
}
