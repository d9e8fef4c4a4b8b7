//! The values that keys take.

use crate::suggest::{closest, listed};
use proc_macro2::TokenTree;
use std::time::Duration;
use syn::{Ident, Lit, LitBool, LitInt, Path, Token, TypePath, ext::IdentExt, parse::ParseStream};

/// The kind of value that a key takes.
pub(crate) enum Takes {
    /// One of some words.
    Choice(&'static Choices),
    /// The path of a type, a function or a crate; with an example of one.
    Path(&'static str),
    Flag,
    Count,
    /// A number of bytes.
    Size,
    Duration,
    /// The permissions of a file.
    Mode,
}

pub(crate) struct Choices {
    /// The module or enum of the runtime crate that has what the words stand for.
    pub(crate) home: &'static str,
    pub(crate) choices: &'static [Choice],
    /// Whether the path of a user's own type may stand in place of a word.
    pub(crate) own: bool,
}

pub(crate) struct Choice {
    pub(crate) word: &'static str,
    /// The name in [`Choices::home`]; none while it is only planned.
    pub(crate) name: Option<&'static str>,
}

pub(crate) enum Value {
    Choice(&'static Choices, &'static Choice),
    Path(TypePath),
    Flag(LitBool),
    Number(u64),
    Duration(Duration),
    Mode(LitInt),
}

impl Takes {
    pub(crate) fn parse(&self, input: ParseStream<'_>) -> syn::Result<Value> {
        let wrong = |hint: &str| format!("expected {}{hint}", self.expected());
        if let Takes::Path(_) | Takes::Choice(Choices { own: true, .. }) = self
            && !input.peek(Lit)
        {
            if input.peek(Token![|]) {
                return Err(closure(input, &wrong("; a closure has no path: write a method")));
            }
            let start = input.span();
            let path: TypePath = input.parse().map_err(|error: syn::Error| {
                // The end of the input has no place: it would be reported on the macro.
                syn::Error::new(if input.is_empty() { start } else { error.span() }, wrong(""))
            })?;
            return match self.unquoted(&path.path) {
                Some(word) => Err(syn::Error::new_spanned(path, wrong(&did_you_mean(&quoted(word))))),
                None => Ok(Value::Path(path)),
            };
        }
        let Ok(literal) = input.parse::<Lit>() else {
            let name = input.fork().call(Ident::parse_any);
            return Err(input.error(wrong(&name.map(|name| self.read_name(&name.to_string())).unwrap_or_default())));
        };
        self.read(&literal).map_err(|hint| syn::Error::new_spanned(&literal, wrong(&hint)))
    }

    /// A value in the attribute, to show how it is written.
    pub(crate) fn example(&self) -> String {
        match self {
            Takes::Choice(choices) => quoted(choices.choices[0].word),
            Takes::Path(example) => example.to_string(),
            Takes::Flag => "true".to_string(),
            Takes::Count => "100".to_string(),
            Takes::Size => "\"64KiB\"".to_string(),
            Takes::Duration => "\"30s\"".to_string(),
            Takes::Mode => "0o660".to_string(),
        }
    }

    fn expected(&self) -> String {
        match self {
            Takes::Choice(choices) => choices.expected(),
            Takes::Path(example) => format!("a path without quotes, like `{example}`"),
            Takes::Flag => "`true` or `false`".to_string(),
            Takes::Count => format!("an integer of at most {}, like `100`", u32::MAX),
            Takes::Size => {
                "a size: an integer of bytes, like `8192`, or one with a unit in quotes, like `\"64KiB\"`, \
                 `\"1MiB\"` or `\"1GiB\"`"
            }
            .to_string(),
            Takes::Duration => {
                { "a duration: an integer with a unit in quotes, like `\"250ms\"`, `\"30s\"`, `\"5m\"` or `\"1h\"`" }
                    .to_string()
            }
            Takes::Mode => "the permissions of a file in octal, like `0o660`, of at most `0o777`".to_string(),
        }
    }

    pub(crate) fn is_choice(&self, word: &str) -> bool {
        matches!(self, Takes::Choice(choices) if choices.available().any(|choice| choice == word))
    }

    /// The word for which the quotes were forgotten.
    fn unquoted(&self, path: &Path) -> Option<&'static str> {
        let Takes::Choice(choices) = self else { return None };
        choices.choices.iter().map(|choice| choice.word).find(|word| path.is_ident(word))
    }

    /// The hint to append for a name where a literal belongs.
    fn read_name(&self, name: &str) -> String {
        match self {
            Takes::Choice(choices) => choices.hint(name),
            Takes::Flag => closest(name, ["true", "false"]).map(did_you_mean).unwrap_or_default(),
            _ => "; a macro does not know the value of a constant".to_string(),
        }
    }

    /// The error is a hint to append.
    fn read(&self, literal: &Lit) -> Result<Value, String> {
        match (self, literal) {
            (Takes::Choice(choices), Lit::Str(text)) => choices.read(&text.value()),
            (Takes::Flag, Lit::Bool(flag)) => Ok(Value::Flag(flag.clone())),
            (Takes::Flag, Lit::Str(text)) => Err(self.read_name(&text.value())),
            (Takes::Count, Lit::Int(number)) if number.suffix().is_empty() => {
                number.base10_parse::<u32>().map(|number| Value::Number(number.into())).map_err(|_| String::new())
            }
            (Takes::Count | Takes::Size, Lit::Str(text)) if let Ok(number) = text.value().parse::<u64>() => {
                Err(did_you_mean(&number.to_string()))
            }
            (Takes::Size, Lit::Int(number)) if number.suffix().is_empty() => {
                number.base10_parse().map(Value::Number).map_err(|_| String::new())
            }
            (Takes::Size, _) => measure(literal, SIZES).map(Value::Number),
            (Takes::Duration, _) => {
                let in_one_unit = |hint| in_one_unit(literal).map_or(hint, |text| did_you_mean(&quoted(&text)));
                measure(literal, TIMES).map(Duration::from_millis).map(Value::Duration).map_err(in_one_unit)
            }
            (Takes::Mode, Lit::Int(number)) => mode(number),
            _ => Err(String::new()),
        }
    }
}

/// Passes over the parameters, whose commas would be taken for those of the attribute.
fn closure(input: ParseStream<'_>, message: &str) -> syn::Error {
    let error = input.error(message);
    let _ = input.parse::<Token![|]>();
    while !input.peek(Token![|]) && input.parse::<TokenTree>().is_ok() {}
    error
}

impl Choices {
    pub(crate) fn expected(&self) -> String {
        let words = listed(self.available().map(quoted), "or");
        if self.own { format!("{words}, or the path of a type of your own") } else { words }
    }

    fn read(&'static self, word: &str) -> Result<Value, String> {
        match self.choices.iter().find(|choice| choice.word == word) {
            Some(Choice { name: None, .. }) => Err(format!("; `{}` is planned, but not there yet", quoted(word))),
            Some(choice) => Ok(Value::Choice(self, choice)),
            None => Err(self.hint(word)),
        }
    }

    fn hint(&self, word: &str) -> String {
        closest(word, self.available()).map(|word| did_you_mean(&quoted(word))).unwrap_or_default()
    }

    fn available(&self) -> impl Iterator<Item = &'static str> {
        self.choices.iter().filter(|choice| choice.name.is_some()).map(|choice| choice.word)
    }
}

impl Value {
    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Value::Number(0) | Value::Duration(Duration::ZERO))
    }

    pub(crate) fn is_longer(&self, than: Duration) -> bool {
        matches!(self, Value::Duration(duration) if *duration > than)
    }
}

/// The units of a quantity with how many of the smallest each is.
type Units = [(&'static str, u64)];

const SIZES: &Units = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: &Units = &[("s", 1000), ("ms", 1), ("m", 60_000), ("h", 3_600_000)];

/// Reads a number and its unit. The error is a hint to append.
fn measure(literal: &Lit, units: &Units) -> Result<u64, String> {
    let text = written(literal).ok_or_else(String::new)?;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let Ok(number) = number.parse::<u64>() else { return Err(String::new()) };
    let mut names = units.iter().map(|(name, _)| *name);
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) if matches!(literal, Lit::Str(_)) => {
            number.checked_mul(*factor).ok_or_else(|| "; this is too much".to_string())
        }
        _ => {
            let unit = if unit.is_empty() { names.next() } else { closest(unit.trim(), names) };
            Err(unit.map(|unit| did_you_mean(&quoted(&format!("{number}{unit}")))).unwrap_or_default())
        }
    }
}

/// What a sum of times, like `1h30m`, is in the smallest of its units. A day, which is no unit here, is 24 hours.
fn in_one_unit(literal: &Lit) -> Option<String> {
    let text = written(literal)?;
    let mut rest = text.as_str();
    let mut milliseconds = 0_u64;
    let mut units = Vec::new();
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let (times, name) = if unit.trim() == "d" { (24, "h") } else { (1, unit.trim()) };
        let unit = TIMES.iter().find(|unit| unit.0 == name)?;
        milliseconds = number.parse::<u64>().ok()?.checked_mul(times * unit.1)?.checked_add(milliseconds)?;
        units.push(unit);
        rest = tail;
    }
    let (name, factor) = units.into_iter().min_by_key(|unit| unit.1)?;
    Some(format!("{}{name}", milliseconds / factor))
}

/// The text of a literal that may stand for a quantity.
fn written(literal: &Lit) -> Option<String> {
    match literal {
        Lit::Str(text) => Some(text.value()),
        Lit::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Only octal says what it means: the decimal `660` would be `0o1224`. The error is a hint to append.
fn mode(number: &LitInt) -> Result<Value, String> {
    let text = number.to_string().replace('_', "");
    let permissions = |digits: &str| u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    match (text.strip_prefix("0o").and_then(permissions), permissions(&text)) {
        (Some(_), _) => Ok(Value::Mode(number.clone())),
        (None, Some(meant)) => Err(did_you_mean(&format!("0o{meant:o}"))),
        (None, None) => Err(String::new()),
    }
}

fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

fn did_you_mean(word: &str) -> String {
    format!("; did you mean `{word}`?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composition::TRANSPORT;
    use syn::parse::Parser;

    fn parse(takes: &Takes, text: &str) -> Result<Value, String> {
        let parser = |input: ParseStream<'_>| takes.parse(input);
        parser.parse_str(text).map_err(|error| error.to_string())
    }

    /// What is suggested in place of a wrong value.
    fn suggestion(takes: &Takes, text: &str) -> Option<String> {
        let Err(message) = parse(takes, text) else { panic!("{text} is right") };
        assert!(message.starts_with("expected "), "{message}");
        message.split_once("; did you mean `")?.1.strip_suffix("`?").map(str::to_string)
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, milliseconds) in
            [(r#""250ms""#, 250), (r#""30s""#, 30_000), (r#""5m""#, 300_000), (r#""1h""#, 3_600_000), (r#""0s""#, 0)]
        {
            let value = parse(&Takes::Duration, text);
            assert!(matches!(value, Ok(Value::Duration(it)) if it == Duration::from_millis(milliseconds)), "{text}");
        }
        for (text, meant) in [("30", "30s"), ("30s", "30s"), (r#""30""#, "30s"), (r#""5 M""#, "5m")] {
            assert_eq!(suggestion(&Takes::Duration, text), Some(format!("\"{meant}\"")), "{text}");
        }
        for (text, meant) in
            [("1h30m", "90m"), ("1m 500ms", "60500ms"), ("1d", "24h"), ("1d12h", "36h"), ("60 s", "60s")]
        {
            assert_eq!(suggestion(&Takes::Duration, &quoted(text)), Some(quoted(meant)), "{text}");
        }
        for text in
            [r#""1.5s""#, "1.5", r#""s""#, r#""""#, r#""-1s""#, "-1", r#""1us""#, "true", r#""18446744073709551616ms""#]
        {
            assert_eq!(suggestion(&Takes::Duration, text), None, "{text}");
        }
        assert!(parse(&Takes::Duration, r#""18446744073709551615h""#).is_err_and(|error| error.ends_with("too much")));
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in
            [("8192", 8192), ("0x20", 32), (r#""1KiB""#, 1024), (r#""2MiB""#, 2 << 20), (r#""1GiB""#, 1 << 30)]
        {
            assert!(matches!(parse(&Takes::Size, text), Ok(Value::Number(it)) if it == bytes), "{text}");
        }
        for (text, meant) in [(r#""8192""#, "8192"), ("64KiB", r#""64KiB""#), (r#""64kb""#, r#""64KiB""#)] {
            assert_eq!(suggestion(&Takes::Size, text), Some(meant.to_string()), "{text}");
        }
        for text in ["-1", "8192u32", "1.0", r#""64 bits""#, "18446744073709551616"] {
            assert_eq!(suggestion(&Takes::Size, text), None, "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        for text in ["0o660", "0o0", "0o777"] {
            assert!(matches!(parse(&Takes::Mode, text), Ok(Value::Mode(mode)) if mode.to_string() == text), "{text}");
        }
        for (text, meant) in [("660", "0o660"), ("0600", "0o600"), ("7", "0o7"), ("0", "0o0")] {
            assert_eq!(suggestion(&Takes::Mode, text), Some(meant.to_string()), "{text}");
        }
        for text in ["0o1777", "1777", "680", "0x1b0", r#""0660""#] {
            assert_eq!(suggestion(&Takes::Mode, text), None, "{text}");
        }
    }

    #[test]
    fn a_choice_is_a_word_in_quotes_or_a_type() {
        let takes = Takes::Choice(&TRANSPORT);
        assert!(matches!(parse(&takes, r#""udp""#), Ok(Value::Choice(_, Choice { word: "udp", .. }))));
        assert!(matches!(parse(&takes, "my::Tcp<u8, Vec<u8>>"), Ok(Value::Path(_))));
        assert_eq!(suggestion(&takes, "udp").as_deref(), Some("\"udp\""));
        assert_eq!(suggestion(&takes, r#""Unix""#).as_deref(), Some("\"unix\""));
        assert_eq!(suggestion(&takes, "1"), None);
    }
}
