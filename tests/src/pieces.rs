//! A connection that decodes frames, without a socket: what it receives comes in pieces.

use sockserver::framing::{Decoder, FrameError, Framing};

/// What a connection hears of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message(Vec<u8>),
    TooLong,
    Malformed,
    Broken,
    Truncated,
}

/// What a connection makes of a stream that comes in these pieces and then ends. On the way it checks what holds for all
/// framings: what the connection has to keep is bounded, and nothing is left over.
pub fn hear<'a, F: Framing>(framing: F, max_frame: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Heard> {
    let mut decoder = Decoder::new(framing, max_frame);
    let (mut incoming, mut position, mut heard) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        incoming.drain(..position);
        position = 0;
        incoming.extend_from_slice(piece);
        loop {
            let before = position;
            let frame = decoder.next_frame(&incoming, &mut position);
            assert!((before..=incoming.len()).contains(&position));
            if let Ok(None) = frame {
                break;
            }
            heard.extend(hear_one(&mut decoder, &incoming, frame));
        }
        // Behind what is scanned, the framings of the tests leave less than 64 bytes unscanned.
        let kept = incoming.len() - position;
        assert!(kept <= max_frame.saturating_add(64 + 64), "{kept} bytes are kept");
    }
    let is_skipping = decoder.is_skipping();
    let last = decoder.last_frame(&incoming, &mut position);
    assert_eq!(position, incoming.len(), "everything is consumed");
    assert!(!is_skipping || matches!(last, Ok(None)), "one frame is one error");
    heard.extend(hear_one(&mut decoder, &incoming, last));
    heard
}

fn hear_one<F: Framing>(
    decoder: &mut Decoder<F>,
    incoming: &[u8],
    frame: Result<Option<std::ops::Range<usize>>, FrameError>,
) -> Option<Heard> {
    let message = frame.and_then(|frame| frame.map(|frame| decoder.message::<Vec<u8>>(&incoming[frame])).transpose());
    match message {
        Ok(message) => message.map(Heard::Message),
        Err(FrameError::TooLong { length, limit }) => {
            assert!(length > limit, "{length} bytes are not more than {limit}");
            Some(Heard::TooLong)
        }
        Err(FrameError::Malformed(_)) => Some(Heard::Malformed),
        Err(FrameError::Broken(_)) => Some(Heard::Broken),
        Err(FrameError::Truncated { received }) => {
            assert!(received > 0);
            Some(Heard::Truncated)
        }
        Err(error) => panic!("decoding fails with {error}"),
    }
}
