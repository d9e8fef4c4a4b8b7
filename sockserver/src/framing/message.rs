//! From a frame to a message, and back.

use std::{error::Error, str};

use super::{FrameError, Framing};

/// What a frame can be read as: the type of a handler's messages.
///
/// Messages that borrow from the buffer are not copied: the message of `str` is `&str`, where that of `String` is a
/// `String`. Hence the type that is named and the one that comes are two.
///
/// | named | comes | copied |
/// |---|---|---|
/// | `String`, `Vec<u8>` | the same | once |
/// | `str`, `[u8]` | `&str`, `&[u8]` | never |
#[cfg_attr(feature = "json", doc = "| [`Json<T>`](super::Json) | the same | what `T` copies |")]
///
/// An own type says how it is parsed:
///
/// ```
/// use sockserver::{BoxError, framing::FromFrame};
///
/// struct Set<'a> {
///     key: &'a str,
///     value: &'a str,
/// }
///
/// impl FromFrame for Set<'_> {
///     type Message<'a> = Set<'a>;
///
///     fn from_frame(frame: &[u8]) -> Result<Set<'_>, BoxError> {
///         let (key, value) = str::from_utf8(frame)?.split_once('=').ok_or("a setting is `key=value`")?;
///         Ok(Set { key, value })
///     }
/// }
///
/// let set = Set::from_frame(b"colour=blue").unwrap();
/// assert_eq!((set.key, set.value), ("colour", "blue"));
/// assert_eq!(Set::from_frame(b"colour").err().unwrap().to_string(), "a setting is `key=value`");
/// ```
///
/// A handler names it with `'static`, and gets the borrowed one: `type Message = Set<'static>;` and
/// `fn message(&mut self, set: Set<'_>)`.
#[diagnostic::on_unimplemented(
    message = "a frame cannot be read as `{Self}`",
    note = "messages are `String`, `str`, `Vec<u8>`, `[u8]`, `Json<T>` (feature `json`), or of a type that implements \
            `sockserver::framing::FromFrame`"
)]
pub trait FromFrame {
    /// What comes: `Self`, or what borrows from the frame.
    type Message<'a>;

    /// Parses a frame, which is without header, trailer and line end.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It becomes [`FrameError::Malformed`].
    fn from_frame(frame: &[u8]) -> Result<Self::Message<'_>, Box<dyn Error + Send + Sync>>;
}

impl FromFrame for str {
    type Message<'a> = &'a str;

    /// # Errors
    ///
    /// [`Utf8Error`](str::Utf8Error).
    fn from_frame(frame: &[u8]) -> Result<&str, Box<dyn Error + Send + Sync>> {
        Ok(str::from_utf8(frame)?)
    }
}

impl FromFrame for String {
    type Message<'a> = String;

    /// # Errors
    ///
    /// [`Utf8Error`](str::Utf8Error).
    fn from_frame(frame: &[u8]) -> Result<String, Box<dyn Error + Send + Sync>> {
        Ok(str::from_utf8(frame)?.to_owned())
    }
}

impl FromFrame for [u8] {
    type Message<'a> = &'a [u8];

    fn from_frame(frame: &[u8]) -> Result<&[u8], Box<dyn Error + Send + Sync>> {
        Ok(frame)
    }
}

impl FromFrame for Vec<u8> {
    type Message<'a> = Vec<u8>;

    fn from_frame(frame: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(frame.to_vec())
    }
}

/// What can be sent as a frame.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as a frame",
    note = "what is sent is text, bytes, `Json<T>` (feature `json`), or of a type that implements \
            `sockserver::framing::ToFrame`"
)]
pub trait ToFrame {
    /// The bytes of the message. It can write them into `buffer`, which is empty, and return that.
    ///
    /// # Errors
    ///
    /// Why there are none. It becomes [`FrameError::Unsendable`].
    ///
    /// ```
    /// use sockserver::{BoxError, framing::ToFrame};
    /// use std::io::Write;
    ///
    /// struct Temperature(f64);
    ///
    /// impl ToFrame for Temperature {
    ///     fn to_frame<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
    ///         write!(buffer, "{:.1} °C", self.0)?;
    ///         Ok(buffer)
    ///     }
    /// }
    /// # assert_eq!(Temperature(20.04).to_frame(&mut Vec::new()).unwrap(), "20.0 °C".as_bytes());
    /// ```
    fn to_frame<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>>;
}

impl ToFrame for [u8] {
    fn to_frame<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(self)
    }
}

impl<const N: usize> ToFrame for [u8; N] {
    fn to_frame<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(self)
    }
}

impl ToFrame for Vec<u8> {
    fn to_frame<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(self)
    }
}

impl ToFrame for str {
    fn to_frame<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(self.as_bytes())
    }
}

impl ToFrame for String {
    fn to_frame<'a>(&'a self, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(self.as_bytes())
    }
}

impl<M: ToFrame + ?Sized> ToFrame for &M {
    fn to_frame<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        (**self).to_frame(buffer)
    }
}

/// Appends a message to `outgoing` as a frame. What `spare` holds is thrown away: it is room for messages that have to
/// be written out first, and is best kept for the next one.
///
/// ```
/// use sockserver::framing::{self, Line};
///
/// let (mut spare, mut outgoing) = (Vec::new(), Vec::new());
/// framing::encode(&Line, "hello", &mut spare, &mut outgoing)?;
/// framing::encode(&Line, "two\nlines", &mut spare, &mut outgoing).unwrap_err();
/// assert_eq!(outgoing, b"hello\n");
/// # Ok::<(), framing::FrameError>(())
/// ```
///
/// # Errors
///
/// [`FrameError::Unsendable`]; `outgoing` is then as it was.
pub fn encode<F, M>(framing: &F, message: &M, spare: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Result<(), FrameError>
where
    F: Framing + ?Sized,
    M: ToFrame + ?Sized,
{
    let before = outgoing.len();
    spare.clear();
    let encoded = message.to_frame(spare).and_then(|payload| framing.encode(payload, outgoing));
    encoded.map_err(|error| {
        outgoing.truncate(before);
        FrameError::Unsendable(error)
    })
}
