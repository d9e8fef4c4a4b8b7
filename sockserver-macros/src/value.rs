//! The values that keys take.

use crate::suggest::{closest, did_you_mean, listed, quoted};
use proc_macro2::TokenTree;
use quote::ToTokens;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use syn::{
    Ident, Lit, LitBool, LitInt, LitStr, Token, TypePath, bracketed, ext::IdentExt, parse::ParseStream, token::Bracket,
};

/// The kind of value that a key takes. Where a value is data, a path is that of a constant.
pub(crate) enum Kind {
    Word(&'static Words),
    /// The path of a type, a function or a crate; with an example of one.
    Path(&'static str),
    /// The name of what the macro writes; with an example of one.
    Name(&'static str),
    Flag,
    Count,
    /// A number of bytes.
    Size,
    Duration,
    /// The permissions of a file.
    Mode,
    /// How often something may happen.
    Rate,
    /// A list of networks.
    Networks,
    /// A list of networks and `"unix"`.
    Proxies,
    /// Text; with an example of it.
    Text(&'static str),
    /// A list of texts; with an example of one.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only keys of TLS take it"))]
    Texts(&'static str),
}

pub(crate) struct Words {
    pub(crate) words: &'static [Word],
    /// The module or enum of the runtime crate that has what the words stand for.
    pub(crate) home: &'static str,
    /// The words stand for types, and the path of a user's own type may stand in place of one.
    pub(crate) are_types: bool,
    /// What others call so, with what is written here.
    pub(crate) synonyms: &'static [(&'static str, &'static str)],
}

pub(crate) struct Word {
    pub(crate) word: &'static str,
    /// What it stands for in [`Words::home`].
    pub(crate) name: &'static str,
}

#[derive(Clone)]
pub(crate) enum Value {
    Word(&'static Words, &'static Word),
    Path(TypePath),
    Constant(TypePath),
    Name(Ident),
    Flag(LitBool),
    Number(u64),
    Duration(Duration),
    Mode(LitInt),
    Rate(u32, &'static Period),
    Networks(Vec<Network>),
    Proxies(Vec<Proxy>),
    Text(LitStr),
    Texts(Vec<LitStr>),
}

/// A peer that may send a PROXY header.
#[derive(Clone)]
pub(crate) enum Proxy {
    Unix,
    Network(Network),
}

/// An address, and how many of its bits all addresses of the network begin with.
#[derive(Clone)]
pub(crate) struct Network(pub(crate) IpAddr, pub(crate) u8);

/// The time that a rate is about.
pub(crate) struct Period {
    pub(crate) unit: &'static str,
    /// What makes such a rate.
    pub(crate) constructor: &'static str,
}

pub(crate) static PERIODS: &[Period] = &[
    Period { unit: "s", constructor: "per_second" },
    Period { unit: "m", constructor: "per_minute" },
    Period { unit: "h", constructor: "per_hour" },
];

/// A value that a key refuses although it is of the right kind.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Refusal {
    Zero,
    /// A list without an entry, or text without a character.
    Empty,
    /// Durations above this many milliseconds; other values above this.
    Above(u64),
}

impl Kind {
    /// The error is what is wrong with the value, to be written after the key.
    pub(crate) fn parse(&self, word: &Ident, input: ParseStream<'_>) -> syn::Result<Value> {
        let wrong = |hint: &str| format!("{hint}`{word}` takes {}", self.expected());
        let name = input.fork().call(Ident::parse_any).ok().map(|name| name.to_string());
        if let Kind::Name(_) = self {
            let start = input.fork();
            return match input.parse::<Ident>() {
                Ok(name) if !input.peek(Token![::]) => Ok(Value::Name(name)),
                _ => Err(start.error(wrong(""))),
            };
        }
        if !input.peek(Lit) && (self.is_path() || name.is_some() || input.peek(Token![::]) || input.peek(Token![<])) {
            // A closure has commas, which would be taken for those of the attribute.
            if input.peek(Token![|]) {
                return Err(closure(input, &wrong("a closure has no path: write a method. ")));
            }
            let start = input.fork();
            let path: TypePath = input.parse().map_err(|error: syn::Error| {
                // The end of the input has no place: it would be reported on the macro.
                syn::Error::new(if input.is_empty() { start.span() } else { error.span() }, wrong(""))
            })?;
            return match path.path.get_ident().and_then(|name| self.misread_name(&name.to_string())) {
                Some(meant) => Err(syn::Error::new_spanned(path, wrong(&did_you_mean(&meant)))),
                None if self.is_path() => Ok(Value::Path(path)),
                None => Ok(Value::Constant(path)),
            };
        }
        if input.peek(Bracket) {
            match self {
                Kind::Networks => {
                    return list(input, &wrong(""), |text| network(&text.value(), &[])).map(Value::Networks);
                }
                Kind::Proxies => return list(input, &wrong(""), |text| proxy(&text.value())).map(Value::Proxies),
                Kind::Texts(_) => return list(input, &wrong(""), Ok).map(Value::Texts),
                _ => {}
            }
        }
        let Ok(literal) = input.parse::<Lit>() else { return Err(input.error(wrong(""))) };
        self.read(&literal).map_err(|hint| syn::Error::new_spanned(&literal, wrong(&hint)))
    }

    /// The method that makes a number of a value, to be compared with what is refused.
    pub(crate) fn measure(&self) -> Option<&'static str> {
        match self {
            Kind::Duration => Some("as_millis"),
            Kind::Rate => Some("count"),
            _ => None,
        }
    }

    /// A path names what it says, not a constant.
    fn is_path(&self) -> bool {
        matches!(self, Kind::Path(_) | Kind::Word(Words { are_types: true, .. }))
    }

    /// A value in the attribute, to show how it is written.
    pub(crate) fn example(&self) -> String {
        match self {
            Kind::Word(words) => quoted(words.words[0].word),
            Kind::Path(example) | Kind::Name(example) => example.to_string(),
            Kind::Flag => "true".to_string(),
            Kind::Count => "100".to_string(),
            Kind::Size => "\"64KiB\"".to_string(),
            Kind::Duration => "\"30s\"".to_string(),
            Kind::Mode => "0o660".to_string(),
            Kind::Rate => "\"20/s\"".to_string(),
            Kind::Networks | Kind::Proxies => "[\"10.0.0.0/8\"]".to_string(),
            Kind::Text(example) => quoted(example),
            Kind::Texts(example) => format!("[{}]", quoted(example)),
        }
    }

    pub(crate) fn expected(&self) -> String {
        let expected = self.expected_data();
        match self {
            Kind::Word(words) if words.are_types => format!("{expected}, or the path of a type of your own"),
            Kind::Path(_) | Kind::Name(_) => expected,
            _ => format!("{expected}, or a constant"),
        }
    }

    /// What can be written where there are no constants and no types.
    pub(crate) fn expected_data(&self) -> String {
        match self {
            Kind::Path(example) => format!("a path without quotes, like `{example}`"),
            Kind::Name(example) => format!("a name without quotes, like `{example}`"),
            Kind::Word(words) => words.listed(),
            Kind::Flag => "`true` or `false`".to_string(),
            Kind::Count => format!("an integer of at most {}, like `100`", u32::MAX),
            Kind::Size => "an integer of bytes, like `8192`, or one with a unit in quotes, like `\"64KiB\"`, \
                           `\"1MiB\"` or `\"1GiB\"`"
                .to_string(),
            Kind::Duration => {
                "an integer with a unit in quotes, like `\"250ms\"`, `\"30s\"`, `\"5m\"` or `\"1h\"`".to_string()
            }
            Kind::Mode => "permissions in octal, like `0o660`, of at most `0o777`".to_string(),
            Kind::Rate => {
                "a number for each second, minute or hour in quotes, like `\"20/s\"`, `\"100/m\"` or `\"1000/h\"`"
                    .to_string()
            }
            Kind::Networks => "a list of networks, like `[\"10.0.0.0/8\", \"fd00::/8\"]`".to_string(),
            Kind::Proxies => "a list of networks and `\"unix\"`, like `[\"10.0.0.0/8\", \"fd00::/8\"]`".to_string(),
            Kind::Text(example) => format!("text in quotes, like {}", in_ticks(&quoted(example))),
            Kind::Texts(_) => format!("a list of texts, like {}", in_ticks(&self.example())),
        }
    }

    pub(crate) fn has_word(&self, word: &str) -> bool {
        matches!(self, Kind::Word(words) if words.words.iter().any(|choice| choice.word == word))
    }

    /// What is meant by a name that is most likely no path.
    fn misread_name(&self, name: &str) -> Option<String> {
        match self {
            Kind::Word(words) => {
                words.words.iter().find(|choice| choice.word == name).map(|choice| quoted(choice.word))
            }
            Kind::Flag => closest(name, ["true", "false"]).map(str::to_string),
            _ => None,
        }
    }

    /// The error is a suggestion, if there is one.
    fn read(&self, literal: &Lit) -> Result<Value, String> {
        match (self, literal) {
            (Kind::Word(words), Lit::Str(text)) => words.read(&text.value()),
            (Kind::Word(words), Lit::Int(_) | Lit::Float(_)) => {
                let text = literal.to_token_stream().to_string();
                Err(words.find(&text).map(|choice| did_you_mean(&quoted(choice.word))).unwrap_or_default())
            }
            (Kind::Flag, Lit::Bool(flag)) => Ok(Value::Flag(flag.clone())),
            (Kind::Flag, Lit::Str(text)) => {
                Err(self.misread_name(&text.value()).map(|flag| did_you_mean(&flag)).unwrap_or_default())
            }
            (Kind::Count, Lit::Int(number)) if number.suffix().is_empty() => {
                number.base10_parse::<u32>().map(|number| Value::Number(number.into())).map_err(|_| String::new())
            }
            (Kind::Count | Kind::Size, Lit::Str(text)) if let Ok(number) = text.value().parse::<u64>() => {
                Err(did_you_mean(&number.to_string()))
            }
            (Kind::Size, Lit::Int(number)) if number.suffix().is_empty() => {
                number.base10_parse().map(Value::Number).map_err(|_| String::new())
            }
            (Kind::Size, _) => measure(literal, SIZES).map(Value::Number),
            (Kind::Duration, _) => {
                let meant = || in_one_unit(literal).or_else(|| without_fraction(literal));
                let reworded = |hint| meant().map_or(hint, |text| did_you_mean(&quoted(&text)));
                measure(literal, TIMES).map(Duration::from_millis).map(Value::Duration).map_err(reworded)
            }
            (Kind::Mode, Lit::Int(number)) => mode(number),
            (Kind::Mode, Lit::Str(text)) => {
                Err(permissions(&text.value()).map(|meant| did_you_mean(&format!("0o{meant:o}"))).unwrap_or_default())
            }
            (Kind::Rate, _) => rate(literal),
            (Kind::Networks, Lit::Str(text)) => Err(in_brackets(text, network(&text.value(), &[]))),
            (Kind::Proxies, Lit::Str(text)) => Err(in_brackets(text, proxy(&text.value()))),
            (Kind::Text(_), Lit::Str(text)) => Ok(Value::Text(text.clone())),
            (Kind::Texts(_), Lit::Str(text)) => Err(in_brackets(text, Ok(()))),
            _ => Err(String::new()),
        }
    }
}

/// A list of texts, each of which stands for an `entry`. The error of `entry` is a suggestion, if there is one.
fn list<T>(input: ParseStream<'_>, wrong: &str, entry: impl Fn(LitStr) -> Result<T, String>) -> syn::Result<Vec<T>> {
    let content;
    bracketed!(content in input);
    let mut entries = Vec::new();
    while !content.is_empty() {
        let start = content.fork();
        let parsed = content.parse::<LitStr>().map_err(|_| String::new()).and_then(&entry);
        match parsed {
            Ok(entry) if content.is_empty() || content.peek(Token![,]) => entries.push(entry),
            Ok(_) => {
                let error = content.error("a comma is missing before this");
                while content.parse::<TokenTree>().is_ok() {}
                return Err(error);
            }
            parsed => {
                // What is left would be an error of its own.
                while content.parse::<TokenTree>().is_ok() {}
                return Err(start.error(format!("{}{wrong}", parsed.err().unwrap_or_default())));
            }
        }
        let _ = content.parse::<Option<Token![,]>>();
    }
    Ok(entries)
}

/// A suggestion for an entry that is no list.
fn in_brackets<T>(text: &LitStr, entry: Result<T, String>) -> String {
    match entry {
        Ok(_) => did_you_mean(&format!("[{}]", quoted(&text.value()))),
        Err(hint) => hint,
    }
}

fn proxy(text: &str) -> Result<Proxy, String> {
    match text {
        "unix" => Ok(Proxy::Unix),
        text => network(text, &["unix"]).map(Proxy::Network),
    }
}

/// The words may have been meant as well. The error is a suggestion, if there is one.
fn network(text: &str, words: &[&'static str]) -> Result<Network, String> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else {
        let meant = closest(text, words.iter().copied());
        return Err(meant.map(|meant| did_you_mean(&quoted(meant))).unwrap_or_default());
    };
    let length = if address.is_ipv4() { 32 } else { 128 };
    let Some(prefix) = prefix.map_or(Some(length), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= length))
    else {
        return Err(format!("the prefix of an address of this kind has 0 to {length} bits: "));
    };
    match begin(address, prefix) {
        network if network == address => Ok(Network(address, prefix)),
        network => Err(did_you_mean(&quoted(&format!("{network}/{prefix}")))),
    }
}

/// The address without the bits behind the prefix.
fn begin(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

fn in_ticks(code: &str) -> String {
    format!("`{code}`")
}

fn closure(input: ParseStream<'_>, message: &str) -> syn::Error {
    let error = input.error(message);
    let _ = input.parse::<Token![|]>();
    while !input.peek(Token![|]) && input.parse::<TokenTree>().is_ok() {}
    error
}

impl Words {
    pub(crate) fn listed(&self) -> String {
        listed(self.words.iter().map(|choice| quoted(choice.word)), "or")
    }

    fn find(&self, word: &str) -> Option<&'static Word> {
        self.words.iter().find(|choice| choice.word == word)
    }

    fn read(&'static self, word: &str) -> Result<Value, String> {
        if let Some(choice) = self.find(word) {
            return Ok(Value::Word(self, choice));
        }
        let synonym = self.synonyms.iter().find(|(synonym, _)| *synonym == word).map(|(_, meant)| meant.to_string());
        let path = (self.are_types && word.contains("::")).then(|| word.to_string());
        let alike = || closest(word, self.words.iter().map(|choice| choice.word)).map(quoted);
        Err(synonym.or(path).or_else(alike).map(|meant| did_you_mean(&meant)).unwrap_or_default())
    }
}

impl Value {
    /// Whether it is refused, as far as that can be seen: the value of a constant cannot.
    pub(crate) fn is(&self, refused: Refusal) -> bool {
        let number = match self {
            Value::Networks(networks) => return refused == Refusal::Empty && networks.is_empty(),
            Value::Proxies(proxies) => return refused == Refusal::Empty && proxies.is_empty(),
            Value::Text(text) => return refused == Refusal::Empty && text.value().is_empty(),
            Value::Number(number) => u128::from(*number),
            Value::Rate(count, _) => u128::from(*count),
            Value::Duration(duration) => duration.as_millis(),
            _ => return false,
        };
        match refused {
            Refusal::Zero => number == 0,
            Refusal::Empty => false,
            Refusal::Above(most) => number > u128::from(most),
        }
    }
}

/// The units of a quantity with how many of the smallest each is.
type Units = [(&'static str, u64)];

const SIZES: &Units = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: &Units = &[("s", 1000), ("ms", 1), ("m", 60_000), ("h", 3_600_000)];

/// Reads a number and its unit. The error is a suggestion, if there is one.
fn measure(literal: &Lit, units: &Units) -> Result<u64, String> {
    let text = written(literal).ok_or_else(String::new)?;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let Ok(number) = number.parse::<u64>() else { return Err(String::new()) };
    let names = || units.iter().map(|(name, _)| *name);
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) if matches!(literal, Lit::Str(_)) => {
            number.checked_mul(*factor).ok_or_else(|| "this is too much: ".to_string())
        }
        _ => {
            // A unit by its first letters, like `64k`.
            let is_begun = |name: &&str| name.to_lowercase().starts_with(&unit.trim().to_lowercase());
            let unit = closest(unit.trim(), names()).or_else(|| names().find(is_begun));
            Err(unit.map(|unit| did_you_mean(&quoted(&format!("{number}{unit}")))).unwrap_or_default())
        }
    }
}

/// A sum of times, like `1h30m`, in the smallest of its units. A day, which is no unit here, is 24 hours.
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

/// A fraction of one unit, like `1.5s`, as a number of smaller ones.
fn without_fraction(literal: &Lit) -> Option<String> {
    let text = written(literal)?;
    let (number, unit) = text.split_at(text.find(char::is_alphabetic)?);
    let (whole, fraction) = number.split_once('.')?;
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
    let scale = 10_u64.checked_pow(fraction.len().try_into().ok()?)?;
    let parts = format!("{whole}{fraction}").parse::<u64>().ok()?.checked_mul(*factor)?;
    (parts % scale == 0).then(|| format!("{}ms", parts / scale))
}

/// The text of a literal that may stand for a quantity.
fn written(literal: &Lit) -> Option<String> {
    match literal {
        Lit::Str(text) => Some(text.value()),
        Lit::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The error is a suggestion, if there is one.
fn rate(literal: &Lit) -> Result<Value, String> {
    let text = written(literal).ok_or_else(String::new)?;
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let Ok(number) = number.parse::<u32>() else { return Err(String::new()) };
    let unit = unit.trim_start_matches([' ', '/']).trim_end();
    let units = || PERIODS.iter().map(|period| period.unit);
    let period = PERIODS.iter().find(|period| period.unit == unit);
    match period {
        Some(period) if matches!(literal, Lit::Str(_)) && text == format!("{number}/{unit}") => {
            Ok(Value::Rate(number, period))
        }
        _ => {
            let unit = unit.to_lowercase();
            let meant = match unit.as_str() {
                "" | "sec" | "second" => Some("s"),
                "min" | "minute" => Some("m"),
                "hour" => Some("h"),
                unit => units().find(|known| *known == unit),
            };
            Err(meant.map(|unit| did_you_mean(&quoted(&format!("{number}/{unit}")))).unwrap_or_default())
        }
    }
}

/// Only octal says what it means: the decimal `660` would be `0o1224`. The error is a suggestion, if there is one.
fn mode(number: &LitInt) -> Result<Value, String> {
    let text = number.to_string().replace('_', "");
    match (text.strip_prefix("0o").and_then(permissions), permissions(&text)) {
        (Some(_), _) => Ok(Value::Mode(number.clone())),
        (None, Some(meant)) => Err(did_you_mean(&format!("0o{meant:o}"))),
        (None, None) => Err(String::new()),
    }
}

fn permissions(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits.trim_start_matches("0o"), 8).ok().filter(|mode| *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::format_ident;
    use syn::parse::Parser;

    static TRANSPORT: Words = Words {
        words: &[Word { word: "udp", name: "Udp" }, Word { word: "unix", name: "Unix" }],
        home: "transport",
        are_types: true,
        synonyms: &[("inet", "\"udp\"")],
    };

    fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
        let parser = |input: ParseStream<'_>| kind.parse(&format_ident!("key"), input);
        parser.parse_str(text).map_err(|error| error.to_string())
    }

    /// What is suggested in place of a wrong value.
    fn suggestion(kind: &Kind, text: &str) -> Option<String> {
        let Err(message) = parse(kind, text) else { panic!("{text} is right") };
        assert!(message.contains("`key` takes "), "{message}");
        message.strip_prefix("did you mean `")?.split_once("`? ").map(|(suggestion, _)| suggestion.to_string())
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, milliseconds) in
            [(r#""250ms""#, 250), (r#""30s""#, 30_000), (r#""5m""#, 300_000), (r#""1h""#, 3_600_000), (r#""0s""#, 0)]
        {
            let value = parse(&Kind::Duration, text);
            assert!(matches!(value, Ok(Value::Duration(it)) if it == Duration::from_millis(milliseconds)), "{text}");
        }
        for (text, meant) in [("30", "30s"), ("30s", "30s"), (r#""30""#, "30s"), (r#""5 M""#, "5m")] {
            assert_eq!(suggestion(&Kind::Duration, text), Some(format!("\"{meant}\"")), "{text}");
        }
        for (text, meant) in [
            ("1h30m", "90m"),
            ("1m 500ms", "60500ms"),
            ("1d", "24h"),
            ("1d12h", "36h"),
            ("60 s", "60s"),
            ("1.5s", "1500ms"),
        ] {
            assert_eq!(suggestion(&Kind::Duration, &quoted(text)), Some(quoted(meant)), "{text}");
        }
        for text in [
            r#""1.0005s""#,
            r#""5µs""#,
            "1.5",
            r#""s""#,
            r#""""#,
            r#""-1s""#,
            "-1",
            r#""1us""#,
            "true",
            r#""18446744073709551616ms""#,
        ] {
            assert_eq!(suggestion(&Kind::Duration, text), None, "{text}");
        }
        assert!(
            parse(&Kind::Duration, r#""18446744073709551615h""#)
                .is_err_and(|error| error.starts_with("this is too much"))
        );
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in
            [("8192", 8192), ("0x20", 32), (r#""1KiB""#, 1024), (r#""2MiB""#, 2 << 20), (r#""1GiB""#, 1 << 30)]
        {
            assert!(matches!(parse(&Kind::Size, text), Ok(Value::Number(it)) if it == bytes), "{text}");
        }
        for (text, meant) in [
            (r#""8192""#, "8192"),
            ("64KiB", r#""64KiB""#),
            (r#""64kb""#, r#""64KiB""#),
            (r#""64k""#, r#""64KiB""#),
            (r#""1M""#, r#""1MiB""#),
        ] {
            assert_eq!(suggestion(&Kind::Size, text), Some(meant.to_string()), "{text}");
        }
        for text in ["-1", "8192u32", "1.0", r#""64 bits""#, "18446744073709551616"] {
            assert_eq!(suggestion(&Kind::Size, text), None, "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        for text in ["0o660", "0o0", "0o777"] {
            assert!(matches!(parse(&Kind::Mode, text), Ok(Value::Mode(mode)) if mode.to_string() == text), "{text}");
        }
        for (text, meant) in [
            ("660", "0o660"),
            ("0600", "0o600"),
            ("7", "0o7"),
            ("0", "0o0"),
            (r#""0660""#, "0o660"),
            (r#""0o600""#, "0o600"),
        ] {
            assert_eq!(suggestion(&Kind::Mode, text), Some(meant.to_string()), "{text}");
        }
        for text in ["0o1777", "1777", "680", "0x1b0", r#""rw""#] {
            assert_eq!(suggestion(&Kind::Mode, text), None, "{text}");
        }
    }

    #[test]
    fn proxies_are_networks_without_bits_behind_their_prefixes() {
        let list = r#"["10.0.0.0/8", "192.0.2.1", "fd00::/8", "0.0.0.0/0", "::/0", "unix",]"#;
        let Ok(Value::Proxies(proxies)) = parse(&Kind::Proxies, list) else { panic!("{list}") };
        let shown = |proxy: &Proxy| match proxy {
            Proxy::Unix => "unix".to_string(),
            Proxy::Network(Network(address, prefix)) => format!("{address}/{prefix}"),
        };
        let shown: Vec<String> = proxies.iter().map(shown).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "0.0.0.0/0", "::/0", "unix"]);
        for (text, meant) in [
            (r#"["10.0.0.1/8"]"#, r#""10.0.0.0/8""#),
            (r#"["2001:db8::1/32"]"#, r#""2001:db8::/32""#),
            (r#"["10.1.2.3/0"]"#, r#""0.0.0.0/0""#),
            (r#"["10.0.0.0/8", "Unix"]"#, r#""unix""#),
            (r#""10.0.0.0/8""#, r#"["10.0.0.0/8"]"#),
        ] {
            assert_eq!(suggestion(&Kind::Proxies, text).as_deref(), Some(meant), "{text}");
        }
        for text in [r#"["localhost"]"#, r#"["10.0.0.0/33"]"#, r#"["::/129"]"#, r#"["10.0.0.0/-1"]"#, "[10]", "1"] {
            assert!(parse(&Kind::Proxies, text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_those_of_proxies_without_unix() {
        let list = r#"["10.0.0.0/8", "2001:db8::/32"]"#;
        assert!(matches!(parse(&Kind::Networks, list), Ok(Value::Networks(networks)) if networks.len() == 2));
        assert!(matches!(parse(&Kind::Networks, "[]"), Ok(networks) if networks.is(Refusal::Empty)));
        for (text, meant) in [(r#"["10.0.0.1/8"]"#, r#""10.0.0.0/8""#), (r#""::1""#, r#"["::1"]"#)] {
            assert_eq!(suggestion(&Kind::Networks, text).as_deref(), Some(meant), "{text}");
        }
        assert_eq!(suggestion(&Kind::Networks, r#"["unix"]"#), None);
    }

    #[test]
    fn rates_have_a_time() {
        for (text, count, unit) in [(r#""20/s""#, 20, "s"), (r#""100/m""#, 100, "m"), (r#""1/h""#, 1, "h")] {
            let value = parse(&Kind::Rate, text);
            assert!(matches!(value, Ok(Value::Rate(it, period)) if it == count && period.unit == unit), "{text}");
        }
        for (text, meant) in [
            ("20", "20/s"),
            (r#""20""#, "20/s"),
            (r#""20/sec""#, "20/s"),
            (r#""20 / s""#, "20/s"),
            (r#""5/min""#, "5/m"),
            (r#""5/hour""#, "5/h"),
            (r#""5/S""#, "5/s"),
        ] {
            assert_eq!(suggestion(&Kind::Rate, text), Some(quoted(meant)), "{text}");
        }
        for text in [r#""s""#, r#""1.5/s""#, r#""5000000000/s""#, "true", r#""1/day""#, r#""1/é""#] {
            assert_eq!(suggestion(&Kind::Rate, text), None, "{text}");
        }
        assert!(parse(&Kind::Rate, r#""0/s""#).is_ok_and(|rate| rate.is(Refusal::Zero)));
    }

    #[test]
    fn data_can_be_a_constant() {
        for kind in
            [Kind::Count, Kind::Size, Kind::Duration, Kind::Mode, Kind::Flag, Kind::Rate, Kind::Networks, Kind::Proxies]
        {
            for text in ["MAX", "Self::MAX", "crate::limits::MAX", "::std::primitive::u32::MAX", "<T as Limits>::MAX"] {
                assert!(matches!(parse(&kind, text), Ok(Value::Constant(_))), "{text}");
            }
        }
        assert_eq!(suggestion(&Kind::Flag, "True").as_deref(), Some("true"));
    }

    #[test]
    fn a_choice_is_a_word_in_quotes_or_a_type() {
        let kind = Kind::Word(&TRANSPORT);
        assert!(matches!(parse(&kind, r#""udp""#), Ok(Value::Word(_, Word { word: "udp", .. }))));
        assert!(matches!(parse(&kind, "my::Tcp<u8, Vec<u8>>"), Ok(Value::Path(_))));
        assert_eq!(suggestion(&kind, "udp").as_deref(), Some("\"udp\""));
        assert_eq!(suggestion(&kind, r#""Unix""#).as_deref(), Some("\"unix\""));
        assert_eq!(suggestion(&kind, r#""my::Tcp""#).as_deref(), Some("my::Tcp"));
        assert_eq!(suggestion(&kind, r#""inet""#).as_deref(), Some("\"udp\""));
        assert_eq!(suggestion(&kind, "1"), None);
        static VERSIONS: Words =
            Words { words: &[Word { word: "1.3", name: "Tls13" }], home: "Versions", are_types: false, synonyms: &[] };
        assert_eq!(suggestion(&Kind::Word(&VERSIONS), "1.3").as_deref(), Some("\"1.3\""));
    }
}
