//! The members' sessions in Redis, which any replica can go on with.
//!
//! A session is a hash with the key that its member comes back with, and how many lines the member has said. Each line has its
//! number, so that saying it once more changes nothing. Who is present is in a sorted set, by the time when that expires.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use crate::{
    log::LINES,
    redis::{Redis, Reply},
};

/// The sorted set.
const PRESENT: &str = "chat:present";

/// How often a replica says that its members are present. They expire after three times that.
pub(crate) const REFRESH: Duration = Duration::from_secs(20);

/// `KEYS`: the session, the members present, the lines. `ARGV`: the name, the key, whether the member comes back, how long
/// it is present. Returns how many lines it has said, and who is here; or nothing if the name is another's.
const JOIN: &str = "
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    local here = redis.call('ZRANGE', KEYS[2], 0, -1)
    if redis.call('HGET', KEYS[1], 'key') ~= ARGV[2] then
        if ARGV[3] == '1' or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return false end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], 'key', ARGV[2], 'said', '0')
        redis.call('XADD', KEYS[3], '*', 'line', '* ' .. ARGV[1] .. ' has joined')
    end
    redis.call('EXPIRE', KEYS[1], 86400)
    redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
    return {redis.call('HGET', KEYS[1], 'said'), here}";

/// `KEYS`: the session, the lines. `ARGV`: the key, the number of the line, the line. Returns nothing if the session is over.
const SAY: &str = "
    if redis.call('HGET', KEYS[1], 'key') ~= ARGV[1] then return false end
    if tonumber(redis.call('HGET', KEYS[1], 'said')) < tonumber(ARGV[2]) then
        redis.call('HSET', KEYS[1], 'said', ARGV[2])
        redis.call('XADD', KEYS[2], 'MAXLEN', '~', '100000', '*', 'line', ARGV[3])
    end
    return 1";

/// `KEYS`: the session, the members present, the lines. `ARGV`: the name, the key.
const LEAVE: &str = "
    if redis.call('HGET', KEYS[1], 'key') ~= ARGV[2] then return false end
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('XADD', KEYS[3], '*', 'line', '* ' .. ARGV[1] .. ' has left')
    return 1";

/// `KEYS`: the members present. `ARGV`: how long they are, and their names.
const REFRESH_ALL: &str = "
    local now = tonumber(redis.call('TIME')[1])
    for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
    return 1";

pub(crate) struct Session {
    redis: Arc<Redis>,
    pub(crate) name: String,
    pub(crate) key: String,
    /// How many lines its member has said.
    pub(crate) said: u64,
    /// Who was here before.
    pub(crate) others: Vec<String>,
}

impl Session {
    /// Begins a session, or goes on with that of this key. `None`: the name or the key is not this member's.
    pub(crate) fn join(redis: &Arc<Redis>, name: &str, key: Option<&str>) -> io::Result<Option<Session>> {
        let comes_back = if key.is_some() { "1" } else { "0" };
        let key = key.map_or_else(new_key, |key| Ok(key.to_owned()))?;
        let present = (3 * REFRESH.as_secs()).to_string();
        let hash = hash(name);
        let reply = redis.call(&["EVAL", JOIN, "3", &hash, PRESENT, LINES, name, &key, comes_back, &present])?;
        let mut parts = reply.into_array().into_iter();
        let (Some(said), Some(others)) = (parts.next(), parts.next()) else { return Ok(None) };
        let said = said.into_text().parse().map_err(io::Error::other)?;
        let others = others.into_array().into_iter().map(Reply::into_text).filter(|other| other != name).collect();
        Ok(Some(Session { redis: redis.clone(), name: name.to_owned(), key, said, others }))
    }

    /// Says one more line. `false`: the session is over.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<bool> {
        let number = (self.said + 1).to_string();
        let line = format!("<{}> {text}", self.name);
        let reply = self.redis.call(&["EVAL", SAY, "2", &hash(&self.name), LINES, &self.key, &number, &line])?;
        self.said += 1;
        Ok(!matches!(reply, Reply::Nil))
    }

    pub(crate) fn leave(&self) -> io::Result<()> {
        self.redis.call(&["EVAL", LEAVE, "3", &hash(&self.name), PRESENT, LINES, &self.name, &self.key])?;
        Ok(())
    }
}

/// Says that these members are present.
pub(crate) fn refresh(redis: &Redis, names: &[String]) -> io::Result<()> {
    let present = (3 * REFRESH.as_secs()).to_string();
    let words = ["EVAL", REFRESH_ALL, "1", PRESENT, &present];
    redis.try_call(&words.into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>())?;
    Ok(())
}

fn hash(name: &str) -> String {
    format!("chat:member:{name}")
}

/// Hard to guess.
fn new_key() -> io::Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}
