//! Begins TLS when its client asks for it: `start_tls CONCURRENCY CERTIFICATE KEY ADDRESS`. It answers each line in upper
//! case, or with `plain` before it.

use std::{io::Write, marker::PhantomData};

use sockserver::{
    Concurrency, HandlerResult, MessageHandler, Options, Server, StartTls, Stream, TlsOptions, TlsStart, Writer,
    message_handler,
};
use sockserver_tests::by_concurrency;

use crate::{Ended, follow_parent};

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Session, hooks(service_actions = Self::follow_parent))]
struct Upgrading<C: Concurrency + Default>(PhantomData<C>);

impl<C: Concurrency + Default> Upgrading<C> {
    fn follow_parent(&self) {
        follow_parent();
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
    let [concurrency, certificate, key, address] = arguments else {
        return Err("start_tls CONCURRENCY CERTIFICATE KEY ADDRESS".into());
    };
    let [certificate, key] = [certificate, key].map(|path| &*path.clone().leak());
    let tls = TlsOptions::new().certificate(certificate).key(key).start(TlsStart::Handler);
    by_concurrency!(concurrency, C => serve_upgrading::<C>(Options::new().tls(tls), address))
}

fn serve_upgrading<C: Concurrency + Default>(options: Options, address: &str) -> Ended {
    let server = Upgrading::<C>(PhantomData).bind_with(address, options)?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}
