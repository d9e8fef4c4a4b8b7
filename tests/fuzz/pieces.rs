//! Any bytes, to any framing: what is decoded does not depend on the pieces in which they come, nothing panics, and no
//! more is kept than may be.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use sockserver::framing::{Crlf, Framing, FromFrame, Line, Netstring, Nul, U8, U16, U16Le, U32, U32Le, Varint};

#[path = "../src/own_framings.rs"]
mod own_framings;
#[path = "../src/pieces.rs"]
mod pieces;

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    framing: u8,
    max_frame: u8,
    /// How long the pieces are, again and again.
    pieces: [u8; 4],
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    // A packet can be any bytes.
    let _ = own_framings::Command::from_frame(input.stream);
    match input.framing % 12 {
        0 => same_in_pieces::<Line>(&input),
        1 => same_in_pieces::<Crlf>(&input),
        2 => same_in_pieces::<Nul>(&input),
        3 => same_in_pieces::<Netstring>(&input),
        4 => same_in_pieces::<U8>(&input),
        5 => same_in_pieces::<U16>(&input),
        6 => same_in_pieces::<U32>(&input),
        7 => same_in_pieces::<U16Le>(&input),
        8 => same_in_pieces::<U32Le>(&input),
        9 => same_in_pieces::<Varint>(&input),
        10 => same_in_pieces::<own_framings::Cobs>(&input),
        _ => same_in_pieces::<own_framings::Resp>(&input),
    }
});

fn same_in_pieces<F: Framing + Default>(input: &Input<'_>) {
    let max_frame = input.max_frame.into();
    let mut rest = input.stream;
    let pieces = input.pieces.into_iter().cycle().map_while(|length| {
        let (piece, after) = rest.split_at_checked(usize::from(length % 32) + 1).unwrap_or((rest, &[]));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(pieces::hear(F::default(), max_frame, pieces), pieces::hear(F::default(), max_frame, [input.stream]));
}
