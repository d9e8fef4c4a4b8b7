//! Reading and writing on two threads, and descriptors that were lent to others.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Concurrency, HandlerResult, Stream,
    transport::{StreamTransport, Tcp, Unix},
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    in_each_concurrency,
    place::Local,
    script::{Script, Scripted, Session},
};

/// More than the kernel takes for a client that does not read.
const TOO_MUCH: usize = 16 << 20;

/// Serves a handler whose one thread reads lines until the end, while another one writes by this function.
fn serve_pushing<T: Local + StreamTransport, C: Concurrency>(
    write: impl Fn(&mut sockserver::Writer) -> io::Result<()> + Send + std::marker::Sync + 'static,
) -> Scripted {
    Script::<T, C>::serve(move |session| {
        let Session { rfile, wfile, .. } = session;
        thread::scope(|scope| {
            let writing = scope.spawn(|| write(wfile));
            while rfile.next_line()?.is_some() {}
            Ok(writing.join().expect("it does not panic")?)
        })
    })
}

fn what_one_thread_writes_arrives_while_another_waits_for_the_client<C: Concurrency>() {
    fn arrives<T: Local + StreamTransport, C: Concurrency>() {
        type Write = fn(&mut sockserver::Writer) -> io::Result<()>;
        let ways: [Write; 4] = [
            |wfile| wfile.write_all(b"news\n"),
            |wfile| {
                let plural = 's';
                writeln!(wfile, "new{plural}")
            },
            |wfile| io::copy(&mut &b"news\n"[..], wfile).map(drop),
            |wfile| {
                // More than is held back, and a rest.
                wfile.write_all(&[b' '; 10_000])?;
                wfile.write_all(b"news\n")
            },
        ];
        for write in ways {
            let server = serve_pushing::<T, C>(write);
            let mut client = Client::connect(server.server_address());
            assert_eq!(client.line().trim(), "news");
            client.finish();
            assert_eq!(client.rest(), "");
        }
    }
    arrives::<Tcp, C>();
    arrives::<Unix, C>();
}

fn the_pieces_of_one_write_are_sent_as_one<C: Concurrency>() {
    let (next, is_next) = mpsc::channel::<()>();
    let is_next = Mutex::new(is_next);
    let server = serve_pushing::<Unix, C>(move |wfile| {
        while is_next.lock().unwrap().recv().is_ok() {
            let [one, two, three] = ["one", "two", "three"];
            writeln!(wfile, "{one}, {two} and {three}")?;
        }
        Ok(())
    });
    let client = Client::connect(server.server_address());
    // What is written before the other thread waits is held back until it does.
    for _ in 0..100 {
        next.send(()).expect("the handler writes");
        let mut piece = [0; 64];
        let length = client.socket().read(&mut piece).expect("it is sent");
        assert_eq!(piece[..length], *b"one, two and three\n");
    }
    drop(next);
}

/// A handler of which one thread is sending what its client does not take.
struct Stuck {
    lines: Receiver<String>,
    written: Receiver<io::Result<()>>,
    write: Sender<Vec<u8>>,
}

fn serve_stuck<C: Concurrency>(write_timeout: Option<Duration>) -> (Scripted, Stuck) {
    let ((line, lines), (write, to_write)) = (mpsc::channel(), mpsc::channel::<Vec<u8>>());
    let ((tell, written), to_write) = (mpsc::channel(), Mutex::new(to_write));
    let server = Script::<Tcp, C>::serve(move |session| {
        let Session { request, rfile, wfile, .. } = session;
        request.set_write_timeout(write_timeout)?;
        thread::scope(|scope| {
            scope.spawn(|| Write::write_all(&mut &*request, &[b'x'; TOO_MUCH]));
            scope.spawn(|| {
                // The queue of the client is full by then.
                while let Ok(bytes) = to_write.lock().unwrap().recv() {
                    tell.send(wfile.write_all(&bytes)).expect("the test looks");
                }
            });
            while let Some(text) = rfile.next_line()? {
                line.send(text)?;
            }
            Ok(())
        })
    });
    (server, Stuck { lines, written, write })
}

/// A client that takes nothing, once its queue is full.
fn client_that_takes_nothing(server: &Scripted) -> Client {
    let client = Client::connect(server.server_address());
    let mut sent = 0;
    eventually("its queue is full", || {
        thread::sleep(Duration::from_millis(20));
        let before = sent;
        sent = server.connections().first().map_or(0, |info| info.bytes_out);
        sent > 0 && sent == before
    });
    client
}

fn a_thread_that_is_sending_holds_up_no_reader_and_no_writer_that_has_room<C: Concurrency>() {
    let (server, stuck) = serve_stuck::<C>(None);
    let mut client = client_that_takes_nothing(&server);
    client.send("a line\n");
    assert_eq!(stuck.lines.recv_timeout(PATIENCE).as_deref(), Ok("a line"));
    drop(stuck.write);
    client.reset();
}

fn a_writer_that_waits_for_another_thread_has_its_timeout<C: Concurrency>() {
    let timeout = Duration::from_millis(300);
    let (server, stuck) = serve_stuck::<C>(Some(timeout));
    let _client = client_that_takes_nothing(&server);
    let began = Instant::now();
    // More than is held back.
    stuck.write.send(vec![b'y'; 100_000]).expect("the handler writes");
    let error = stuck.written.recv_timeout(PATIENCE).expect("it does not wait for ever").expect_err("no room");
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::BrokenPipe), "{error}");
    assert!(began.elapsed() < PATIENCE);
    drop(stuck.write);
}

in_each_concurrency! { [sync threading pool]:
    what_one_thread_writes_arrives_while_another_waits_for_the_client
    the_pieces_of_one_write_are_sent_as_one
    a_thread_that_is_sending_holds_up_no_reader_and_no_writer_that_has_room
    a_writer_that_waits_for_another_thread_has_its_timeout
    a_descriptor_that_is_non_blocking_is_waited_for
    a_lent_descriptor_has_no_timeout
}

/// The connection as another runtime would have it.
fn clone_of(request: &Stream) -> io::Result<TcpStream> {
    Ok(request.as_fd().try_clone_to_owned()?.into())
}

fn a_descriptor_that_is_non_blocking_is_waited_for<C: Concurrency>() {
    let (tell, told) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(move |session: &mut Session<Tcp, C>| -> HandlerResult {
        clone_of(&session.request)?.set_nonblocking(true)?;
        // Without a timeout it waits, also where it has waited before.
        for _ in 0..2 {
            tell.send(session.rfile.next_line().map_err(|error| error.kind()))?;
        }
        session.request.set_read_timeout(Some(Duration::from_millis(200)))?;
        let began = Instant::now();
        let error = session.rfile.next_line().expect_err("the client says nothing more");
        assert!(began.elapsed() >= Duration::from_millis(200));
        tell.send(Err(error.kind()))?;
        // More than the kernel takes at once.
        Ok(session.wfile.write_all(&[b'x'; TOO_MUCH])?)
    });
    let mut client = Client::connect(server.server_address());
    for line in ["one", "two"] {
        // Longer than a wait in the kernel lasts.
        thread::sleep(Duration::from_millis(100));
        client.send(format!("{line}\n"));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(Some(line.into()))));
    }
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Err(ErrorKind::TimedOut)));
    assert_eq!(client.bytes(TOO_MUCH).len(), TOO_MUCH);
}

fn a_lent_descriptor_has_no_timeout<C: Concurrency>() {
    let (tell, told) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(move |session: &mut Session<Tcp, C>| -> HandlerResult {
        // It is lent after it was read here, and before that.
        let before = clone_of(&session.request)?;
        let mut line = [0; 4];
        session.request.read_exact(&mut line)?;
        let after = clone_of(&session.request)?;
        assert_eq!((before.read_timeout()?, after.read_timeout()?), (None, None));
        assert_eq!((before.write_timeout()?, after.write_timeout()?), (None, None));
        tell.send(())?;
        { &after }.read_exact(&mut line)?;
        assert_eq!(line, *b"two\n");
        Ok({ &after }.write_all(b"THREE\n")?)
    });
    let mut client = Client::connect(server.server_address());
    client.send("one\n");
    told.recv_timeout(PATIENCE).expect("the descriptor is as the kernel made it");
    thread::sleep(Duration::from_millis(100));
    client.send("two\n");
    assert_eq!(client.rest(), "THREE\n");
}
