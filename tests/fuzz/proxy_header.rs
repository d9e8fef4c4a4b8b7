//! Any bytes at the start of a connection: nothing panics, a header does not depend on the pieces in which it comes, and it
//! says what another parser finds in it.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use proxy_header::{ParseConfig, ProxyHeader as Other};
use sockserver::{Address, ProxyHeader};

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    /// What it begins with, so that more than the signatures is fuzzed.
    start: u8,
    rest: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let start: &[u8] = match input.start % 6 {
        0 => b"",
        1 => b"PROXY TCP4 ",
        2 => b"PROXY TCP6 ",
        3 => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        4 => b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
        _ => b"\r\n\r\n\0\r\nQUIT\n",
    };
    let stream = [start, input.rest].concat();
    match ProxyHeader::parse(&stream) {
        Ok(Some((header, length))) => {
            (0..length).for_each(|end| assert_eq!(ProxyHeader::parse(&stream[..end]).ok(), Some(None), "{end}"));
            let whole = ProxyHeader::parse(&stream[..length]).ok().flatten();
            assert_eq!(whole, Some((header.clone(), length)));
            agrees(&header, length, &stream);
        }
        Ok(None) => (0..stream.len()).for_each(|end| assert_eq!(ProxyHeader::parse(&stream[..end]).ok(), Some(None))),
        Err(_) => {}
    }
});

/// What is a header here is one elsewhere, with the same length and the same ends.
fn agrees(header: &ProxyHeader, length: usize, stream: &[u8]) {
    let (Some(Address::Inet(source)), Some(Address::Inet(destination))) = (&header.source, &header.destination) else {
        return;
    };
    let (other, other_length) = Other::parse(stream, ParseConfig::default()).expect("it is a header");
    let other = other.proxied_address().expect("it has two ends");
    assert_eq!((other.source, other.destination, other_length), (*source, *destination, length));
}
