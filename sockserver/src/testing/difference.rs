//! What a test has expected, beside what has come.

use std::fmt;

/// Displays what was expected and what has come, one below the other, with a mark below the first byte that differs.
pub(super) struct Difference<'a> {
    pub(super) expected: &'a [u8],
    pub(super) received: &'a [u8],
}

/// How many bytes before the first one that differs are shown, and how many from there on.
const BEFORE: usize = 30;
const BEHIND: usize = 70;

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same =
            self.expected.iter().zip(self.received).take_while(|(expected, received)| expected == received).count();
        let start = same.saturating_sub(BEFORE);
        let ellipsis = if start > 0 { "…" } else { "" };
        let shown = |bytes: &[u8]| {
            let end = bytes.len().min(same + BEHIND);
            let more = if end < bytes.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
            format!("\"{ellipsis}{}\"{more}", bytes[start..end].escape_ascii())
        };
        let mark = self.expected[start..same].escape_ascii().to_string().len() + ellipsis.chars().count() + 1;
        writeln!(f, "  expected: {}", shown(self.expected))?;
        writeln!(f, "  received: {}", shown(self.received))?;
        write!(f, "            {:mark$}^", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_is_marked() {
        let difference = Difference { expected: b"HELLO\r\n", received: b"HELL0\r\n" }.to_string();
        let lines = ["  expected: \"HELLO\\r\\n\"", "  received: \"HELL0\\r\\n\"", "                 ^"];
        assert_eq!(difference, lines.join("\n"));
    }

    #[test]
    fn what_is_the_same_for_long_is_cut() {
        let expected = [[b'x'; 100].as_slice(), b"end"].concat();
        let difference = Difference { expected: &expected, received: &[b'x'; 100] }.to_string();
        let xs = "x".repeat(30);
        assert_eq!(
            difference,
            format!("  expected: \"…{xs}end\"\n  received: \"…{xs}\"\n            {}^", " ".repeat(32))
        );
    }
}
