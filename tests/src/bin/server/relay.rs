//! A server that passes on what its clients send to another server, and what that answers: `relay TRANSPORT CONCURRENCY
//! READING MODE UPSTREAM ADDRESS`. One thread of a handler reads from the client, by `line`, `read` or `direct` (from
//! the `Stream`), while another one copies to it. `MODE` is `blocking` or, where somebody has a clone of the descriptor
//! that is not, `nonblocking`.

use std::{
    io::{self, Read, Write},
    marker::PhantomData,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    thread,
};

use sockserver::{
    Address, Concurrency, Context, FromRequest, HandlerResult, Options, Reader, RequestHandler, Server, Stream, Writer,
    transport::{StreamTransport, Tcp, Unix},
};
use sockserver_tests::by_concurrency;
use sockserver_tests::place::Local;

use crate::{Ended, follow_parent};

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [transport, concurrency, settings @ .., address] = arguments else {
        return Err("relay TRANSPORT CONCURRENCY READING MODE UPSTREAM ADDRESS".into());
    };
    match transport.as_str() {
        "tcp" => serve_by::<Tcp>(concurrency, settings, &Address::Inet(address.parse()?)),
        "unix" => serve_by::<Unix>(concurrency, settings, &Address::unix(address)),
        _ => Err(format!("there is no transport {transport}").into()),
    }
}

fn serve_by<T: Local + StreamTransport>(concurrency: &str, settings: &[String], address: &Address) -> Ended {
    by_concurrency!(concurrency, C => serve_relay::<T, C>(settings, address))
}

fn serve_relay<T: Local + StreamTransport, C: Concurrency + Default>(settings: &[String], address: &Address) -> Ended {
    let [reading, mode, upstream] = settings else { return Err("READING MODE UPSTREAM".into()) };
    let server = Relay::<T, C> {
        reading: reading.clone(),
        is_nonblocking: mode == "nonblocking",
        upstream: upstream.clone(),
        composition: PhantomData,
    };
    let server = T::bind(server, address, Options::new())?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}

struct Relay<T, C> {
    reading: String,
    is_nonblocking: bool,
    upstream: String,
    composition: PhantomData<fn() -> (T, C)>,
}

impl<T: StreamTransport, C: Concurrency + Default> Server for Relay<T, C> {
    type Transport = T;
    type Concurrency = C;
    type Handler = Both<T, C>;
    const OPTIONS: Options = Options::new();

    fn service_actions(&self) {
        follow_parent();
    }
}

struct Both<T: StreamTransport, C: Concurrency + Default> {
    request: Stream,
    rfile: Reader,
    wfile: Writer,
    server: Arc<Relay<T, C>>,
}

impl<T: StreamTransport, C: Concurrency + Default> FromRequest<Relay<T, C>> for Both<T, C> {
    fn from_request(cx: &mut Context<'_, Relay<T, C>>) -> io::Result<Both<T, C>> {
        Ok(Both {
            request: Stream::from_request(cx)?,
            rfile: Reader::from_request(cx)?,
            wfile: Writer::from_request(cx)?,
            server: cx.server().clone(),
        })
    }
}

impl<T: StreamTransport, C: Concurrency + Default> RequestHandler for Both<T, C> {
    fn handle(&mut self) -> HandlerResult {
        let Both { request, rfile, wfile, server } = self;
        let others = TcpStream::from(request.as_fd().try_clone_to_owned()?);
        if server.is_nonblocking {
            others.set_nonblocking(true)?;
        }
        let upstream = TcpStream::connect(&server.upstream)?;
        thread::scope(|scope| {
            let copying = scope.spawn(|| io::copy(&mut { &upstream }, wfile));
            let read = match server.reading.as_str() {
                "line" => pass_lines_on(rfile, &upstream),
                "read" => pass_on(rfile, &upstream),
                _ => pass_on(request, &upstream),
            };
            upstream.shutdown(Shutdown::Write)?;
            read?;
            copying.join().expect("it does not panic")?;
            Ok(())
        })
    }
}

fn pass_lines_on(rfile: &mut Reader, mut upstream: &TcpStream) -> io::Result<()> {
    while let Some(line) = rfile.next_line()? {
        upstream.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

fn pass_on(client: &mut impl Read, mut upstream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1 << 10];
    loop {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            read => upstream.write_all(&buffer[..read])?,
        }
    }
}
