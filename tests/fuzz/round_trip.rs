//! Any messages, in any framing: what is encoded is decoded again, and what cannot be is refused.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use sockserver::framing::{
    Crlf, FrameError, Framing, Line, Netstring, Nul, U8, U16, U16Le, U32, U32Le, Varint, encode,
};

#[allow(dead_code, reason = "commands to Redis are not encoded")]
#[path = "../src/own_framings.rs"]
mod own_framings;
#[path = "../src/pieces.rs"]
mod pieces;

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    framing: u8,
    piece: u8,
    messages: Vec<&'a [u8]>,
}

fuzz_target!(|input: Input<'_>| {
    match input.framing % 11 {
        0 => round_trip::<Line>(&input),
        1 => round_trip::<Crlf>(&input),
        2 => round_trip::<Nul>(&input),
        3 => round_trip::<Netstring>(&input),
        4 => round_trip::<U8>(&input),
        5 => round_trip::<U16>(&input),
        6 => round_trip::<U32>(&input),
        7 => round_trip::<U16Le>(&input),
        8 => round_trip::<U32Le>(&input),
        9 => round_trip::<Varint>(&input),
        _ => round_trip::<own_framings::Cobs>(&input),
    }
});

fn round_trip<F: Framing + Default>(input: &Input<'_>) {
    let (mut stream, mut spare, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for &message in &input.messages {
        match encode(&F::default(), message, &mut spare, &mut stream) {
            Ok(()) => sent.push(pieces::Heard::Message(message.to_vec())),
            Err(FrameError::Unsendable(_)) => {}
            Err(error) => panic!("encoding fails with {error}"),
        }
    }
    let pieces = stream.chunks(usize::from(input.piece).max(1));
    assert_eq!(pieces::hear(F::default(), usize::MAX, pieces), sent);
}
