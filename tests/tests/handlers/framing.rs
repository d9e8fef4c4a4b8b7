//! Frames: what ends them, what is too long, what is wrong with them, and what they are read as.

use std::{
    io::{self, ErrorKind},
    str::Utf8Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use sockserver::{
    BoxError,
    framing::{
        Crlf, DEFAULT_MAX_FRAME, Decoder, FrameError, Framing, FromFrame, Json, Line, Netstring, Nul, Scan, U8, U16,
        U16Le, U32, U32Le, Varint, encode,
    },
};
use sockserver_tests::{
    own_framings::{Command, Resp},
    pieces::{Heard, hear},
};

fn message(payload: &[u8]) -> Heard {
    Heard::Message(payload.to_vec())
}

fn encoded<F: Framing>(framing: &F, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut outgoing = b"before".to_vec();
    encode(framing, payload, &mut Vec::new(), &mut outgoing)?;
    Ok(outgoing.split_off(b"before".len()))
}

#[test]
fn frames_are_written_as_the_words_say() {
    assert_eq!(encoded(&Line, b"hi").unwrap(), b"hi\n");
    assert_eq!(encoded(&Crlf, b"hi").unwrap(), b"hi\r\n");
    assert_eq!(encoded(&Nul, b"hi").unwrap(), b"hi\0");
    assert_eq!(encoded(&Netstring::default(), b"hello world!").unwrap(), b"12:hello world!,");
    assert_eq!(encoded(&Netstring::default(), b"").unwrap(), b"0:,");
    assert_eq!(encoded(&U8, b"hi").unwrap(), b"\x02hi");
    assert_eq!(encoded(&U16, b"hi").unwrap(), b"\x00\x02hi");
    assert_eq!(encoded(&U32, b"hi").unwrap(), b"\x00\x00\x00\x02hi");
    assert_eq!(encoded(&U16Le, b"hi").unwrap(), b"\x02\x00hi");
    assert_eq!(encoded(&U32Le, b"hi").unwrap(), b"\x02\x00\x00\x00hi");
    assert_eq!(encoded(&Varint, b"hi").unwrap(), b"\x02hi");
    // 300 is the example of protobuf's documentation.
    assert_eq!(encoded(&Varint, &[0; 300]).unwrap()[..2], [0b1010_1100, 0b0000_0010]);
}

#[test]
fn a_line_ends_with_a_line_feed_and_may_have_a_carriage_return_before_it() {
    let stream: &[u8] = b"one\ntwo\r\n\n\r\nand\rfive\r\r\n";
    let lines = [&b"one"[..], b"two", b"", b"", b"and\rfive\r"].map(message);
    assert_eq!(hear(Line, 100, [stream]), lines);
}

#[test]
fn a_last_line_needs_no_end() {
    assert_eq!(hear(Line, 100, [&b"one\nlast"[..]]), [message(b"one"), message(b"last")]);
    assert_eq!(hear(Line, 100, [&b"one\nlast\r"[..]]), [message(b"one"), message(b"last\r")]);
    assert_eq!(hear(Line, 100, [&b"one\n"[..]]), [message(b"one")]);
    assert_eq!(hear(Line, 3, [&b"last"[..]]), [Heard::TooLong]);
}

#[test]
fn a_last_frame_has_all_bytes_that_its_framing_has_asked_for() {
    /// One frame of pairs of bytes.
    struct Pairs;
    impl Framing for Pairs {
        const ENDS_WITH_STREAM: bool = true;

        fn scan(&mut self, _bytes: &[u8]) -> Result<Scan, BoxError> {
            Ok(Scan::More(2))
        }

        fn encode(&self, _payload: &[u8], _outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
            Ok(())
        }
    }
    assert_eq!(hear(Pairs, 100, [&b"abcd"[..]]), [message(b"abcd")]);
    assert_eq!(hear(Pairs, 100, [&b"abcde"[..]]), [Heard::Truncated]);
}

#[test]
fn any_other_frame_is_truncated_by_the_end_of_the_stream() {
    fn is_truncated<F: Framing + Default>() {
        let frame = encoded(&F::default(), b"payload").unwrap();
        for end in 1..frame.len() {
            assert_eq!(hear(F::default(), 100, [&frame[..end]]), [Heard::Truncated], "{}", frame[..end].escape_ascii());
        }
        assert_eq!(hear(F::default(), 100, [&frame[..], &frame]), [message(b"payload"), message(b"payload")]);
    }
    is_truncated::<Crlf>();
    is_truncated::<Nul>();
    is_truncated::<Netstring>();
    is_truncated::<U8>();
    is_truncated::<U16>();
    is_truncated::<U32>();
    is_truncated::<U16Le>();
    is_truncated::<U32Le>();
    is_truncated::<Varint>();
}

#[test]
fn only_both_bytes_end_a_frame_of_crlf() {
    let stream: &[u8] = b"a\nb\rc\n\rd\r\r\n\r\n\n\r\n";
    assert_eq!(hear(Crlf, 100, [stream]), [message(b"a\nb\rc\n\rd\r"), message(b""), message(b"\n")]);
}

#[test]
fn what_would_be_another_frame_for_the_client_is_not_sent() {
    fn is_refused<F: Framing>(framing: &F, payload: &[u8], why: &str) {
        let mut outgoing = b"before".to_vec();
        let error = encode(framing, payload, &mut Vec::new(), &mut outgoing).unwrap_err();
        assert!(matches!(error, FrameError::Unsendable(_)) && error.to_string().contains(why), "{error}");
        assert_eq!(outgoing, b"before");
    }
    is_refused(&Line, b"one\ntwo", r"\n");
    is_refused(&Line, b"one\r", r"\r");
    is_refused(&Crlf, b"one\r\ntwo", r"\r\n");
    is_refused(&Nul, b"one\0two", "zero byte");
    is_refused(&U8, &[b'x'; 256], "256 bytes are more than the length before them can say (255)");
    is_refused(&U16, &[b'x'; 65_536], "65536");
    is_refused(&U16Le, &[b'x'; 65_536], "65536");

    struct Undecided;
    impl Framing for Undecided {
        fn scan(&mut self, _bytes: &[u8]) -> Result<Scan, BoxError> {
            Ok(Scan::More(0))
        }

        fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
            outgoing.extend_from_slice(payload);
            Err("no, it is not".into())
        }
    }
    is_refused(&Undecided, b"one", "no, it is not");

    let error = encode(&Line, "two\nlines", &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_payload_may_have_max_frame_bytes_and_no_more() {
    fn is_limited<F: Framing + Default>() {
        for max_frame in [0, 1, 9, 10, 11, 99, 127, 128, 200] {
            let mut stream = encoded(&F::default(), &vec![b'x'; max_frame]).unwrap();
            stream.extend(encoded(&F::default(), &vec![b'x'; max_frame + 1]).unwrap());
            stream.extend(encoded(&F::default(), b"").unwrap());
            let heard = [message(&vec![b'x'; max_frame]), Heard::TooLong, message(b"")];
            assert_eq!(hear(F::default(), max_frame, [&stream[..]]), heard);
            assert_eq!(hear(F::default(), max_frame, stream.chunks(1)), heard);
        }
    }
    is_limited::<Line>();
    is_limited::<Crlf>();
    is_limited::<Nul>();
    is_limited::<Netstring>();
    is_limited::<U8>();
    is_limited::<U16>();
    is_limited::<U32>();
    is_limited::<U16Le>();
    is_limited::<U32Le>();
    is_limited::<Varint>();
    // DNS over TCP, for one, has messages as long as two bytes can say.
    assert_eq!(hear(U16, DEFAULT_MAX_FRAME, [&[0xff; 65_537][..]]), [message(&[0xff; 65_535])]);
}

#[test]
fn a_header_is_enough_to_say_that_a_frame_is_too_long() {
    let (mut decoder, mut position) = (Decoder::new(U32, 1024), 0);
    let error = decoder.next_frame(b"\x00\x01\x00\x00", &mut position).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { length: 65_536, limit: 1024 }), "{error:?}");
    assert!(error.is_recoverable());
    assert_eq!((position, decoder.is_skipping()), (4, true));
}

#[test]
fn a_line_without_end_is_too_long_before_it_ends_and_is_heard_of_once() {
    let (mut decoder, mut position) = (Decoder::new(Line, 1024), 0);
    let piece = [b'x'; 2000];
    let error = decoder.next_frame(&piece, &mut position).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { length: 2000, limit: 1024 }), "{error:?}");
    for _ in 0..100 {
        assert_eq!(position, piece.len(), "nothing is left to be kept");
        position = 0;
        assert_eq!(decoder.next_frame(&piece, &mut position).unwrap(), None);
        assert!(decoder.is_skipping());
    }
    position = 0;
    assert_eq!(decoder.next_frame(b"the rest\nnext\n", &mut position).unwrap(), Some(9..13));
    assert!(!decoder.is_skipping());
}

#[test]
fn what_is_skipped_is_over_with_its_last_byte() {
    let (mut decoder, mut position) = (Decoder::new(U8, 3), 0);
    decoder.next_frame(b"\x04abc", &mut position).unwrap_err();
    assert!(decoder.is_skipping());
    position = 0;
    assert_eq!(decoder.next_frame(b"d", &mut position).unwrap(), None);
    assert_eq!((position, decoder.is_skipping()), (1, false));
}

#[test]
fn a_length_that_no_frame_can_have_breaks_the_stream() {
    for (start, why) in [
        (&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], "any frame can have"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "64 bits"),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", "64 bits"),
    ] {
        is_broken(Varint, start, why);
    }
    is_broken(Netstring::default(), b"18446744073709551615:", "any frame can have");
    is_broken(Netstring::default(), b"99999999999999999999", "any frame can have");
    // As long as it can be: it is skipped, to the end of the stream.
    assert_eq!(hear(Varint, 9, [&b"\xff\xff\xff\xff\xff\xff\xff\xff\x7fhello"[..]]), [Heard::TooLong]);
    assert_eq!(hear(U32, 9, [&b"\xff\xff\xff\xffhello"[..]]), [Heard::TooLong]);
}

#[test]
fn a_varint_may_be_longer_than_it_has_to_be() {
    assert_eq!(hear(Varint, 9, [&b"\x82\x80\x00hi"[..]]), [message(b"hi")]);
}

#[test]
fn what_is_no_netstring_breaks_the_stream() {
    for (stream, why) in [
        (&b"hello"[..], "digits here, not `h`"),
        (b":,", "digits here, not `:`"),
        (b"5 :hello,", "a colon here, not ` `"),
        (b"05:hello,", "leading zeros"),
        (b"00:,", "leading zeros"),
        (b"+5:hello,", "digits here, not `+`"),
        (b"5:hello\n", r"a comma, not with `\n`"),
    ] {
        is_broken(Netstring::default(), stream, why);
    }
}

fn is_broken<F: Framing>(framing: F, stream: &[u8], why: &str) {
    let (mut decoder, mut position) = (Decoder::new(framing, DEFAULT_MAX_FRAME), 0);
    let error = decoder.next_frame(stream, &mut position).unwrap_err();
    assert!(matches!(error, FrameError::Broken(_)) && error.to_string().contains(why), "{error}");
    assert!(!error.is_recoverable());
    assert_eq!(io::Error::from(error).kind(), ErrorKind::InvalidData);
    assert_eq!(position, stream.len());
    // There are no more frames, whatever comes.
    for more in [&b"2:hi,"[..], b"\x02hi", b"hi\n"] {
        position = 0;
        assert_eq!(decoder.next_frame(more, &mut position).unwrap(), None);
        assert_eq!(position, more.len());
    }
    position = 0;
    assert_eq!(decoder.last_frame(b"hi", &mut position).unwrap(), None);
}

#[test]
fn a_message_that_is_no_text_is_malformed_and_the_next_one_is_read() {
    let (stream, mut decoder, mut position) = (b"caf\xe9\ncaf\xc3\xa9\n", Decoder::new(Line, 100), 0);
    let frame = decoder.next_frame(stream, &mut position).unwrap().unwrap();
    let error = decoder.message::<str>(&stream[frame.clone()]).unwrap_err();
    assert!(error.is_recoverable());
    assert!(error.to_string().starts_with("malformed message: incomplete utf-8 byte sequence"), "{error}");
    assert!(decoder.message::<String>(&stream[frame]).is_err());
    let FrameError::Malformed(inner) = error else { panic!("{error:?}") };
    assert_eq!(inner.downcast_ref::<Utf8Error>().unwrap().valid_up_to(), 3);

    let frame = decoder.next_frame(stream, &mut position).unwrap().unwrap();
    assert_eq!(decoder.message::<String>(&stream[frame]).unwrap(), "café");
}

#[test]
fn a_borrowed_message_is_the_received_bytes_themselves() {
    let (stream, mut decoder, mut position) = (b"hello\n", Decoder::new(Line, 100), 0);
    let frame = decoder.next_frame(stream, &mut position).unwrap().unwrap();
    assert_eq!(decoder.message::<str>(&stream[frame.clone()]).unwrap().as_ptr(), stream.as_ptr());
    assert_eq!(decoder.message::<[u8]>(&stream[frame]).unwrap().as_ptr(), stream.as_ptr());
}

#[test]
fn a_handler_names_the_type_of_its_messages_and_gets_what_it_stands_for() {
    trait Handler {
        type Message: FromFrame + ?Sized;
        fn message(&mut self, message: <Self::Message as FromFrame>::Message<'_>) -> usize;
    }
    fn handle<H: Handler>(mut handler: H, frame: &[u8]) -> usize {
        handler.message(H::Message::from_frame(frame).expect("it is well-formed"))
    }

    struct Owned;
    impl Handler for Owned {
        type Message = String;
        fn message(&mut self, line: String) -> usize {
            line.len()
        }
    }
    struct Borrowed;
    impl Handler for Borrowed {
        type Message = str;
        fn message(&mut self, line: &str) -> usize {
            line.len()
        }
    }
    struct Redis;
    impl Handler for Redis {
        type Message = Command<'static>;
        fn message(&mut self, Command(words): Command<'_>) -> usize {
            words.len()
        }
    }
    assert_eq!((handle(Owned, b"hello"), handle(Borrowed, b"hello"), handle(Redis, b"SET a 1")), (5, 5, 3));
}

#[test]
fn json_is_read_from_a_line_and_written_as_one() {
    let (mut outgoing, mut spare) = (Vec::new(), Vec::new());
    encode(&Line, &Json(("two\nlines", [1, 2])), &mut spare, &mut outgoing).unwrap();
    encode(&Line, &Json(true), &mut spare, &mut outgoing).unwrap();
    assert_eq!(outgoing, b"[\"two\\nlines\",[1,2]]\ntrue\n");

    let mut decoder = Decoder::new(Line, 100);
    let frame = decoder.next_frame(&outgoing, &mut 0).unwrap().unwrap();
    let Json((text, numbers)) = decoder.message::<Json<(String, Vec<u8>)>>(&outgoing[frame]).unwrap();
    assert_eq!((&*text, &*numbers), ("two\nlines", &[1, 2][..]));

    let error = decoder.message::<Json<u8>>(b"12x").unwrap_err();
    assert_eq!(error.to_string(), "malformed message: trailing characters at line 1 column 3");
    let FrameError::Malformed(inner) = error else { panic!("{error:?}") };
    assert!(inner.is::<serde_json::Error>());
}

#[test]
fn a_packet_is_a_message_without_a_header_and_without_a_lines_end() {
    let decoder = Decoder::new(Line, 5);
    assert_eq!(decoder.packet::<str>(b"hello").unwrap(), "hello");
    assert_eq!(decoder.packet::<str>(b"hello\n").unwrap(), "hello");
    assert_eq!(decoder.packet::<str>(b"a\nb\r\n").unwrap(), "a\nb");
    assert_eq!(decoder.packet::<str>(b"").unwrap(), "");
    assert!(matches!(decoder.packet::<str>(b"hello!\n"), Err(FrameError::TooLong { length: 6, limit: 5 })));
    assert!(matches!(decoder.packet::<str>(b"\xff"), Err(FrameError::Malformed(_))));
    assert_eq!(Decoder::new(Crlf, 5).packet::<str>(b"a\n\r\n").unwrap(), "a\n");
    assert_eq!(Decoder::new(Nul, 5).packet::<str>(b"a\0").unwrap(), "a");
    assert_eq!(Decoder::new(U16, 5).packet::<str>(b"hi").unwrap(), "hi");
}

#[test]
fn an_error_of_io_has_the_error_of_the_frame_inside() {
    let error = io::Error::from(FrameError::TooLong { length: 70_000, limit: 65_536 });
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "a frame of 70000 bytes or more is longer than max_frame (65536 bytes)");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert!(matches!(inner, Some(FrameError::TooLong { length: 70_000, limit: 65_536 })));

    let error = io::Error::from(Decoder::new(U32, 9).last_frame(b"\x00\x00", &mut 0).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(error.to_string(), "the stream has ended inside a frame, after 2 bytes of it");
}

/// Counts the bytes that a framing is shown.
struct Counted<F>(F, Arc<AtomicUsize>);

impl<F: Framing> Framing for Counted<F> {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        self.1.fetch_add(bytes.len(), Relaxed);
        self.0.scan(bytes)
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        self.0.encode(payload, outgoing)
    }
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_not_searched_again_from_its_start() {
    fn shown<F: Framing>(framing: F, stream: &[u8]) -> usize {
        let shown = Arc::new(AtomicUsize::new(0));
        let mut decoder = Decoder::new(Counted(framing, shown.clone()), DEFAULT_MAX_FRAME);
        let mut position = 0;
        for end in 1..stream.len() {
            assert_eq!(decoder.next_frame(&stream[..end], &mut position).unwrap(), None);
        }
        assert!(decoder.next_frame(stream, &mut position).unwrap().is_some());
        shown.load(Relaxed)
    }
    let payload = vec![b'x'; 50_000];
    let a_line = encoded(&Line, &payload).unwrap();
    assert_eq!(shown(Line, &a_line), a_line.len());
    let of_carriage_returns = [b"\r".repeat(50_000), b"\r\n".to_vec()].concat();
    assert!(shown(Line, &of_carriage_returns) < 3 * of_carriage_returns.len());
    assert!(shown(Crlf, &of_carriage_returns) < 3 * of_carriage_returns.len());
    // Only the header is looked at, and the comma.
    assert_eq!(shown(U32, &encoded(&U32, &payload).unwrap()), 1 + 2 + 3 + 4);
    assert_eq!(
        shown(Netstring::default(), &encoded(&Netstring::default(), &payload).unwrap()),
        1 + 2 + 3 + 4 + 5 + 6 + 1
    );
    let command = [&b"*5000\r\n"[..], &b"$1\r\nx\r\n".repeat(5000)].concat();
    assert!(shown(Resp::default(), &command) < 3 * command.len());
    assert_eq!(shown(Resp::default(), &a_line), a_line.len());
}

#[test]
fn a_turn_of_an_event_loop_can_end_between_two_messages() {
    let stream: Vec<u8> = (0..40).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let (mut decoder, mut incoming, mut turns) = (Decoder::new(Line, 100), stream, Vec::new());
    while !incoming.is_empty() {
        let (mut position, mut turn) = (0, Vec::new());
        while turn.len() < 16
            && let Some(frame) = decoder.next_frame(&incoming, &mut position).unwrap()
        {
            turn.push(decoder.message::<str>(&incoming[frame]).unwrap().parse::<u8>().unwrap());
        }
        incoming.drain(..position);
        turns.push(turn);
    }
    assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
    assert_eq!(turns.concat(), (0..40).collect::<Vec<_>>());
}

#[test]
fn a_mistake_in_a_framing_breaks_the_stream_and_hangs_nothing() {
    struct Mistaken(Scan);
    impl Framing for Mistaken {
        fn scan(&mut self, _bytes: &[u8]) -> Result<Scan, BoxError> {
            Ok(self.0)
        }

        fn encode(&self, _payload: &[u8], _outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let bytes = [0; DEFAULT_MAX_FRAME + 100];
    is_broken(Mistaken(Scan::End { length: 0, header: 0, trailer: 0 }), &bytes, "which is no frame");
    is_broken(Mistaken(Scan::End { length: 3, header: 2, trailer: 2 }), &bytes, "which is no frame");
    is_broken(Mistaken(Scan::End { length: 3, header: 4, trailer: usize::MAX }), &bytes, "which is no frame");
    is_broken(Mistaken(Scan::More(0)), &bytes, "`Framing::scan` has returned More(0) for 65636 bytes");
    let too_long = [Heard::TooLong];
    assert_eq!(hear(Mistaken(Scan::More(usize::MAX)), 9, [&bytes[..]]), too_long);
    assert_eq!(hear(Mistaken(Scan::End { length: usize::MAX, header: 0, trailer: 0 }), 9, [&bytes[..]]), too_long);
}

#[test]
fn commands_are_read_from_arrays_and_from_lines() {
    let stream = b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\nset  k v\r\nPING";
    let (mut decoder, mut position, mut commands) = (Decoder::new(Resp::default(), 100), 0, Vec::new());
    while let Some(frame) = decoder.next_frame(stream, &mut position).unwrap() {
        commands.push(Command::from_frame(&stream[frame]).unwrap());
    }
    assert_eq!(commands, [Command(vec![b"GET", b"a\r\nb"]), Command(vec![b"set", b"k", b"v"])]);
    let rest = decoder.last_frame(stream, &mut position).unwrap_err();
    assert!(matches!(rest, FrameError::Truncated { received: 4 }), "{rest:?}");
    assert_eq!(hear(Resp::default(), 100, [&b"*1\r\n?\r\n"[..]]), [Heard::Broken]);
}
