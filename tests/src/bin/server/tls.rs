//! Answers each line in upper case, over TLS: `tls CONCURRENCY START CERTIFICATE KEY ADDRESS`. With the `START` `handler` it
//! begins when the client asks for it, and answers with `plain` before it. On SIGHUP it reads its certificate again.

use std::{
    io::Write,
    marker::PhantomData,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use signal_hook::{consts::SIGHUP, flag};
use sockserver::{
    Concurrency, HandlerResult, MessageHandler, Options, Server, ServerHandle, StartTls, Stream, TlsOptions, TlsStart,
    Writer, message_handler,
};
use sockserver_tests::{by_concurrency, concurrencies::set_workers};

use crate::{Ended, follow_parent};

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Session,
    hooks(server_activate = Self::keep_handle, service_actions = Self::on_turn),
)]
struct Encrypted<C: Concurrency + Default> {
    is_to_reload: Arc<AtomicBool>,
    handle: OnceLock<ServerHandle>,
    concurrency: PhantomData<C>,
}

impl<C: Concurrency + Default> Encrypted<C> {
    fn keep_handle(&self, handle: &ServerHandle) {
        self.handle.get_or_init(|| handle.clone());
    }

    fn on_turn(&self) {
        follow_parent();
        if let Some(handle) = self.handle.get()
            && self.is_to_reload.swap(false, SeqCst)
        {
            match handle.reload() {
                Ok(()) => println!("reloaded"),
                Err(error) => println!("not reloaded: {error}"),
            }
        }
    }
}

#[message_handler(framing = "line")]
struct Session {
    request: Stream,
    wfile: Writer,
}

impl MessageHandler for Session {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "STARTTLS" => {
                writeln!(self.wfile, "220 go ahead")?;
                return Err(StartTls.into());
            }
            line if self.request.tls_info().is_some() => writeln!(self.wfile, "{}", line.to_uppercase())?,
            line => writeln!(self.wfile, "plain {line}")?,
        }
        Ok(())
    }
}

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [concurrency, start, certificate, key, address] = arguments else {
        return Err("tls CONCURRENCY START CERTIFICATE KEY ADDRESS".into());
    };
    let start = if start == "handler" { TlsStart::Handler } else { TlsStart::Accept };
    let [certificate, key] = [certificate, key].map(|path| &*path.clone().leak());
    let mut options = Options::new().tls(TlsOptions::new().certificate(certificate).key(key).start(start));
    options.timeouts.poll = Some(Duration::from_millis(10));
    set_workers(&mut options);
    by_concurrency!(concurrency, C => serve_encrypted::<C>(options, address))
}

fn serve_encrypted<C: Concurrency + Default>(options: Options, address: &str) -> Ended {
    let is_to_reload = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, is_to_reload.clone())?;
    let server: Encrypted<C> = Encrypted { is_to_reload, handle: OnceLock::new(), concurrency: PhantomData };
    let server = server.bind_with(address, options)?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
