//! Reading and writing on two threads, and descriptors that were lent to others.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Barrier, Mutex,
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
    concurrencies::Word,
    in_each_concurrency,
    place::{Local, Place},
    process::{ServerProcess, server},
    script::{Script, Scripted, Session},
};

/// More than the kernel takes for a client that does not read.
const TOO_MUCH: usize = 16 << 20;

/// Serves a handler whose one thread reads lines until the end, while another one writes by this function.
fn serve_pushing<T: Local + StreamTransport, C: Concurrency + Default>(
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

fn what_one_thread_writes_arrives_while_another_waits_for_the_client<C: Concurrency + Default>() {
    fn arrives<T: Local + StreamTransport, C: Concurrency + Default>() {
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

fn the_pieces_of_one_write_are_sent_as_one<C: Concurrency + Default>() {
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

fn serve_stuck<C: Concurrency + Default>(write_timeout: Option<Duration>) -> (Scripted, Stuck) {
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

fn a_thread_that_is_sending_holds_up_no_reader<C: Concurrency + Default>() {
    let (server, stuck) = serve_stuck::<C>(None);
    let mut client = client_that_takes_nothing(&server);
    client.send("a line\n");
    assert_eq!(stuck.lines.recv_timeout(PATIENCE).as_deref(), Ok("a line"));
    drop(stuck.write);
    client.reset();
}

fn a_thread_that_is_sending_holds_up_no_writer_that_has_room<C: Concurrency + Default>() {
    let (server, stuck) = serve_stuck::<C>(None);
    let mut client = client_that_takes_nothing(&server);
    for _ in 0..3 {
        stuck.write.send(b"later\n".to_vec()).expect("the handler writes");
        let written = stuck.written.recv_timeout(PATIENCE);
        assert!(matches!(written, Ok(Ok(()))), "{written:?}");
    }
    // What is held back waits for the sender, and the reader does not.
    for line in ["a line", "and another one"] {
        client.send(format!("{line}\n"));
        assert_eq!(stuck.lines.recv_timeout(PATIENCE).as_deref(), Ok(line));
    }
    // Nothing has to be said for what is held back to be sent.
    assert!(client.bytes(TOO_MUCH).iter().all(|byte| *byte == b'x'));
    assert_eq!([client.line(), client.line(), client.line()], ["later"; 3]);
    drop(stuck.write);
    client.finish();
    assert_eq!(client.rest(), "");
}

/// What was tried, what it has failed with, and after which time.
type Attempt = (&'static str, Option<ErrorKind>, Duration);

/// One thread is sending what its client does not take. Another one tries these, and tells what they have failed with,
/// and after which time.
fn beside_a_stuck_thread<C: Concurrency + Default>(
    stuck_timeout: Option<Duration>,
    own_timeout: Option<Duration>,
) -> (Scripted, Client, Receiver<Attempt>) {
    let (tell, told) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let server = Script::<Tcp, C>::serve(move |session| {
        let Session { request, wfile, .. } = session;
        request.set_write_timeout(stuck_timeout)?;
        thread::scope(|scope| {
            let tell = &tell;
            let mut stream = &*request;
            let sending = scope.spawn(move || {
                let began = Instant::now();
                let result = stream.write_all(&[b'x'; TOO_MUCH]);
                tell.send(("the sender", kind(result), began.elapsed())).expect("the test looks");
                tell.send(("the sender again", kind(stream.write_all(b"y")), began.elapsed())).expect("the test looks");
            });
            may_go_on.lock().unwrap().recv()?;
            match stuck_timeout {
                // The kernel may take a little now and then, which begins another wait.
                Some(_) => eventually("the sender has failed", || sending.is_finished()),
                None => request.set_write_timeout(own_timeout)?,
            }
            let mut stream = &*request;
            let attempt = |what, attempt: &mut dyn FnMut() -> io::Result<()>| {
                let began = Instant::now();
                let result = attempt();
                tell.send((what, kind(result), began.elapsed()))
            };
            attempt("write_all", &mut || stream.write_all(b"y"))?;
            attempt("write", &mut || stream.write(b"y").map(drop))?;
            attempt("a large write", &mut || wfile.write_all(&[b'y'; 100_000]))?;
            if own_timeout.is_some() {
                // From here on the client may be as slow as a busy machine makes it.
                request.set_write_timeout(None)?;
                attempt("nothing", &mut || Ok(()))?;
            } else {
                sending.join().expect("it does not panic");
                attempt("a small write", &mut || wfile.write_all(b"y"))?;
                attempt("a formatted write", &mut || {
                    let letter = 'y';
                    write!(wfile, "{letter}")
                })?;
            }
            HandlerResult::Ok(())
        })
    });
    let client = client_that_takes_nothing(&server);
    go_on.send(()).expect("the handler waits");
    (server, client, told)
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn a_writer_that_waits_for_another_thread_has_its_timeout<C: Concurrency + Default>() {
    let timeout = Duration::from_millis(200);
    let (_server, mut client, told) = beside_a_stuck_thread::<C>(None, Some(timeout));
    for expected in ["write_all", "write", "a large write"] {
        let (what, kind, time) = told.recv_timeout(PATIENCE).expect("it does not wait for ever");
        assert_eq!((what, kind), (expected, Some(ErrorKind::TimedOut)));
        assert!(time >= timeout, "{what} has waited for {time:?}");
    }
    assert_eq!(told.recv_timeout(PATIENCE).expect("the timeout is lifted").0, "nothing");
    // Nothing was sent of it, and so the other thread goes on, and can write again.
    assert!(client.bytes(TOO_MUCH).iter().all(|byte| *byte == b'x'));
    for expected in ["the sender", "the sender again"] {
        let (what, kind, _) = told.recv_timeout(PATIENCE).expect("it goes on");
        assert_eq!((what, kind), (expected, None));
    }
    assert_eq!(client.rest(), "y");
}

fn when_sending_has_failed_half_way_every_thread_is_told_from_then_on<C: Concurrency + Default>() {
    let (_server, mut client, told) = beside_a_stuck_thread::<C>(Some(Duration::from_millis(200)), None);
    let mut results: Vec<_> = (0..7)
        .map(|_| told.recv_timeout(PATIENCE).expect("nobody waits for ever"))
        .map(|told| (told.0, told.1))
        .collect();
    let sender = results.iter().position(|(what, _)| *what == "the sender").expect("it tells");
    assert_eq!(results.remove(sender).1, Some(ErrorKind::TimedOut));
    assert!(results.iter().all(|(_, kind)| *kind == Some(ErrorKind::BrokenPipe)), "{results:?}");
    assert!(client.rest().bytes().all(|byte| byte == b'x'), "something follows the half");
}

fn when_the_client_is_gone_every_thread_is_told<C: Concurrency + Default>() {
    let (_server, client, told) = beside_a_stuck_thread::<C>(None, None);
    client.reset();
    let results: Vec<_> = (0..7)
        .map(|_| told.recv_timeout(PATIENCE).expect("nobody waits for ever"))
        .map(|told| (told.0, told.1))
        .collect();
    let is_right = |(what, kind): &(&str, Option<ErrorKind>)| match kind {
        Some(ErrorKind::BrokenPipe) => true,
        Some(ErrorKind::ConnectionReset) => *what == "the sender",
        _ => false,
    };
    assert!(results.iter().all(is_right), "{results:?}");
}

fn what_several_threads_write_is_not_mixed_while_another_one_reads<C: Concurrency + Default>() {
    const LINES: usize = 200;
    fn is_not_mixed<T: Local + StreamTransport, C: Concurrency + Default>() {
        let server = Script::<T, C>::serve(|session| {
            let Session { request, rfile, wfile, .. } = session;
            let wfile = &Mutex::new(wfile);
            thread::scope(|scope| {
                let write = |letter: &'static str, length: usize, directly: bool| {
                    let mut stream = &*request;
                    let line = letter.repeat(length - 1) + "\n";
                    scope.spawn(move || {
                        (0..LINES).try_for_each(|_| match directly {
                            true => stream.write_all(line.as_bytes()),
                            // What one `write_all` is given is held back or sent together.
                            false => wfile.lock().unwrap().write_all(line.as_bytes()),
                        })
                    })
                };
                let writing = [
                    write("a", 10, false),
                    write("b", 5_000, false),
                    write("c", 20_000, false),
                    write("d", 100, true),
                    write("e", 20_000, true),
                ];
                while rfile.next_line()?.is_some() {}
                writing.into_iter().try_for_each(|writing| writing.join().expect("it does not panic"))?;
                HandlerResult::Ok(())
            })
        });
        let mut client = Client::connect(server.server_address());
        let mut counts = [0; 5];
        for number in 0..5 * LINES {
            if number % 50 == 0 {
                client.send("the reader goes on\n");
            }
            let line = client.line();
            let letter = line.chars().next().expect("no line is empty");
            let which = ('a'..='e').position(|known| known == letter).expect("one of these");
            assert_eq!(line.len() + 1, [10, 5_000, 20_000, 100, 20_000][which], "a line of {letter}");
            assert!(line.chars().all(|each| each == letter), "lines are mixed");
            counts[which] += 1;
        }
        assert_eq!(counts, [LINES; 5]);
        client.finish();
        assert_eq!(client.rest(), "");
    }
    is_not_mixed::<Tcp, C>();
    is_not_mixed::<Unix, C>();
}

/// What another server answers is passed on at once, however the handler reads.
fn what_another_server_says_arrives_at_once<C: Word>() {
    for (transport, reading, mode) in [
        ("tcp", "line", "blocking"),
        ("tcp", "read", "blocking"),
        ("tcp", "direct", "blocking"),
        ("tcp", "line", "nonblocking"),
        ("unix", "line", "blocking"),
        ("unix", "direct", "nonblocking"),
    ] {
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut command = server("relay");
        command.args([transport, C::WORD, reading, mode]);
        command.arg(upstream.local_addr().expect("it is bound").to_string());
        let server = ServerProcess::start(command, Place::of(transport));
        let mut client = Client::connect(server.address());
        let mut upstream = Client::new(upstream.accept().expect("the handler connects").0);
        for length in [1, 10, 8191, 8192, 8193, 20_000, 100_000].into_iter().cycle().take(70) {
            upstream.send(vec![b'u'; length]);
            assert_eq!(client.bytes(length).len(), length);
            // Now and then its reader has something to do.
            if length == 10 {
                assert_eq!(upstream_is_told(&mut client, &mut upstream), "hello");
            }
        }
        client.finish();
        assert_eq!(upstream.rest(), "", "{transport}, {reading}, {mode}");
        drop(upstream);
        assert_eq!(client.rest(), "");
    }
}

fn upstream_is_told(client: &mut Client, upstream: &mut Client) -> String {
    client.send("hello\n");
    upstream.line()
}

in_each_concurrency! { [sync threading pool forking]: what_another_server_says_arrives_at_once }

/// As where it is given to another runtime by a thread while another one reads.
fn a_descriptor_that_is_lent_during_a_read_takes_nothing_from_its_timeout<C: Concurrency + Default>() {
    let server = Script::<Unix, C>::serve(|session| {
        let Session { request, rfile, .. } = session;
        request.set_read_timeout(Some(Duration::from_millis(50)))?;
        // From here on the kernel bounds each of its receives.
        assert_eq!(rfile.next_line()?.as_deref(), Some("begin"));
        let together = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                request.as_fd();
            });
            together.wait();
            assert_eq!(kind(rfile.next_line()), Some(ErrorKind::TimedOut));
            HandlerResult::Ok(())
        })
    });
    for _ in 0..40 {
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(server.server_address())).collect();
        clients.iter_mut().for_each(|client| client.send("begin\n"));
        clients.iter_mut().for_each(|client| assert_eq!(client.rest(), ""));
    }
}

in_each_concurrency! { [threading]: a_descriptor_that_is_lent_during_a_read_takes_nothing_from_its_timeout }

in_each_concurrency! { [sync threading pool]:
    what_one_thread_writes_arrives_while_another_waits_for_the_client
    the_pieces_of_one_write_are_sent_as_one
    a_thread_that_is_sending_holds_up_no_reader
    a_thread_that_is_sending_holds_up_no_writer_that_has_room
    a_writer_that_waits_for_another_thread_has_its_timeout
    when_sending_has_failed_half_way_every_thread_is_told_from_then_on
    when_the_client_is_gone_every_thread_is_told
    what_several_threads_write_is_not_mixed_while_another_one_reads
    a_descriptor_that_is_non_blocking_is_waited_for
    a_lent_descriptor_has_no_timeout
}

/// The connection as another runtime would have it.
fn clone_of(request: &Stream) -> io::Result<TcpStream> {
    Ok(request.as_fd().try_clone_to_owned()?.into())
}

fn a_descriptor_that_is_non_blocking_is_waited_for<C: Concurrency + Default>() {
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

fn a_lent_descriptor_has_no_timeout<C: Concurrency + Default>() {
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
