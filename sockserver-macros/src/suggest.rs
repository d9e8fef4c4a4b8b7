//! "Did you mean", and the list of what is allowed.

/// The candidate that `word` most likely stands for, if one is like it.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let distance = distance(&word, &candidate);
        let (length, of_candidate) = (word.chars().count(), candidate.chars().count());
        let is_alike = length >= 4 && (has_part(&candidate, &word) || has_part(&word, &candidate));
        (is_alike || distance <= length.max(of_candidate) / 3).then_some(distance)
    };
    let alike = candidates.into_iter().filter_map(|candidate| Some((likeness(candidate)?, candidate)));
    alike.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Whether the word begins with the part, or has it between its underscores.
fn has_part(word: &str, part: &str) -> bool {
    word.starts_with(part) || format!("_{word}_").contains(&format!("_{part}_"))
}

/// The number of letters to insert, remove, replace or swap with their neighbour (the optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// "`a`, `b` or `c`", where `last` is the "or".
pub(crate) fn listed(words: impl IntoIterator<Item = String>, last: &str) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.pop() {
        Some(end) if !words.is_empty() => format!("{} {last} {end}", words.join(", ")),
        end => end.unwrap_or_default(),
    }
}

/// To be written before the rest of a message.
pub(crate) fn did_you_mean(code: &str) -> String {
    format!("did you mean `{code}`? ")
}

pub(crate) fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_recognised() {
        let words = ["tcp", "udp", "unix", "unix_datagram"];
        for (typed, meant) in
            [("tpc", "tcp"), ("TCP", "tcp"), ("tcp4", "tcp"), ("unx", "unix"), ("unix-datagram", "unix_datagram")]
        {
            assert_eq!(closest(typed, words), Some(meant), "{typed}");
        }
        assert_eq!(closest("fork", ["threading", "forking"]), Some("forking"));
        assert_eq!(closest("threads", ["threading", "forking"]), Some("threading"));
    }

    #[test]
    fn a_part_of_a_word_stands_for_it() {
        let words = ["request_queue_size", "allow_reuse_port", "nodelay", "event", "server_close", "handle_error"];
        for (typed, meant) in [
            ("reuse_port", "allow_reuse_port"),
            ("tcp_nodelay", "nodelay"),
            ("on_event", "event"),
            ("close", "server_close"),
            ("error", "handle_error"),
        ] {
            assert_eq!(closest(typed, words), Some(meant), "{typed}");
        }
        assert_eq!(closest("max", ["max_packet_size"]), None);
        assert_eq!(closest("port", ["transport"]), None);
        assert_eq!(closest("µs", ["s", "ms"]), None, "letters count, not bytes");
    }

    #[test]
    fn a_word_like_none_gets_no_suggestion() {
        for typed in ["", "x", "sctp2", "datagram_socket", "udt_"] {
            assert_eq!(closest(typed, ["tcp", "unix"]), None, "{typed}");
        }
    }

    #[test]
    fn lists_read_as_prose() {
        let list = |words: &[&str]| listed(words.iter().map(ToString::to_string), "or");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b"]), "`a` or `b`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
