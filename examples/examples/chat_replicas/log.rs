//! What was said: a Redis stream, whose end each replica has in memory.

use std::{
    collections::VecDeque,
    fmt, io,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::redis::{Redis, Reply};

/// The stream, in which each line has the field `line`.
pub(crate) const LINES: &str = "chat:lines";

/// How many lines a replica has in memory, for the members that are not far behind.
const IN_MEMORY: usize = 1000;

/// How many lines are asked of Redis at once.
const AT_ONCE: usize = 100;

/// A line's place in the stream: a time in milliseconds and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64, u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Id {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Id> {
        let parts = text.split_once('-').and_then(|(time, number)| Some(Id(time.parse().ok()?, number.parse().ok()?)));
        parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no place in the chat")))
    }
}

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) id: Id,
    pub(crate) text: Arc<str>,
}

pub(crate) struct Log {
    /// For what members ask.
    redis: Arc<Redis>,
    end: Mutex<End>,
}

/// The end of the stream, as far as this replica has seen it.
struct End {
    /// All later lines are here.
    after: Id,
    lines: VecDeque<Line>,
}

impl Log {
    /// Knows no line, and follows the stream from its present end on.
    pub(crate) fn new(redis: Arc<Redis>) -> io::Result<Log> {
        let last = lines(redis.call(&["XREVRANGE", LINES, "+", "-", "COUNT", "1"])?)?.pop();
        let after = last.map(|line| line.id).unwrap_or_default();
        Ok(Log { redis, end: Mutex::new(End { after, lines: VecDeque::new() }) })
    }

    /// The next lines after this one, some of them if they are many. None if there are none yet.
    pub(crate) fn after(&self, id: Id) -> io::Result<Vec<Line>> {
        {
            let end = self.end();
            if id >= end.after {
                let seen = end.lines.partition_point(|line| line.id <= id);
                return Ok(end.lines.range(seen..).take(AT_ONCE).cloned().collect());
            }
        }
        lines(self.redis.call(&["XRANGE", LINES, &format!("({id}"), "+", "COUNT", &AT_ONCE.to_string()])?)
    }

    /// The last lines.
    pub(crate) fn last(&self, count: usize) -> io::Result<Vec<Line>> {
        let mut last = lines(self.redis.call(&["XREVRANGE", LINES, "+", "-", "COUNT", &count.to_string()])?)?;
        last.reverse();
        Ok(last)
    }

    /// Takes each new line of the stream, by a connection of its own, and calls `arrived` after some; and `each_time` now and
    /// then. While Redis cannot be reached, it tries again.
    pub(crate) fn follow(&self, redis: &Redis, arrived: impl Fn(), every: Duration, each_time: impl Fn(&Redis)) -> ! {
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                each_time(redis);
                due = now + every;
            }
            match self.read_on(redis) {
                Ok(0) => {}
                Ok(_) => arrived(),
                Err(error) => {
                    eprintln!("chat_replicas: following the chat: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn read_on(&self, redis: &Redis) -> io::Result<usize> {
        let last = {
            let end = self.end();
            end.lines.back().map_or(end.after, |line| line.id)
        };
        let streams =
            redis.try_call(&["XREAD", "COUNT", "1000", "BLOCK", "1000", "STREAMS", LINES, &last.to_string()])?;
        let Some(Reply::Array(stream)) = streams.into_array().pop() else { return Ok(0) };
        let new = stream.into_iter().nth(1).map(lines).transpose()?.unwrap_or_default();
        let count = new.len();
        let mut end = self.end();
        end.lines.extend(new);
        while end.lines.len() > IN_MEMORY {
            end.after = end.lines.pop_front().map_or(end.after, |line| line.id);
        }
        Ok(count)
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of a reply: each is an array of its id and its fields.
fn lines(reply: Reply) -> io::Result<Vec<Line>> {
    let line = |reply: Reply| {
        let mut parts = reply.into_array().into_iter();
        let id = parts.next().map(Reply::into_text).unwrap_or_default().parse()?;
        let text = parts.next().and_then(|fields| fields.into_array().pop()).map(Reply::into_text).unwrap_or_default();
        Ok(Line { id, text: text.into() })
    };
    reply.into_array().into_iter().map(line).collect()
}
