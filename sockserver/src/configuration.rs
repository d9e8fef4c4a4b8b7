//! Options from a configuration file, in any format that serde reads: the words are those of the attributes.

use std::{cell::Cell, collections::BTreeSet, fmt, str::FromStr, time::Duration};

use serde_core::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

#[cfg(feature = "tls")]
use crate::options::{ClientAuth, TlsStart, TlsVersions};
use crate::{
    address::Address,
    options::{OnLimit, Options, ProxyVersions, UntrustedPeer},
};

/// A key of an attribute.
struct Key {
    /// Empty for a key in no group.
    group: &'static str,
    name: &'static str,
    takes: &'static str,
    /// Returns `None` for a value that the key does not take. `None`: only the program can say this.
    set: Option<fn(&mut Options, &Given) -> Option<()>>,
}

static KEYS: &[Key] = &sockserver_macros::configured_options!();

/// The units of a quantity, with how many of the smallest each is.
const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

impl Options {
    /// These options, changed as a configuration says, in the words of the attributes: usually those of
    /// [`Server::OPTIONS`](crate::Server::OPTIONS), so that the attribute has the defaults.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
    /// use std::time::Duration;
    ///
    /// #[request_handler(max_line = "1KiB")]
    /// #[server(transport = "tcp", concurrency = "threading", limits(connections = 500))]
    /// struct Chat {
    ///     wfile: Writer,
    /// }
    /// # impl RequestHandler for Chat {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file = r#"
    ///     limits = { per_client = 20, on_limit = "reject" }
    ///     timeouts.idle = "5m"
    ///
    ///     [handler]
    ///     max_line = "4KiB"
    /// "#;
    /// let options = ChatServer::OPTIONS.merge(toml::Deserializer::parse(file)?)?;
    /// assert_eq!(options.limits.connections, Some(500));
    /// assert_eq!(options.limits.per_client, Some(20));
    /// assert_eq!(options.timeouts.idle, Some(Duration::from_secs(300)));
    /// assert_eq!(options.handler.max_line, Some(4096));
    /// let server = ChatServer.bind_with("127.0.0.1:0", options)?;
    ///
    /// let mistake = ChatServer::OPTIONS.merge(toml::Deserializer::parse("timeouts.idle = 300")?);
    /// assert!(mistake.unwrap_err().to_string().contains("as `timeouts.idle` an integer with a unit in quotes"));
    /// # Ok(()) }
    /// ```
    ///
    /// In a configuration with more in it, a function for serde's `deserialize_with` calls this. Without one, a field of
    /// the type `Options` begins with [`Options::new`], and so does `#[serde(default)]` alone:
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
    /// # #[request_handler]
    /// # #[server(transport = "tcp", concurrency = "threading", limits(connections = 500))]
    /// # struct Chat {
    /// #     wfile: Writer,
    /// # }
    /// # impl RequestHandler for Chat {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    /// use serde::{Deserialize, Deserializer};
    /// use sockserver::Options;
    ///
    /// #[derive(Deserialize)]
    /// struct Configuration {
    ///     greeting: String,
    ///     #[serde(default = "defaults", deserialize_with = "options")]
    ///     server: Options,
    /// }
    ///
    /// /// For a file without `server`.
    /// fn defaults() -> Options {
    ///     ChatServer::OPTIONS
    /// }
    ///
    /// fn options<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
    ///     ChatServer::OPTIONS.merge(deserializer)
    /// }
    ///
    /// # fn main() -> Result<(), toml::de::Error> {
    /// let configuration: Configuration = toml::from_str("greeting = 'hello'\nserver.limits.per_client = 20")?;
    /// assert_eq!(configuration.server.limits.connections, Some(500));
    /// assert_eq!(configuration.server.limits.per_client, Some(20));
    /// # assert_eq!(configuration.greeting, "hello");
    /// # assert_eq!(toml::from_str::<Configuration>("greeting = 'hello'")?.server.limits.connections, Some(500));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the format; and an unknown key, a key that is given twice, a value that the attribute would refuse. What
    /// means nothing with the transport or the concurrency is refused by [`bind_with`](crate::Server::bind_with).
    pub fn merge<'de, D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Options, D::Error> {
        deserializer.deserialize_map(Group { name: "", options: &mut self })?;
        Ok(self)
    }
}

/// [`Options::new`], changed as the configuration says. See [`Options::merge`].
impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        Options::new().merge(deserializer)
    }
}

/// What [`FromStr`] takes.
impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        struct AddressVisitor;

        impl Visitor<'_> for AddressVisitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address in quotes, like `\"127.0.0.1:9999\"`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(AddressVisitor)
    }
}

/// Reads the values of one group. The group without a name has the other groups.
struct Group<'a> {
    name: &'static str,
    options: &'a mut Options,
}

impl<'de> Visitor<'de> for Group<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "" => write!(f, "the options of a server: {}", entries_of("")),
            name => write!(f, "as `{name}` a group of {}", entries_of(name)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(entry) = map.next_key_seed(EntryOf { group: self.name, seen: &mut seen })? {
            match entry {
                Entry::Group(name) => map.next_value_seed(Group { name, options: self.options })?,
                Entry::Key(key) => map.next_value_seed(ValueOf { key, options: self.options })?,
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Group<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// Reads a key of a group.
struct EntryOf<'a> {
    group: &'static str,
    /// The keys that the group has had.
    seen: &'a mut BTreeSet<&'static str>,
}

enum Entry {
    Group(&'static str),
    Key(&'static Key),
}

impl<'de> Visitor<'de> for EntryOf<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of the keys {}", entries_of(self.group))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Entry, E> {
        let group = self.group;
        let key = KEYS.iter().find(|key| key.group == group && key.name == name);
        let subgroup = groups().find(|subgroup| group.is_empty() && *subgroup == name);
        let (name, entry) = match (key, subgroup) {
            // `handler` is a group here: only the program can name the type.
            (_, Some(subgroup)) => (subgroup, Entry::Group(subgroup)),
            (Some(key), None) if key.set.is_some() => (key.name, Entry::Key(key)),
            _ => return Err(E::custom(unknown(group, name))),
        };
        match self.seen.insert(name) {
            true => Ok(entry),
            false => Err(E::custom(format_args!("`{}` is given twice", path(group, name)))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for EntryOf<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

/// What is wrong with a word that is no key of this group.
fn unknown(group: &str, name: &str) -> String {
    let known = || KEYS.iter().filter(|key| key.name == name);
    if known().any(|key| key.group == group) || (group.is_empty() && KEYS.iter().any(|key| key.group == name)) {
        return format!("`{}` is decided by the program, in `#[server(…)]`", path(group, name));
    }
    let homes: Vec<_> = known().filter(|key| key.set.is_some()).map(|key| format!("`{}`", key.path())).collect();
    let meant = if homes.is_empty() { String::new() } else { format!("did you mean {}? ", homes.join(" or ")) };
    let place = if group.is_empty() { "this configuration" } else { group };
    format!("unknown key `{name}`: {meant}{place} has the keys {}", entries_of(group))
}

/// Reads the value of a key.
struct ValueOf<'a> {
    key: &'static Key,
    options: &'a mut Options,
}

impl ValueOf<'_> {
    fn set<E: Error>(self, given: &Given, unexpected: Unexpected<'_>) -> Result<(), E> {
        let is_taken = self.key.set.and_then(|set| set(self.options, given)).is_some();
        let path = self.key.path();
        match self.options.refusals().find(|(refused, _)| *refused == path) {
            _ if !is_taken => Err(match given.mistake.take() {
                Some(mistake) => E::custom(format_args!("`{path}`: {mistake}")),
                None => E::invalid_value(unexpected, &self),
            }),
            Some((path, why)) => Err(E::custom(format_args!("`{path}` {why}"))),
            None => Ok(()),
        }
    }
}

impl<'de> Visitor<'de> for ValueOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as `{}` {}", self.key.path(), self.key.takes)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.set(&Value::Flag(flag).into(), Unexpected::Bool(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.set(&Value::Number(number).into(), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let mut list = Vec::new();
        while let Some(text) = sequence.next_element()? {
            list.push(text);
        }
        self.set(&Value::List(list).into(), Unexpected::Seq)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.set(&Value::Text(text.to_owned()).into(), Unexpected::Str(text))
    }
}

impl<'de> DeserializeSeed<'de> for ValueOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A value. Its methods read it as the kinds of values that keys take.
struct Given {
    value: Value,
    /// What is wrong with an entry of a list.
    mistake: Cell<Option<String>>,
}

/// A value, as the format has it.
enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

impl From<Value> for Given {
    fn from(value: Value) -> Given {
        Given { value, mistake: Cell::new(None) }
    }
}

impl Given {
    fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let Value::Text(text) = &self.value else { return None };
        words.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
    }

    fn parsed<T: FromStr>(&self) -> Option<T> {
        let Value::Text(text) = &self.value else { return None };
        text.parse().ok()
    }

    /// The list lasts as long as the program, as that of the attribute does.
    fn list<T: FromStr<Err: fmt::Display>>(&self) -> Option<&'static [T]> {
        let Value::List(texts) = &self.value else { return None };
        match texts.iter().map(|text| text.parse()).collect::<Result<Vec<T>, _>>() {
            Ok(entries) => Some(entries.leak()),
            Err(mistake) => {
                self.mistake.set(Some(mistake.to_string()));
                None
            }
        }
    }

    fn flag(&self) -> Option<bool> {
        if let Value::Flag(flag) = &self.value { Some(*flag) } else { None }
    }

    /// It lasts as long as the program, as that of an attribute does.
    fn text(&self) -> Option<&'static str> {
        if let Value::Text(text) = &self.value { Some(text.clone().leak()) } else { None }
    }

    #[cfg(feature = "tls")]
    fn texts(&self) -> Option<&'static [&'static str]> {
        let Value::List(texts) = &self.value else { return None };
        let texts: Vec<&'static str> = texts.iter().map(|text| &*text.clone().leak()).collect();
        Some(texts.leak())
    }

    /// At most `u32::MAX`, as in the attribute.
    fn count<T: TryFrom<u32>>(&self) -> Option<T> {
        let Value::Number(number) = &self.value else { return None };
        u32::try_from(*number).ok()?.try_into().ok()
    }

    fn size(&self) -> Option<usize> {
        match &self.value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => measure(text, &SIZES),
            Value::Flag(_) | Value::List(_) => None,
        }
        .and_then(|bytes| bytes.try_into().ok())
    }

    fn duration(&self) -> Option<Duration> {
        let Value::Text(text) = &self.value else { return None };
        measure(text, &TIMES).map(Duration::from_millis)
    }

    /// As a number where the format has octal ones, else in quotes.
    fn mode(&self) -> Option<u32> {
        match &self.value {
            Value::Number(mode) => u32::try_from(*mode).ok(),
            Value::Text(text) => u32::from_str_radix(text.strip_prefix("0o")?, 8).ok(),
            Value::Flag(_) | Value::List(_) => None,
        }
        .filter(|mode| *mode <= 0o777)
    }
}

/// Reads a number and its unit.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl Key {
    fn path(&self) -> String {
        path(self.group, self.name)
    }
}

fn path(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") }
}

/// The groups that a configuration can have.
fn groups() -> impl Iterator<Item = &'static str> {
    let groups = KEYS.iter().filter(|key| key.set.is_some()).map(|key| key.group).filter(|group| !group.is_empty());
    groups.collect::<BTreeSet<_>>().into_iter()
}

/// What a configuration can have in a group.
fn entries_of(group: &str) -> String {
    let keys = KEYS.iter().filter(|key| key.group == group && key.set.is_some()).map(|key| key.name);
    let entries = keys.chain(groups().filter(|_| group.is_empty())).map(|entry| format!("`{entry}`"));
    entries.collect::<Vec<_>>().join(", ")
}
