//! Where a server listens and where a client is.

use std::{
    error::Error,
    ffi::OsStr,
    fmt, io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use socket2::SockAddr;

use crate::sys;

/// The address of a server or of a client, whatever the transport: Python's `server_address` and `client_address`.
///
/// ```
/// use sockserver::Address;
///
/// let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9999)));
/// assert_eq!(address.port(), Some(9999));
/// assert_eq!(address.to_string(), "127.0.0.1:9999");
/// assert_eq!(Address::unix("/run/app.sock").path(), Some("/run/app.sock".as_ref()));
/// assert_eq!("unix:/run/app.sock".parse(), Ok(Address::unix("/run/app.sock")));
/// ```
///
/// It is parsed from the text that it is displayed as, and from `unix:/run/app.sock` or `unix:@name`, as `"stream"` takes them.
/// A path that begins neither with `/` nor with `.` needs the `unix:`. With the feature `serde` it is read from such a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Inet(SocketAddr),
    /// The address of a Unix socket.
    Unix(UnixAddress),
}

/// The address of a Unix socket. An abstract name is displayed as `@name`, as `ss` and systemd display it, and an
/// unnamed socket as `(unnamed)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixAddress {
    /// A socket file.
    Path(PathBuf),
    /// A name in the abstract namespace of Linux, without the zero byte in front.
    Abstract(Vec<u8>),
    /// A socket that was not bound, as those of stream clients usually are not.
    Unnamed,
}

impl Address {
    /// The address of a Unix socket. As in Python, a path that starts with a zero byte is an abstract name, and an
    /// empty one is no name.
    pub fn unix(path: impl AsRef<Path>) -> Address {
        Address::Unix(match path.as_ref().as_os_str().as_bytes() {
            [] => UnixAddress::Unnamed,
            [0, name @ ..] => UnixAddress::Abstract(name.to_vec()),
            _ => UnixAddress::Path(path.as_ref().to_path_buf()),
        })
    }

    /// The IP address; `None` for a Unix socket. An IPv4 client has an IPv4 address, even if the server listens on
    /// `[::]` and the kernel reports `::ffff:127.0.0.1`.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Inet(address) => Some(address.ip().to_canonical()),
            Address::Unix(_) => None,
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Inet(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }

    /// The socket file; `None` for an internet address and for a Unix socket without a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Unix(UnixAddress::Path(path)) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn from_sockaddr(address: &SockAddr) -> io::Result<Address> {
        if let Some(address) = address.as_socket() {
            return Ok(Address::Inet(address));
        }
        if let Some(path) = address.as_pathname() {
            return Ok(Address::Unix(UnixAddress::Path(path.to_path_buf())));
        }
        if let Some(name) = address.as_abstract_namespace() {
            return Ok(Address::Unix(UnixAddress::Abstract(name.to_vec())));
        }
        match address.is_unix() || address.len() == 0 {
            true => Ok(Address::Unix(UnixAddress::Unnamed)),
            false => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("address family {} is neither an internet nor a Unix family", address.family()),
            )),
        }
    }

    pub(crate) fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Address::Inet(address) => Ok(SockAddr::from(*address)),
            Address::Unix(UnixAddress::Path(path)) if path.as_os_str().as_bytes().contains(&0) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the path contains a zero byte"))
            }
            Address::Unix(UnixAddress::Path(path)) => {
                SockAddr::unix(path).map_err(|_| too_long("path", path.as_os_str().len()))
            }
            Address::Unix(UnixAddress::Abstract(name)) => {
                let address = SockAddr::unix(OsStr::from_bytes(&[b"\0".as_slice(), name].concat()));
                address.map_err(|_| too_long("abstract name", name.len()))
            }
            Address::Unix(UnixAddress::Unnamed) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a name cannot be reached"))
            }
        }
    }
}

/// The only reason why [`SockAddr::unix`] fails. A path has a zero byte behind it, an abstract name has one in front.
fn too_long(what: &str, length: usize) -> io::Error {
    let longest = sys::UNIX_PATH_SIZE - 1;
    let error = format!("the {what} of a Unix socket can have {longest} bytes at most, and this one has {length}");
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixAddress::Path(path) => path.display().fmt(f),
            UnixAddress::Abstract(name) => f.pad(&format!("@{}", name.escape_ascii())),
            UnixAddress::Unnamed => f.pad("(unnamed)"),
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    /// Parses `127.0.0.1:9999`, `[::1]:9999`, `/run/app.sock`, `unix:app.sock`, `@name` or `unix:@name`. It does not look up
    /// host names.
    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Address::Inet(address));
        }
        let named = match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(match path.strip_prefix('@') {
                Some(name) => UnixAddress::Abstract(name.into()),
                None => UnixAddress::Path(path.into()),
            }),
            None if text == "(unnamed)" => Some(UnixAddress::Unnamed),
            None => match text.strip_prefix('@') {
                Some(name) => unescape(name).map(UnixAddress::Abstract),
                None => text.starts_with(['/', '.']).then(|| UnixAddress::Path(text.into())),
            },
        };
        named.map(Address::Unix).ok_or_else(|| NotAnAddress(text.to_owned()))
    }
}

/// The bytes that `escape_ascii` has made this text of.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut text = text.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = text.next() {
        bytes.push(match byte {
            b'\\' => match text.next()? {
                b'x' => {
                    let mut digit = || char::from(text.next()?).to_digit(16);
                    (digit()? << 4 | digit()?) as u8
                }
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                byte @ (b'\\' | b'\'' | b'"') => byte,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

/// A text names no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAddress(String);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no address: expected one like 203.0.113.9:5000, [2001:db8::1]:5000, unix:/run/app.sock or @name",
            self.0
        )
    }
}

impl Error for NotAnAddress {}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Inet(address)
    }
}

impl From<SocketAddrV4> for Address {
    fn from(address: SocketAddrV4) -> Address {
        Address::Inet(address.into())
    }
}

impl From<SocketAddrV6> for Address {
    fn from(address: SocketAddrV6) -> Address {
        Address::Inet(address.into())
    }
}

impl From<UnixAddress> for Address {
    fn from(address: UnixAddress) -> Address {
        Address::Unix(address)
    }
}

impl PartialEq<Address> for SocketAddr {
    fn eq(&self, other: &Address) -> bool {
        other == self
    }
}

impl PartialEq<SocketAddr> for Address {
    fn eq(&self, other: &SocketAddr) -> bool {
        matches!(self, Address::Inet(address) if address == other)
    }
}

impl ToSocketAddrs for Address {
    type Iter = std::option::IntoIter<SocketAddr>;

    /// Fails with [`io::ErrorKind::InvalidInput`] for the address of a Unix socket.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self {
            Address::Inet(address) => Ok(Some(*address).into_iter()),
            Address::Unix(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is the address of a Unix socket; an internet one is like 127.0.0.1:9999",
            )),
        }
    }
}
