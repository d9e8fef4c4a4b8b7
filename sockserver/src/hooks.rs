//! The calls of a server's hooks, where a panic in a hook is caught.

use std::{io, sync::Arc};

#[cfg(feature = "tls")]
use crate::tls::certificates::Tls;
use crate::{
    address::Address,
    error::{HandlerError, Stage},
    event::Event,
    handle::ServerHandle,
    server_state::EventHook,
    service::{Request, Service},
    telemetry::Telemetry,
    transport::Transport,
    unwind::{self, ServerId},
};

/// The hooks of one server.
pub(crate) struct Hooks<S> {
    pub(crate) server: Arc<S>,
    id: ServerId,
    telemetry: Arc<Telemetry>,
}

impl<S: Service> Hooks<S> {
    pub(crate) fn new(server: S, id: ServerId, server_address: &Address) -> Hooks<S> {
        Hooks { server: Arc::new(server), id, telemetry: Arc::new(Telemetry::new(server_address)) }
    }

    /// Whether anything is done about events.
    pub(crate) const HAS_EVENTS: bool = Telemetry::IS_ON || S::EVENT.is_some();

    /// Without a hook this is nothing, and the compiler removes what the event is made of.
    #[inline]
    pub(crate) fn event(&self, event: &Event<'_>) {
        self.telemetry.event(event);
        if let Some(hook) = S::EVENT {
            let _ = unwind::run(self.id, || hook(&self.server, event));
        }
    }

    /// The call of [`event`](Self::event), for the state that does not depend on the type of the server.
    pub(crate) fn on_event(&self) -> Option<EventHook> {
        // A server may keep its handle, which has that state.
        let (server, id, telemetry) = (Arc::downgrade(&self.server), self.id, self.telemetry.clone());
        let on_event = move |event: &Event<'_>| {
            if let Some(server) = server.upgrade() {
                Hooks { server, id, telemetry: telemetry.clone() }.event(event);
            }
        };
        Hooks::<S>::HAS_EVENTS.then(|| Box::new(on_event) as EventHook)
    }

    /// The call of the hook `tls`, for the state as well.
    #[cfg(feature = "tls")]
    pub(crate) fn on_tls(&self) -> impl Fn() -> io::Result<Option<Tls>> + Send + Sync + use<S> {
        let (server, id) = (Arc::downgrade(&self.server), self.id);
        move || {
            let Some(server) = server.upgrade() else { return Ok(None) };
            unwind::run(id, || server.tls())
                .unwrap_or_else(|message| Err(io::Error::other(format!("the hook `tls` panicked: {message}"))))
        }
    }

    /// The report of certificates that could not be read again, for the state as well.
    #[cfg(feature = "tls")]
    pub(crate) fn on_failed_reload(&self, server_address: &Address) -> impl Fn(io::Error) + Send + Sync + use<S> {
        let (server, id, telemetry) = (Arc::downgrade(&self.server), self.id, self.telemetry.clone());
        let server_address = server_address.clone();
        move |error| {
            if let Some(server) = server.upgrade() {
                Hooks { server, id, telemetry: telemetry.clone() }.report(Stage::Reload, error, &server_address);
            }
        }
    }

    /// Python's `get_request`. A panic counts as an error that concerns only the accepted connection.
    pub(crate) fn get_request(&self, listener: &<S::Transport as Transport>::Listener) -> io::Result<Request<S>> {
        unwind::run(self.id, || S::Transport::get_request(listener))
            .unwrap_or_else(|message| Err(io::Error::other(format!("get_request panicked: {message}"))))
    }

    pub(crate) fn server_activate(&self, handle: &ServerHandle) -> Result<(), String> {
        unwind::run(self.id, || self.server.server_activate(handle))
    }

    pub(crate) fn verify_request(&self, request: &Request<S>, client_address: &Address) -> Result<bool, String> {
        unwind::run(self.id, || self.server.verify_request(request, client_address))
    }

    pub(crate) fn handle_error(&self, error: HandlerError, client_address: &Address) {
        // A panic is not reported: the panic hook of the process has printed it, and `handle_error` is what has panicked.
        let _ = unwind::run(self.id, || self.server.handle_error(&error, client_address));
        // The error is the user's, and its drop may panic too. Within the first panic that would end the process.
        let _ = unwind::run(self.id, || drop(error));
    }

    /// Reports an error that concerns no client.
    pub(crate) fn report(&self, stage: Stage, error: io::Error, server_address: &Address) {
        self.handle_error(HandlerError::new(stage, error), server_address);
    }

    pub(crate) fn handle_timeout(&self) {
        let _ = unwind::run(self.id, || self.server.handle_timeout());
    }

    pub(crate) fn service_actions(&self) {
        let _ = unwind::run(self.id, || self.server.service_actions());
    }

    pub(crate) fn server_close(&self) {
        let _ = unwind::run(self.id, || self.server.server_close());
    }
}
