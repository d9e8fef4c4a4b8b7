//! What is decoded does not depend on the pieces in which it comes: every framing, every cut.

use std::iter;

use sockserver::framing::{
    Crlf, FrameError, Framing, Line, Netstring, Nul, U8, U16, U16Le, U32, U32Le, Varint, encode,
};
use sockserver_tests::{
    own_framings::{Cobs, Resp},
    pieces::{Heard, hear},
};

/// Longer payloads are too long. Those that the tests make have up to three times as many bytes.
const MAX_FRAME: usize = 60;
const STREAMS: u64 = 150;

/// Numbers that are the same in each run: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % end
    }

    /// Bytes that mean something to one framing or another.
    fn special(&mut self) -> u8 {
        const SPECIAL: &[u8] = b"\r\n\0\r\n,:*$-0123\x01\x80\xff";
        SPECIAL[self.below(SPECIAL.len())]
    }

    fn garbage(&mut self, length: usize) -> Vec<u8> {
        iter::repeat_with(|| if self.below(3) == 0 { self.below(256) as u8 } else { self.special() })
            .take(length)
            .collect()
    }

    /// Letters and one special byte, so that each framing can send most payloads.
    fn payload(&mut self) -> Vec<u8> {
        let length = match self.below(8) {
            0 => 0,
            1 => MAX_FRAME - 1 + self.below(3),
            2 => MAX_FRAME + self.below(2 * MAX_FRAME),
            _ => self.below(20),
        };
        let special = self.special();
        iter::repeat_with(|| if self.below(4) == 0 { special } else { b'a' + self.below(26) as u8 })
            .take(length)
            .collect()
    }

    fn pieces<'a>(&mut self, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
        let longest = 1 + self.below(40);
        let mut pieces = Vec::new();
        while !stream.is_empty() {
            let (piece, rest) = stream.split_at((1 + self.below(longest)).min(stream.len()));
            pieces.push(piece);
            stream = rest;
        }
        pieces
    }
}

/// Whole, byte by byte, cut once at each place, and in pieces of all sizes.
fn hear_the_same_in_any_pieces<F: Framing + Default>(stream: &[u8], numbers: &mut Numbers) -> Vec<Heard> {
    let whole = hear(F::default(), MAX_FRAME, [stream]);
    let shown = || stream.escape_ascii();
    assert_eq!(hear(F::default(), MAX_FRAME, stream.chunks(1)), whole, "byte by byte: {}", shown());
    for cut in 1..stream.len() {
        let (start, rest) = stream.split_at(cut);
        assert_eq!(hear(F::default(), MAX_FRAME, [start, rest]), whole, "cut at {cut}: {}", shown());
    }
    for _ in 0..5 {
        let pieces = numbers.pieces(stream);
        assert_eq!(hear(F::default(), MAX_FRAME, pieces.iter().copied()), whole, "{pieces:?}");
    }
    whole
}

/// `is_too_long` says it of the payload as it is on the wire.
fn what_is_encoded_is_decoded<F: Framing + Default>(is_too_long: impl Fn(&[u8]) -> bool) {
    let (mut messages, mut refused) = (0, 0);
    for seed in 0..STREAMS {
        let mut numbers = Numbers(seed);
        let (mut stream, mut expected, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..numbers.below(8) {
            let (payload, before) = (numbers.payload(), stream.len());
            match encode(&F::default(), &payload, &mut spare, &mut stream) {
                Ok(()) if is_too_long(&payload) => expected.push(Heard::TooLong),
                Ok(()) => expected.push(Heard::Message(payload)),
                Err(FrameError::Unsendable(_)) => assert_eq!(stream.len(), before),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(hear_the_same_in_any_pieces::<F>(&stream, &mut numbers), expected, "{}", stream.escape_ascii());
        messages += expected.iter().filter(|heard| **heard != Heard::TooLong).count();
        refused += expected.iter().filter(|heard| **heard == Heard::TooLong).count();
    }
    assert!(messages > 100 && refused > 20, "the streams test something: {messages} messages, {refused} refused");
}

fn what_is_wrong_is_wrong_in_any_pieces<F: Framing + Default>() {
    for seed in 0..STREAMS {
        let mut numbers = Numbers(seed);
        let (mut stream, mut spare) = (Vec::new(), Vec::new());
        for _ in 0..numbers.below(3) {
            let _ = encode(&F::default(), &numbers.payload(), &mut spare, &mut stream);
        }
        let length = numbers.below(100);
        stream.extend(numbers.garbage(length));
        hear_the_same_in_any_pieces::<F>(&stream, &mut numbers);
    }
}

fn a_stream_can_end_anywhere<F: Framing + Default>() {
    for seed in 0..STREAMS / 10 {
        let mut numbers = Numbers(seed);
        let (mut stream, mut spare) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let _ = encode(&F::default(), &numbers.payload(), &mut spare, &mut stream);
        }
        for end in 0..stream.len() {
            hear_the_same_in_any_pieces::<F>(&stream[..end], &mut numbers);
        }
    }
}

macro_rules! every_framing {
    ($($name:ident: $framing:ty, $is_too_long:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn what_is_encoded_is_decoded() {
                super::what_is_encoded_is_decoded::<$framing>($is_too_long);
            }

            #[test]
            fn what_is_wrong_is_wrong_in_any_pieces() {
                super::what_is_wrong_is_wrong_in_any_pieces::<$framing>();
            }

            #[test]
            fn a_stream_can_end_anywhere() {
                super::a_stream_can_end_anywhere::<$framing>();
            }
        }
    )*};
}

fn is_longer(payload: &[u8]) -> bool {
    payload.len() > MAX_FRAME
}

/// A byte before each block.
fn is_longer_as_cobs(payload: &[u8]) -> bool {
    payload.len() + 1 > MAX_FRAME
}

every_framing! {
    line: Line, is_longer;
    crlf: Crlf, is_longer;
    nul: Nul, is_longer;
    netstring: Netstring, is_longer;
    u8: U8, is_longer;
    u16: U16, is_longer;
    u32: U32, is_longer;
    u16_le: U16Le, is_longer;
    u32_le: U32Le, is_longer;
    varint: Varint, is_longer;
    cobs: Cobs, is_longer_as_cobs;
}

#[test]
fn commands_to_redis_are_wrong_in_any_pieces() {
    what_is_wrong_is_wrong_in_any_pieces::<Resp>();
}

#[test]
fn commands_to_redis_come_in_any_pieces() {
    let commands: [&[u8]; 7] = [
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n*1\r\n",
        b"PING",
        b"*2\r\n*2\r\n:1\r\n*1\r\n$-1\r\n+in arrays\r\n",
        b"",
        b"*0\r\n",
        b"GET a key\r\r",
        b"$2\r\nhi\r\n",
    ];
    let mut stream = Vec::new();
    for command in commands {
        stream.extend_from_slice(command);
        stream.extend_from_slice(if b"*$".contains(command.first().unwrap_or(&0)) { b"" } else { b"\r\n" });
    }
    let heard = hear_the_same_in_any_pieces::<Resp>(&stream, &mut Numbers(0));
    assert_eq!(heard, commands.map(|command| Heard::Message(command.to_vec())));
}
