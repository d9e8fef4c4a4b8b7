//! What fits what: the transports, the concurrencies, and which key means something with which of them.

use crate::{
    attr::{self, Setting},
    errors::Errors,
    suggest::listed,
    value::{Choice, Choices, Value},
};

pub(crate) static TRANSPORT: Choices = Choices {
    home: "transport",
    choices: &[
        Choice { word: "tcp", name: Some("Tcp") },
        Choice { word: "udp", name: Some("Udp") },
        Choice { word: "unix", name: Some("Unix") },
        Choice { word: "unix_datagram", name: Some("UnixDatagram") },
    ],
    own: true,
};

pub(crate) static CONCURRENCY: Choices = Choices {
    home: "concurrency",
    choices: &[
        Choice { word: "sync", name: Some("Synchronous") },
        Choice { word: "threading", name: Some("Threading") },
        Choice { word: "pool", name: Some("Pool") },
        Choice { word: "forking", name: Some("Forking") },
        Choice { word: "coroutine", name: None },
    ],
    own: true,
};

/// A key that means something for some compositions only. Keys without a rule fit all.
struct Rule {
    keys: &'static [&'static str],
    /// The key whose word decides.
    of: &'static str,
    fits: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        keys: &["workers"],
        of: "concurrency",
        fits: &["pool"],
        because: "the others have no fixed number of threads (see `limits(connections = …)`)",
    },
    Rule {
        keys: &["stack_size"],
        of: "concurrency",
        fits: &["threading", "pool"],
        because: "the others start no threads",
    },
    Rule {
        keys: &["on_limit"],
        of: "concurrency",
        fits: &["threading", "pool", "forking"],
        because: "the one thread of `\"sync\"` is serving when the limit is reached, and can turn nobody away meanwhile",
    },
    Rule { keys: &["allow_threads"], of: "concurrency", fits: &["forking"], because: "the others do not fork" },
    Rule {
        keys: &["request_queue_size"],
        of: "transport",
        fits: &["tcp", "unix"],
        because: "a datagram socket has no queue of connections",
    },
    Rule {
        keys: &["allow_reuse_address"],
        of: "transport",
        fits: &["tcp"],
        because: "on udp it would let two servers share the port, one of them receiving nothing (see \
                  `allow_reuse_port`); a Unix socket is a file and has no port (see `unlink`)",
    },
    Rule {
        keys: &["allow_reuse_port"],
        of: "transport",
        fits: &["tcp", "udp"],
        because: "a Unix socket is a file and has no port; `unlink` says what becomes of an old one",
    },
    Rule { keys: &["nodelay", "keepalive"], of: "transport", fits: &["tcp"], because: "it is an option of TCP" },
    Rule { keys: &["only_v6"], of: "transport", fits: &["tcp", "udp"], because: "a Unix socket has no IP address" },
    Rule {
        keys: &["max_packet_size"],
        of: "transport",
        fits: &["udp", "unix_datagram"],
        because: "a stream has no packets; `#[request_handler(max_line = …)]` bounds a line",
    },
    Rule {
        keys: &["mode", "unlink"],
        of: "transport",
        fits: &["unix", "unix_datagram"],
        because: "an internet socket has no file",
    },
    Rule {
        keys: &["per_client"],
        of: "transport",
        fits: &["tcp", "udp"],
        because: "clients are told apart by their IP addresses, and Unix sockets have none",
    },
    Rule {
        keys: &["idle", "lifetime"],
        of: "transport",
        fits: &["tcp", "unix"],
        because: "a datagram has no connection that could stay open",
    },
];

/// Reports the keys that mean nothing with this transport or this concurrency. A type of the user's own fits all.
pub(crate) fn check(settings: &[Setting], errors: &mut Errors) {
    let chosen = |of: &str| match attr::value(settings, of)? {
        Value::Choice(_, choice) => Some(choice.word),
        _ => None,
    };
    for Setting { key, word, .. } in settings.iter().filter(|setting| setting.value.is_some()) {
        if let Some(rule) = RULES.iter().find(|rule| rule.keys.contains(&key.name))
            && let Some(choice) = chosen(rule.of)
            && !rule.fits.contains(&choice)
        {
            let fits = listed(rule.fits.iter().map(|word| format!("\"{word}\"")), "and");
            let message = format!(
                "`{word}` means nothing with `{of} = \"{choice}\"`, only with {fits}: {because}",
                of = rule.of,
                because = rule.because
            );
            errors.at(word, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::GRAMMAR;

    #[test]
    fn rules_speak_of_keys_and_words_that_exist() {
        for rule in RULES {
            let choices = if rule.of == "transport" { &TRANSPORT } else { &CONCURRENCY };
            for key in rule.keys {
                assert!(GRAMMAR.find(key).is_some(), "{key}");
                assert_eq!(RULES.iter().filter(|other| other.keys.contains(key)).count(), 1, "{key}");
            }
            for word in rule.fits {
                assert!(choices.choices.iter().any(|choice| choice.word == *word), "{word}");
            }
        }
    }
}
