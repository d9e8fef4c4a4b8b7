//! `Datagram`, and `Reader` and `Writer` over one.

use std::{
    fs::File,
    io::{self, BufRead, IoSlice, Read, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{Arc, Barrier, Mutex, mpsc},
    time::{Duration, Instant},
};

use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};
use sockserver::{
    Address, Concurrency, ConnectionId, Context, Datagram, FromRequest, HandlerResult, Options, Reader, RequestHandler,
    Server, ServerHandle, Stage, UnnamedPeer, Writer,
    concurrency::{Pool, Synchronous, Threading},
    request_handler,
    transport::{Udp, UnixDatagram},
};
use sockserver_tests::{
    client::{DatagramClient, PATIENCE, eventually, soon},
    place::{Directory, Local, own_ip},
    process::installed,
    script::{Script, Session},
    served::Served,
};

/// Answers every line.
fn upper<T: Local, C: Concurrency + Default>(session: &mut Session<T, C>) -> HandlerResult {
    while let Some(line) = session.rfile.next_line()? {
        write!(session.wfile, "{}", line.to_uppercase())?;
    }
    Ok(())
}

fn up_to(max_packet_size: usize) -> Options {
    let mut options = Options::new();
    options.socket.max_packet_size = max_packet_size;
    options
}

/// One transport: the tests that both pass.
macro_rules! column {
    ($module:ident: $transport:ty) => {
        mod $module {
            use super::*;

            #[test]
            fn nothing_written_sends_nothing() {
                let server = Script::<$transport, Synchronous>::serve(upper);
                let mut client = DatagramClient::connect(server.server_address());
                client.send("");
                client.send("\n");
                assert_eq!(client.ask("loud"), "LOUD");
                eventually("all requests have ended", || server.stats().finished == 3);
                assert_eq!(client.received(), None);
            }

            #[test]
            fn what_is_written_in_pieces_is_one_packet() {
                let server = Script::<$transport, Synchronous>::serve(upper);
                let client = DatagramClient::connect(server.server_address());
                client.send("one\ntwo\nthree");
                assert_eq!(client.receive(), b"ONETWOTHREE");
            }

            #[test]
            fn a_part_of_a_file_that_fits_into_no_packet_is_refused() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    let file = File::open("Cargo.toml")?;
                    // Much longer than the memory.
                    let error = session.wfile.send_file(file, 1..u64::MAX).expect_err("no packet is so long");
                    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                    Ok(write!(session.wfile, "{error}")?)
                });
                let answer = DatagramClient::connect(server.server_address()).ask("file");
                assert!(answer.contains("do not fit into a packet"), "{answer}");
            }

            #[test]
            fn the_lines_of_a_packet_need_not_be_text() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    while let Some(line) = session.rfile.next_line_bytes()? {
                        write!(session.wfile, "{line:?}")?;
                    }
                    // There is nothing more, whatever is consumed.
                    session.rfile.consume(1);
                    session.rfile.consume(usize::MAX);
                    assert_eq!(session.rfile.next_line_bytes()?, None);
                    Ok(())
                });
                let client = DatagramClient::connect(server.server_address());
                client.send(b"\xe9\r\n\0\n\n\xff\r");
                assert_eq!(client.receive(), b"[233][0][][255, 13]");
                eventually("the handler has ended", || server.stats().active == 0);
                assert_eq!(server.stats().finished, 1);
            }

            #[test]
            fn flush_sends_what_was_written_so_far_as_a_packet() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    write!(session.wfile, "one")?;
                    session.wfile.flush()?;
                    session.wfile.flush()?;
                    Ok(write!(session.wfile, "two")?)
                });
                let client = DatagramClient::connect(server.server_address());
                client.send("go");
                assert_eq!([client.receive(), client.receive()], [b"one", b"two"]);
                assert_eq!(client.received(), None);
            }

            #[test]
            fn an_empty_reply_can_be_sent() {
                let server = Script::<$transport, Synchronous>::serve(|session| Ok(session.request.reply(b"")?));
                let client = DatagramClient::connect(server.server_address());
                client.send("ping");
                assert_eq!(client.receive(), b"");
            }

            #[test]
            fn any_number_of_replies_can_be_sent() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    Ok((0..5).try_for_each(|number: u8| session.request.reply(&[number]))?)
                });
                let client = DatagramClient::connect(server.server_address());
                client.send("count");
                for number in 0..5 {
                    assert_eq!(client.receive(), [number]);
                }
            }

            #[test]
            fn what_was_written_before_an_error_or_a_panic_is_sent() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    write!(session.wfile, "sorry")?;
                    if session.request.payload() == b"panic" { panic!("as told") } else { Err("as told".into()) }
                });
                let client = DatagramClient::connect(server.server_address());
                for how in ["panic", "fail"] {
                    client.send(how);
                    assert_eq!(client.receive(), b"sorry");
                    assert_eq!(server.report().is_panic, how == "panic");
                }
            }

            #[test]
            fn an_oversized_packet_is_flagged_and_counted() {
                let (seen, packets) = mpsc::channel();
                let server = Script::<$transport, Synchronous>::serve_with(
                    move |session| Ok(seen.send((session.request.payload().to_vec(), session.request.is_truncated()))?),
                    up_to(8),
                );
                let client = DatagramClient::connect(server.server_address());
                for packet in ["12345678", "123456789", "1234567890123456", "1", ""] {
                    client.send(packet);
                    let (packet_seen, is_truncated) = packets.recv_timeout(PATIENCE).expect("it is handled");
                    assert_eq!(packet_seen, packet[..packet.len().min(8)].as_bytes());
                    assert_eq!(is_truncated, packet.len() > 8, "{packet}");
                }
                eventually("all have ended", || server.stats().finished == 5);
                assert_eq!(server.stats().truncated, 2);
            }

            #[test]
            fn the_longest_packet_comes_and_goes_whole() {
                // What UDP over IPv4 can carry.
                let packet: Vec<u8> = (0..65_507_u32).map(|number| (number % 251) as u8).collect();
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    assert!(!session.request.is_truncated());
                    let packet = session.request.payload();
                    Ok(session.wfile.write_all(packet)?)
                });
                let client = DatagramClient::connect(server.server_address());
                client.send(&packet);
                assert!(client.receive() == packet, "another packet has come back");
            }

            #[test]
            fn a_reply_that_no_packet_can_carry_is_an_error_at_the_end() {
                let server = Script::<$transport, Synchronous>::serve(|session| {
                    Ok(session.wfile.write_all(&[0; 10_000_000])?)
                });
                let client = DatagramClient::connect(server.server_address());
                client.send("more");
                let report = server.report();
                assert_eq!((report.stage, report.is_panic), (Stage::Finish, false), "{report:?}");
                // The next reply starts anew.
                client.send("more");
                assert_eq!(server.report(), report);
            }

            #[test]
            fn a_reader_reads_the_packet_and_then_its_end() {
                let (seen, read) = mpsc::channel();
                let server = Script::<$transport, Synchronous>::serve(move |session| {
                    let first = session.rfile.next_line()?;
                    let mut part = Vec::new();
                    session.rfile.read_until(b';', &mut part)?;
                    let mut rest = String::new();
                    session.rfile.read_to_string(&mut rest)?;
                    Ok(seen.send((first, part, rest, session.rfile.next_line()?))?)
                });
                DatagramClient::connect(server.server_address()).send("a line\r\nto;the rest\n");
                let read = read.recv_timeout(PATIENCE).expect("it is handled");
                assert_eq!(read, (Some("a line".into()), b"to;".to_vec(), "the rest\n".into(), None));
            }

            #[test]
            fn a_packet_tells_its_addresses() {
                let (seen, addresses) = mpsc::channel();
                let server = Script::<$transport, Synchronous>::serve(move |session| {
                    assert_eq!(session.request.peer_addr()?, session.client_address);
                    assert_eq!(session.request.id(), session.id);
                    Ok(seen.send((session.client_address.clone(), session.request.local_addr()?))?)
                });
                let client = DatagramClient::connect(server.server_address());
                client.send("hello");
                let addresses = addresses.recv_timeout(PATIENCE).expect("it is handled");
                assert_eq!(addresses, (client.address(), server.server_address().clone()));
            }

            #[test]
            fn a_packet_can_be_sent_to_somebody_else() {
                let elsewhere = Arc::new(Mutex::new(None));
                let to = elsewhere.clone();
                let server = Script::<$transport, Synchronous>::serve(move |session| {
                    let to: Option<Address> = to.lock().expect("no panic").take();
                    Ok(session.request.send_to(session.request.payload(), &to.ok_or("nobody")?)?)
                });
                let client = DatagramClient::connect(server.server_address());
                let other = DatagramClient::connect(server.server_address());
                *elsewhere.lock().expect("no panic") = Some(other.address());
                client.send("pass it on");
                assert_eq!(other.receive_from(), (b"pass it on".to_vec(), server.server_address().clone()));
                assert_eq!(client.received(), None);
            }

            #[test]
            fn a_packet_that_is_kept_is_not_overwritten_and_can_be_answered_later() {
                let (kept, packets) = mpsc::channel();
                let server =
                    Script::<$transport, Synchronous>::serve(move |session| Ok(kept.send(session.request.clone())?));
                let client = DatagramClient::connect(server.server_address());
                for number in 0..40_u8 {
                    client.send([number]);
                }
                let kept: Vec<Datagram> =
                    (0..40).map(|_| packets.recv_timeout(PATIENCE).expect("it is handled")).collect();
                for (number, packet) in (0..40_u8).zip(&kept) {
                    assert_eq!(packet.payload(), [number]);
                    packet.reply(packet.payload()).expect("the client is still there");
                    assert_eq!(client.receive(), [number]);
                }
            }

            /// A request that waits for the release holds up none that comes after it.
            fn is_not_held_up<C: Concurrency + Default>() {
                let held = Arc::new(Barrier::new(2));
                let barrier = held.clone();
                let server = Script::<$transport, C>::serve(move |session| {
                    if session.request.payload() == b"slow\n" {
                        barrier.wait();
                    }
                    upper(session)
                });
                let slow = DatagramClient::connect(server.server_address());
                slow.send("slow\n");
                let mut quick = DatagramClient::connect(server.server_address());
                for _ in 0..10 {
                    assert_eq!(quick.ask("quick"), "QUICK");
                }
                assert_eq!(slow.received(), None);
                held.wait();
                assert_eq!(slow.receive(), b"SLOW");
            }

            #[test]
            fn limits_that_no_packet_and_no_clock_comes_to_are_none() {
                struct NoTimeout;

                impl<S: Server> FromRequest<S> for NoTimeout {
                    fn from_request(cx: &mut Context<'_, S>) -> io::Result<NoTimeout> {
                        cx.set_timeout(Duration::MAX)?;
                        Ok(NoTimeout)
                    }
                }

                #[request_handler]
                struct Patient {
                    _no_timeout: NoTimeout,
                    rfile: Reader,
                    wfile: Writer,
                }

                impl RequestHandler for Patient {
                    fn handle(&mut self) -> HandlerResult {
                        Ok(io::copy(&mut self.rfile, &mut self.wfile).map(drop)?)
                    }
                }

                #[derive(Server)]
                #[server(transport = $transport, concurrency = "sync", handler = Patient)]
                struct PatientServer;

                let place = <$transport>::place();
                let server = PatientServer.bind_with(place.address(), up_to(usize::MAX)).expect("a free place");
                let server = Served::new(server);
                assert_eq!(DatagramClient::connect(server.server_address()).ask("hello"), "hello");
            }

            #[test]
            fn a_slow_handler_holds_up_no_other_packet_with_threads() {
                is_not_held_up::<Threading>();
            }

            #[test]
            fn a_slow_handler_holds_up_no_other_packet_in_a_pool() {
                is_not_held_up::<Pool>();
            }
        }
    };
}

column!(udp: Udp);
column!(unix_datagram: UnixDatagram);

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Whoami {
    request: Datagram,
    client: SocketAddr,
    client_address: Address,
    id: ConnectionId,
    handle: ServerHandle,
}

impl RequestHandler for Whoami {
    fn handle(&mut self) -> HandlerResult {
        assert_eq!((&self.client_address, self.id), (&self.request.peer_addr()?, self.request.id()));
        let Whoami { client, handle, .. } = self;
        Ok(self.request.reply(format!("{client} of {}", handle.server_address()).as_bytes())?)
    }
}

#[test]
fn a_handler_takes_what_it_names_from_a_udp_request() {
    let server = Served::new(WhoamiServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = DatagramClient::connect(server.server_address());
    assert_eq!(client.ask("who am I?"), format!("{} of {}", client.address(), server.server_address()));
}

// Where replies come from.

/// The places on this machine that answer a request to a socket that is bound to all of them.
#[track_caller]
fn assert_answers_from(server: &Address, address: &str) {
    let port = server.port().expect("a port");
    let to = SocketAddr::new(address.parse().expect("an address"), port);
    let client = DatagramClient::connect(&to.into());
    for how in ["written", "replied"] {
        client.send(how);
        let (reply, from) = client.receive_from();
        assert_eq!(from, to, "{how}");
        assert_eq!(reply, canonical(to).to_string().as_bytes());
    }
}

/// An IPv6 socket calls IPv4 addresses by their IPv6 names.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn serve_on_all(address: &str) -> Option<Served> {
    let (script, _reports) = Script::<Udp, Threading>::new(|session| {
        let Address::Inet(local_address) = session.request.local_addr()? else { return Err("not UDP".into()) };
        let text = canonical(local_address).to_string();
        match session.request.payload() {
            b"written" => Ok(write!(session.wfile, "{text}")?),
            _ => Ok(session.request.reply(text.as_bytes())?),
        }
    });
    match script.bind(address) {
        Ok(server) => Some(Served::new(server)),
        Err(error) => {
            println!("skipped: no IPv6 here: {error}");
            None
        }
    }
}

#[test]
fn replies_leave_from_the_ipv4_address_that_the_request_came_to() {
    let server = serve_on_all("0.0.0.0:0").expect("there is IPv4");
    for address in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
        assert_answers_from(server.server_address(), address);
    }
}

#[test]
fn replies_leave_from_the_ipv6_address_that_the_request_came_to() {
    let Some(server) = serve_on_all("[::]:0") else { return };
    assert_answers_from(server.server_address(), "::1");
    // IPv4 clients of the same socket.
    for address in ["127.0.0.1", "127.0.0.2"] {
        assert_answers_from(server.server_address(), address);
    }
}

#[test]
fn a_broadcast_is_answered_from_an_address_of_this_machine() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let Some(server) = serve_on_all(address) else { continue };
        let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        client.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        client.set_broadcast(true).expect("an open socket");
        let port = server.server_address().port().expect("a port");
        client.send_to(b"hello", ("127.255.255.255", port)).expect("the loopback network has a broadcast address");
        let (_, from) = client.recv_from(&mut [0; 64]).expect("an answer");
        assert_eq!(from, SocketAddr::from(([127, 0, 0, 1], port)), "of the server on {address}");
    }
}

#[test]
fn a_socket_that_is_bound_to_one_address_answers_from_it() {
    let server = serve_on_all("127.0.0.3:0").expect("there is IPv4");
    assert_answers_from(server.server_address(), "127.0.0.3");
}

/// Takes a writer of its own, and leaves it with the server.
struct Left;

impl FromRequest<Keeper> for Left {
    fn from_request(cx: &mut Context<'_, Keeper>) -> io::Result<Left> {
        let writer = Writer::from_request(cx)?;
        cx.server().left.lock().unwrap().push(writer);
        Ok(Left)
    }
}

#[derive(Default, Server)]
#[server(transport = "udp", concurrency = "sync", handler = Leaving)]
struct Keeper {
    left: Mutex<Vec<Writer>>,
}

#[request_handler]
struct Leaving {
    _left: Left,
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Leaving {
    fn handle(&mut self) -> HandlerResult {
        Ok(io::copy(&mut self.rfile, &mut self.wfile).map(drop)?)
    }
}

#[test]
fn what_is_written_after_the_end_of_a_request_reaches_nobody() {
    let server = Keeper::default().bind("127.0.0.1:0").expect("a free port");
    let keeper = server.server().clone();
    let server = Served::new(server);
    let client = DatagramClient::connect(server.server_address());
    for request in ["first", "second", "third"] {
        client.send(request);
        assert_eq!(client.receive(), request.as_bytes());
        eventually("the request has ended", || server.stats().active == 0);
        for mut writer in keeper.left.lock().unwrap().drain(..) {
            write!(writer, "late").expect("it is held back");
        }
    }
}

// Replies that cannot be sent.

fn reply_for_ever(request: &Datagram) -> HandlerResult {
    loop {
        request.reply(b"one more")?;
    }
}

/// Sends more than its client takes.
#[request_handler(timeout = "1h")]
#[server(transport = "unix_datagram", concurrency = "threading")]
struct Flood {
    request: Datagram,
}

impl RequestHandler for Flood {
    fn handle(&mut self) -> HandlerResult {
        reply_for_ever(&self.request)
    }
}

#[test]
fn a_reply_that_waits_for_room_is_cut_by_the_drain() {
    let place = UnixDatagram::place();
    let mut options = FloodServer::OPTIONS;
    options.timeouts.shutdown = Duration::from_millis(100);
    let server = FloodServer.bind_with(place.address(), options).expect("a free place");
    let server = Served::new(server);
    let client = DatagramClient::connect(server.server_address());
    client.send("hello");
    assert_eq!(client.receive(), b"one more");
    let drained = server.stop();
    assert_eq!((drained.forced, drained.leaked), (1, 0));
}

/// As [`Flood`], but it gives up.
#[request_handler(timeout = "1200ms")]
#[server(transport = "unix_datagram", concurrency = "sync")]
struct Trickle {
    request: Datagram,
}

impl RequestHandler for Trickle {
    fn handle(&mut self) -> HandlerResult {
        reply_for_ever(&self.request)
    }
}

#[test]
fn a_reply_waits_for_room_as_long_as_the_timeout() {
    let place = UnixDatagram::place();
    let server = Served::new(TrickleServer.bind(place.address()).expect("a free place"));
    let client = DatagramClient::connect(server.server_address());
    let begin = Instant::now();
    client.send("hello");
    eventually("it is given up", || server.stats().timed_out == 1);
    // Without a timeout it would be a second.
    assert!(begin.elapsed() >= Duration::from_millis(1200));
}

#[test]
fn an_unnamed_unix_client_cannot_be_answered() {
    let (errors, refused) = mpsc::channel();
    let server = Script::<UnixDatagram, Synchronous>::serve(move |session| {
        let error = session.request.reply(b"to whom?").expect_err("nobody can be reached");
        errors.send(error)?;
        Ok(write!(session.wfile, "to whom?")?)
    });
    DatagramClient::unnamed(server.server_address()).send("hello");
    let error = refused.recv_timeout(PATIENCE).expect("it is handled");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(&UnnamedPeer));
    assert!(error.to_string().contains("no address that can be replied to"), "{error}");
    // The same at the end, where the reply is sent that was written. That is the client's doing, and not printed.
    let report = server.report();
    assert_eq!((report.stage, report.is_disconnect), (Stage::Finish, true));
    assert_eq!(report.client_address, Address::unix(""));
    eventually("it is counted", || server.stats().disconnected == 1);
}

#[test]
fn a_packet_from_port_zero_is_counted_and_its_failing_reply_is_no_failure() {
    let Ok(forger) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
        return println!("skipped: raw sockets are not permitted here");
    };
    let server = Script::<Udp, Synchronous>::serve(upper);
    let Address::Inet(address) = server.server_address() else { unreachable!("it is UDP") };
    // udp(7): source port, destination port, length with the header, and no checksum.
    let packet = [&[0, 0][..], &address.port().to_be_bytes(), &[0, 13], &[0, 0], b"hello"].concat();
    forger.send_to(&packet, &(*address).into()).expect("a packet that the kernel takes");
    let report = server.report();
    assert_eq!((report.stage, report.is_disconnect), (Stage::Finish, true));
    eventually("it is counted", || server.stats().disconnected == 1);
    assert_eq!(DatagramClient::connect(server.server_address()).ask("hello"), "HELLO");
}

#[test]
fn an_error_of_the_handlers_own_reply_is_a_failure() {
    let server = Script::<Udp, Synchronous>::serve(|session| Ok(session.request.reply(&[0; 1 << 16])?));
    DatagramClient::connect(server.server_address()).send("more than a packet holds");
    assert!(!server.report().is_disconnect);
    eventually("it is counted", || server.stats().failed == 1);
}

#[test]
fn a_unix_client_whose_path_fills_the_address_is_answered() {
    // unix(7): `sun_path` has room for 108 bytes, and needs no zero byte at its end, which std insists on.
    const CLIENT: &str = r#"
use Socket;
my ($server, $path) = @ARGV;
socket(my $client, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($client, pack("S a108", AF_UNIX, $path)) or die $!;
alarm(20);
send($client, "hello", 0, pack_sockaddr_un($server)) or die $!;
recv($client, my $answer, 16, 0) // die $!;
print $answer;
"#;
    let Some(mut client) = installed("perl") else { return };
    let server = Script::<UnixDatagram, Synchronous>::serve(upper);
    let directory = Directory::new();
    let path = directory.path().join("x".repeat(107 - directory.path().as_os_str().len()));
    client.args(["-e", CLIENT]).arg(server.server_address().path().expect("a path")).arg(path);
    let output = client.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"HELLO");
}

#[test]
fn descriptors_that_a_client_passes_are_not_kept() {
    let server = Script::<UnixDatagram, Synchronous>::serve(upper);
    let (mut kept, passed) = UnixStream::pair().expect("a socket pair");
    kept.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    // unix(7): a `cmsghdr` of SCM_RIGHTS, and one descriptor.
    let mut rights = (size_of::<libc::cmsghdr>() + size_of::<i32>()).to_ne_bytes().to_vec();
    for part in [libc::SOL_SOCKET, libc::SCM_RIGHTS, passed.as_raw_fd(), 0] {
        rights.extend(part.to_ne_bytes());
    }
    let address = SockAddr::unix(server.server_address().path().expect("a path")).expect("a short path");
    let packet = [IoSlice::new(b"here you are")];
    let message = MsgHdr::new().with_addr(&address).with_buffers(&packet).with_control(&rights);
    let client = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
    client.sendmsg(&message, 0).expect("the server's queue takes it");
    drop(passed);
    assert_eq!(kept.read(&mut [0]).expect("nobody has the other end any more"), 0);
}

#[test]
fn a_unix_client_that_is_gone_is_an_error_of_its_own_request() {
    let gone = Arc::new(Barrier::new(2));
    let is_gone = gone.clone();
    let server = Script::<UnixDatagram, Synchronous>::serve(move |session| {
        if session.request.payload() == b"goodbye" {
            is_gone.wait();
        }
        upper(session)
    });
    let client = DatagramClient::connect(server.server_address());
    client.send("goodbye");
    drop(client);
    gone.wait();
    assert_eq!(server.report().stage, Stage::Finish);
    assert_eq!(DatagramClient::connect(server.server_address()).ask("hello"), "HELLO");
}

#[test]
fn icmp_errors_that_come_back_do_not_disturb_the_loop() {
    // Linux tells them to a socket that is connected, which an adopted one can be.
    let bind = |address: SocketAddr| soon("a free port", || UdpSocket::bind(address));
    let socket = bind((Ipv4Addr::LOCALHOST, 0).into());
    let server_address = socket.local_addr().expect("it is bound");
    // Its port is still free when it is bound again.
    let client_address = SocketAddr::from((own_ip(), 7000));
    let client = bind(client_address);
    socket.connect(client_address).expect("a connected socket");

    let gone = Arc::new(Barrier::new(2));
    let is_gone = gone.clone();
    let (script, reports) = Script::<Udp, Synchronous>::new(move |session| {
        if session.request.payload() == b"goodbye\n" {
            is_gone.wait();
        }
        upper(session)
    });
    let server = Served::new(script.with_listener(socket, Options::new()).expect("a UDP socket"));
    client.send_to(b"goodbye\n", server_address).expect("the server is there");
    drop(client);
    // The reply is refused, which the next attempt to receive is told.
    gone.wait();
    eventually("it has ended", || server.stats().active == 0 && server.stats().accepted == 1);

    let client = bind(client_address);
    client.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    client.send_to(b"hello\n", server_address).expect("the server is there");
    let mut reply = [0; 16];
    let length = client.recv(&mut reply).expect("the server goes on");
    assert_eq!(&reply[..length], b"HELLO");
    assert_eq!(server.stats().accept_errors, 0);
    assert!(reports.try_recv().is_err());
}
