//! The TLS configuration of a server, and how it is made again.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring::Ticketer,
    server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{
    certificates::{self, Source, Tls},
    watch::Watch,
};
use crate::{
    options::{ClientAuth, Options, TlsOptions, TlsStart, TlsVersions},
    primitives::Mutex,
};

/// The TLS configuration of a server. A connection takes what is current when its handshake begins.
pub(crate) struct Material {
    current: Mutex<Arc<ServerConfig>>,
    options: TlsOptions,
    /// `timeouts(handshake)`.
    handshake: Duration,
    /// Kept over reloads, so that clients can still resume their sessions.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    /// What the server's hook returns. `None`: it has none, and the options name files.
    by_hook: Box<dyn Fn() -> io::Result<Option<Tls>> + Send + Sync>,
    /// `tls(reload)`.
    watch: Option<Watch>,
    /// Reports that the configuration could not be made again for a handshake.
    not_reloaded: Box<dyn Fn(io::Error) + Send + Sync>,
}

impl Material {
    /// `None`: the server has no TLS.
    pub(crate) fn new(
        options: &Options,
        by_hook: impl Fn() -> io::Result<Option<Tls>> + Send + Sync + 'static,
        not_reloaded: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Option<Material>> {
        let Options { tls: options, timeouts, .. } = options;
        let watch = Watch::new(options);
        let Some(tls) = load(options, &by_hook)? else { return Ok(None) };
        // The ticket of a client whose certificate was accepted once would be accepted when it no longer is.
        let has_tickets = options.tickets && options.client_auth == ClientAuth::None;
        let ticketer = match (&tls.ticketer, has_tickets) {
            (Some(ticketer), true) => Some(ticketer.clone()),
            (None, true) => Some(Ticketer::new().map_err(io::Error::other)?),
            (_, false) => None,
        };
        let current = Mutex::new(config(tls, options, ticketer.as_ref())?);
        Ok(Some(Material {
            current,
            options: options.clone(),
            handshake: timeouts.handshake,
            ticketer,
            by_hook: Box::new(by_hook),
            watch,
            not_reloaded: Box::new(not_reloaded),
        }))
    }

    /// Whether connections begin with the handshake.
    pub(crate) fn starts_at_accept(&self) -> bool {
        self.options.start == TlsStart::Accept
    }

    /// How long the client may take for a handshake.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake
    }

    /// The configuration for a handshake that begins now. With `tls(reload)` it is made again first if that is due: a
    /// handshake never waits for another one's reload.
    pub(crate) fn for_handshake(&self) -> Arc<ServerConfig> {
        if let Some(watch) = &self.watch
            && let Some(versions) = watch.changed()
        {
            match self.reload() {
                Ok(()) => watch.note_loaded(versions),
                Err(error) if watch.note_failed(versions) => (self.not_reloaded)(error),
                Err(_) => {}
            }
        }
        self.current.lock().clone()
    }

    /// Makes the configuration again. After an error the old one stays.
    pub(crate) fn reload(&self) -> io::Result<()> {
        let tls = load(&self.options, &*self.by_hook)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the hook `tls` and the options name no certificate any more")
        })?;
        let config = config(tls, &self.options, self.ticketer.as_ref())?;
        // Dropped after the unlock.
        let _old = std::mem::replace(&mut *self.current.lock(), config);
        Ok(())
    }
}

fn load(options: &TlsOptions, by_hook: &dyn Fn() -> io::Result<Option<Tls>>) -> io::Result<Option<Tls>> {
    let tls = match by_hook()? {
        Some(tls) => tls,
        None => match (options.certificate, options.key) {
            (Some(certificate), Some(key)) => Tls::files(certificate, key)?,
            (None, None) => return Ok(None),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the options `tls.certificate` and `tls.key` belong together: one of them is missing",
                ));
            }
        },
    };
    Ok(Some(match options.client_ca {
        None => tls,
        Some(path) => {
            let authorities = certificates::read(Path::new(path))?;
            tls.client_ca(authorities).map_err(|error| certificates::about(path, error))?
        }
    }))
}

fn config(
    tls: Tls,
    options: &TlsOptions,
    ticketer: Option<&Arc<dyn ProducesTickets>>,
) -> io::Result<Arc<ServerConfig>> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let builder = ServerConfig::builder_with_provider(tls.provider().clone())
        .with_protocol_versions(versions(options.versions))
        .map_err(|error| invalid(&error))?
        .with_client_cert_verifier(verifier(&tls, options.client_auth)?);
    let mut config = match tls.source {
        Source::Config(config) => return Ok(config),
        Source::Resolver(resolver) => builder.with_cert_resolver(resolver),
        Source::Certificates(certificates) => builder.with_cert_resolver(Arc::new(certificates)),
    };
    // All suites that rustls has are good, but scanners ask for an order.
    config.ignore_client_order = true;
    config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // Not the sessions themselves, which would be lost with a child process.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match ticketer {
        Some(ticketer) => config.ticketer = ticketer.clone(),
        None => config.send_tls13_tickets = 0,
    }
    Ok(Arc::new(config))
}

fn verifier(tls: &Tls, client_auth: ClientAuth) -> io::Result<Arc<dyn ClientCertVerifier>> {
    if client_auth == ClientAuth::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let roots = Arc::new(certificates::roots(&tls.client_ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, tls.provider().clone());
    let builder = if client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the certificates of clients cannot be verified ({error}): `tls.client_ca` names their authorities"
            ),
        )
    })
}

fn versions(versions: TlsVersions) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match versions {
        TlsVersions::Both => &ALL,
        TlsVersions::Tls13 => &ALL[..1],
        TlsVersions::Tls12 => &ALL[1..],
    }
}
