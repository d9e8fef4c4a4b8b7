//! What a server proves itself with, and what its clients must.

use std::{collections::HashMap, fmt, fs, io, path::Path, sync::Arc};

use rustls::{
    Error, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ProducesTickets, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificates of a server with their keys, made at run time: what [`hooks(tls = …)`](crate::Server::tls) returns.
///
/// ```
/// use sockserver::Tls;
/// use std::io;
///
/// /// A certificate that was compiled in, and one of its own for a second name.
/// fn tls(certificate: &[u8], key: &[u8], other: (&[u8], &[u8])) -> io::Result<Tls> {
///     Tls::pem(certificate, key)?.with("other.example", other.0, other.1)
/// }
/// # assert!(tls(b"", b"", (b"", b"")).is_err());
/// ```
///
/// The keys of `tls(…)` other than `certificate` and `key` hold for it as well.
#[derive(Clone)]
pub struct Tls {
    pub(super) source: Source,
    provider: Arc<CryptoProvider>,
    pub(super) client_ca: Vec<CertificateDer<'static>>,
    pub(super) ticketer: Option<Arc<dyn ProducesTickets>>,
}

#[derive(Clone)]
pub(super) enum Source {
    Certificates(Certificates),
    Resolver(Arc<dyn ResolvesServerCert>),
    /// All of it was decided elsewhere.
    Config(Arc<ServerConfig>),
}

/// The certificates by the names that clients ask for.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For a client that asks for no name, or for one that no certificate is named after.
    default: Arc<CertifiedKey>,
}

impl Tls {
    /// The certificate that clients get, with the chain behind it, and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`]: there is no certificate or no key in it, or the two do not belong together.
    pub fn pem(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let default = certified_key(&provider, certificate.as_ref(), key.as_ref())?;
        let certificates = Certificates { by_name: HashMap::new(), default };
        Ok(Tls { source: Source::Certificates(certificates), provider, client_ca: Vec::new(), ticketer: None })
    }

    /// As [`pem`](Self::pem), from files.
    ///
    /// # Errors
    ///
    /// Those of `pem` and of reading the files. The message names the files.
    pub fn files(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Tls> {
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        let in_files = |error| about(&format!("{} and {}", certificate.display(), key.display()), error);
        Tls::pem(read(certificate)?, read(key)?).map_err(in_files)
    }

    /// The certificate of each connection is chosen by this: rustls calls it with the name that the client asks for.
    pub fn resolver(resolver: Arc<dyn ResolvesServerCert>) -> Tls {
        Tls::new(Source::Resolver(resolver))
    }

    fn new(source: Source) -> Tls {
        Tls { source, provider: Arc::new(ring::default_provider()), client_ca: Vec::new(), ticketer: None }
    }

    /// Adds the certificate for clients that ask for this name (SNI). `*.example.com` stands for all names with one more
    /// label. Both are in PEM.
    ///
    /// # Errors
    ///
    /// Those of [`pem`](Self::pem). [`io::ErrorKind::InvalidInput`] for a `Tls` that is a resolver or a whole
    /// configuration.
    pub fn with(mut self, name: &str, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Tls> {
        let Source::Certificates(certificates) = &mut self.source else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a resolver chooses among certificates of its own: add the certificate there",
            ));
        };
        let certified = certified_key(&self.provider, certificate.as_ref(), key.as_ref());
        let certified = certified.map_err(|error| about(&format!("the certificate for {name}"), error))?;
        certificates.by_name.insert(name.to_ascii_lowercase(), certified);
        Ok(self)
    }

    /// The authorities that sign the certificates of clients, in PEM: what `tls(client_ca = …)` reads from a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`]: there is no certificate in it.
    pub fn client_ca(mut self, pem: impl AsRef<[u8]>) -> io::Result<Tls> {
        self.client_ca = certificates(pem.as_ref())?;
        Ok(self)
    }

    /// Makes and reads session tickets by this, so that several servers can share the keys of them.
    #[must_use]
    pub fn ticketer(mut self, ticketer: Arc<dyn ProducesTickets>) -> Tls {
        self.ticketer = Some(ticketer);
        self
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }
}

impl From<Arc<ServerConfig>> for Tls {
    /// A whole configuration of rustls, with the crypto provider that it was made with. The other keys of `tls(…)` do not
    /// change it.
    fn from(config: Arc<ServerConfig>) -> Tls {
        Tls::new(Source::Config(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = client_hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let (_, parent) = name.split_once('.').unwrap_or_default();
            self.by_name.get(&name).or_else(|| self.by_name.get(&format!("*.{parent}")))
        });
        Some(named.unwrap_or(&self.default).clone())
    }
}

fn certified_key(provider: &CryptoProvider, certificate: &[u8], key: &[u8]) -> io::Result<Arc<CertifiedKey>> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| invalid(format!("no private key in PEM: {error}")))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        invalid(match error {
            Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
            error => error.to_string(),
        })
    })?;
    Ok(Arc::new(certified))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("no certificate in PEM: {error}")))?;
    if certificates.is_empty() { Err(invalid("no certificate in PEM")) } else { Ok(certificates) }
}

pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| invalid(format!("no authority for clients: {error}")))?;
    }
    Ok(roots)
}

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| about(&path.display().to_string(), error))
}

pub(super) fn about(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
