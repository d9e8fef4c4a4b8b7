//! The files of Unix sockets, of streams and of datagrams.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::{
            fs::{PermissionsExt, symlink},
            net::{self, UnixListener},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use socket2::{Domain, SockAddr, Socket, Type};
use sockserver::{
    Address, Options, Server, SocketOptions, SocketServer,
    concurrency::Synchronous,
    transport::{Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    place::{Directory, Local},
    script::{Script, upper},
    served::Served,
};

/// A transport over socket files.
trait Files: Local {
    /// What another program has bound there: as long as it lives it can be reached.
    type Other: Send;

    fn bind_other(path: &Path) -> Self::Other;

    fn ask(server: &Path, line: &str) -> String;
}

impl Files for Unix {
    type Other = UnixListener;

    fn bind_other(path: &Path) -> UnixListener {
        UnixListener::bind(path).expect("a free path")
    }

    fn ask(server: &Path, line: &str) -> String {
        Client::connect(&Address::unix(server)).ask(line)
    }
}

impl Files for UnixDatagram {
    type Other = net::UnixDatagram;

    fn bind_other(path: &Path) -> net::UnixDatagram {
        net::UnixDatagram::bind(path).expect("a free path")
    }

    fn ask(server: &Path, line: &str) -> String {
        DatagramClient::connect(&Address::unix(server)).ask(line)
    }
}

fn bind<T: Files>(path: &Path) -> io::Result<SocketServer<Script<T, Synchronous>>> {
    bind_with(path, |_| {})
}

fn bind_with<T: Files>(
    path: &Path,
    set: impl FnOnce(&mut SocketOptions),
) -> io::Result<SocketServer<Script<T, Synchronous>>> {
    let mut options = Options::new();
    set(&mut options.socket);
    let (script, _reports) = Script::new(upper);
    T::bind(script, &Address::unix(path), options)
}

#[track_caller]
fn serve<T: Files>(path: &Path) -> Served {
    Served::new(bind::<T>(path).expect("a free path"))
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn the_file_is_removed_when_the_port_closes<T: Files>(path: &Path) {
    let server = serve::<T>(path);
    assert_eq!(T::ask(path, "hello"), "HELLO");
    server.stop();
    assert!(!is_there(path));

    drop(bind::<T>(path).expect("a free path"));
    assert!(!is_there(path), "without serving as well");
}

fn a_stale_file_is_replaced<T: Files>(path: &Path) {
    // Whichever kind of socket has left it.
    drop(Unix::bind_other(path));
    assert!(is_there(path));
    let server = serve::<T>(path);
    assert_eq!(T::ask(path, "hello"), "HELLO");
    server.stop();

    drop(UnixDatagram::bind_other(path));
    let _server = serve::<T>(path);
    assert_eq!(T::ask(path, "hello"), "HELLO");
}

#[track_caller]
fn assert_in_use<T: Files>(path: &Path) {
    let error = bind::<T>(path).expect_err("the path is in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
}

fn a_live_server_is_an_address_in_use<T: Files>(path: &Path) {
    {
        let _server = serve::<T>(path);
        assert_in_use::<T>(path);
        assert_eq!(T::ask(path, "still here"), "STILL HERE");
    }
    {
        let _stream = Unix::bind_other(path);
        assert_in_use::<T>(path);
    }
    fs::remove_file(path).expect("its server has left it");
    let _datagram = UnixDatagram::bind_other(path);
    assert_in_use::<T>(path);
}

fn what_is_no_socket_is_never_removed<T: Files>(path: &Path) {
    fs::write(path, "precious").expect("written");
    assert_in_use::<T>(path);
    assert_eq!(fs::read_to_string(path).expect("it is still there"), "precious");
    fs::remove_file(path).expect("removed");

    fs::create_dir(path).expect("created");
    assert_in_use::<T>(path);
    fs::remove_dir(path).expect("it is still there");

    let stale = path.with_extension("stale");
    drop(T::bind_other(&stale));
    symlink(&stale, path).expect("linked");
    assert_in_use::<T>(path);
    assert_eq!(fs::read_link(path).expect("it is still there"), stale);
    assert!(is_there(&stale));
}

fn without_unlink_nothing_is_removed<T: Files>(path: &Path) {
    let bind = || bind_with::<T>(path, |options| options.unlink = false);
    drop(bind().expect("a free path"));
    assert!(is_there(path));
    assert_eq!(bind().expect_err("there is a file").kind(), ErrorKind::AddrInUse);
    assert!(is_there(path));
}

fn a_file_that_has_taken_its_place_is_not_removed<T: Files>(path: &Path) {
    let server = serve::<T>(path);
    fs::remove_file(path).expect("removed");
    fs::write(path, "another file").expect("written");
    server.stop();
    assert_eq!(fs::read_to_string(path).expect("it is still there"), "another file");
    fs::remove_file(path).expect("removed");

    let server = serve::<T>(path);
    fs::remove_file(path).expect("removed");
    let next = serve::<T>(path);
    server.stop();
    assert_eq!(T::ask(path, "the next server"), "THE NEXT SERVER");
    next.stop();
    assert!(!is_there(path));

    let server = serve::<T>(path);
    fs::remove_file(path).expect("removed");
    server.stop();
}

fn the_file_of_an_adopted_socket_is_not_removed<T: Files>(path: &Path)
where
    T::Other: Into<std::os::fd::OwnedFd>,
{
    let (script, _reports) = Script::<T, Synchronous>::upper();
    let server = Served::new(script.with_listener(T::bind_other(path), Options::new()).expect("a fitting socket"));
    assert_eq!(T::ask(path, "hello"), "HELLO");
    server.stop();
    assert!(is_there(path));
}

fn the_file_of_a_socket_that_another_server_adopts_stays_until_both_have_ended<T: Files>(path: &Path) {
    for is_first_to_end in [true, false] {
        let first = bind::<T>(path).expect("a free path");
        let socket = first.as_fd().try_clone_to_owned().expect("a descriptor");
        let first = Served::new(first);
        let (script, _reports) = Script::<T, Synchronous>::new(upper);
        let second = Served::new(script.with_listener(socket, Options::new()).expect("a fitting socket"));
        let (ends, stays) = if is_first_to_end { (first, second) } else { (second, first) };
        ends.stop();
        assert_eq!(T::ask(path, "hello"), "HELLO");
        stays.stop();
        assert!(!is_there(path));
    }
}

fn mode_of(path: &Path) -> Option<u32> {
    Some(path.symlink_metadata().ok()?.permissions().mode() & 0o7777)
}

fn the_file_never_permits_more_than_its_mode<T: Files>(path: &Path) {
    // Looking has to fall between two system calls of the server.
    const ROUNDS: usize = 300;
    for mode in [0o600, 0o660, 0o666] {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let permitted = mode_of(path).unwrap_or(0);
                    if permitted & !mode != 0 {
                        return Err(format!("{permitted:o} where {mode:o} is asked for"));
                    }
                }
                Ok(())
            });
            for _ in 0..ROUNDS {
                let server = bind_with::<T>(path, |options| options.mode = Some(mode)).expect("a free path");
                let bound = mode_of(path);
                drop(server);
                assert_eq!(bound, Some(mode));
            }
            is_over.store(true, Relaxed);
            assert_eq!(looking.join().expect("it looks"), Ok(()));
        });
    }
}

fn without_a_mode_the_umask_decides<T: Files>(path: &Path) {
    let other = path.with_extension("other");
    let _other = T::bind_other(&other);
    let _server = bind::<T>(path).expect("a free path");
    assert_eq!(mode_of(path), mode_of(&other));
}

fn a_failed_bind_leaves_nothing_behind<T: Files>(path: &Path) {
    let nowhere = path.join("nowhere");
    assert_eq!(bind::<T>(&nowhere).expect_err("there is no directory").kind(), ErrorKind::NotFound);
    let long = path.with_file_name("x".repeat(200));
    assert_eq!(bind::<T>(&long).expect_err("a path has 107 bytes").kind(), ErrorKind::InvalidInput);
    let directory = path.parent().expect("it is in a directory");
    assert_eq!(fs::read_dir(directory).expect("it is still there").count(), 0);
}

fn an_abstract_name_has_no_file<T: Files>(path: &Path) {
    let mut name = PathBuf::from("\0");
    name.as_mut_os_string().push(path);
    let server = serve::<T>(&name);
    assert!(!is_there(path));
    assert_eq!(T::ask(&name, "hello"), "HELLO");
    assert_eq!(bind::<T>(&name).expect_err("the name is in use").kind(), ErrorKind::AddrInUse);
    server.stop();
    serve::<T>(&name).stop();
}

fn of_several_servers_one_replaces_a_stale_file<T: Files>(path: &Path) {
    const SERVERS: usize = 4;
    for _ in 0..100 {
        drop(T::bind_other(path));
        let all = Barrier::new(SERVERS);
        let try_bind = || {
            all.wait();
            let bound = bind::<T>(path).map_err(|error| error.kind());
            // Whoever has it keeps it until all have tried.
            all.wait();
            bound.map(drop)
        };
        let bound: Vec<_> = thread::scope(|scope| {
            let servers = [(); SERVERS].map(|()| scope.spawn(try_bind));
            servers.map(|server| server.join().expect("it does not panic")).into()
        });
        assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1, "{bound:?}");
        assert!(bound.iter().all(|bound| matches!(bound, Ok(()) | Err(ErrorKind::AddrInUse))), "{bound:?}");
    }
}

#[test]
fn somebody_who_locks_the_directory_delays_a_server_but_does_not_hold_it_up() {
    let directory = Directory::new();
    let lock = File::open(directory.path()).expect("a directory can be opened");
    lock.lock().expect("nobody else knows of it");
    let path = directory.path().join("socket");
    let _server = serve::<Unix>(&path);
    assert_eq!(Unix::ask(&path, "hello"), "HELLO");
}

#[test]
fn a_server_whose_queue_is_full_is_alive() {
    let directory = Directory::new();
    let path = directory.path().join("socket");
    let _busy = Unix::bind_other(&path);
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("an open socket");
        match client.connect(&SockAddr::unix(&path).expect("a short path")) {
            Ok(()) => waiting.push(client),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_in_use::<Unix>(&path);
}

#[test]
fn the_file_is_gone_while_requests_still_end() {
    let directory = Directory::new();
    let path = directory.path().join("socket");
    let server = serve::<Unix>(&path);
    let mut client = Client::connect(&Address::unix(&path));
    assert_eq!(client.ask("hello"), "HELLO");
    client.send("half");
    server.shutdown();
    eventually("the port is closed", || !is_there(&path));
    let _next = serve::<Unix>(&path);
    assert_eq!(Unix::ask(&path, "the next server"), "THE NEXT SERVER");
    client.send(" and the other half\n");
    assert_eq!(client.rest(), "HALF AND THE OTHER HALF\n");
}

/// Makes tests of functions that are generic over the kind of socket and have a path.
macro_rules! tests {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;

            #[test]
            fn stream() {
                super::$test::<Unix>(&Directory::new().path().join("socket"));
            }

            #[test]
            fn datagram() {
                super::$test::<UnixDatagram>(&Directory::new().path().join("socket"));
            }
        }
    )* };
}

tests! {
    the_file_is_removed_when_the_port_closes
    a_stale_file_is_replaced
    of_several_servers_one_replaces_a_stale_file
    a_live_server_is_an_address_in_use
    what_is_no_socket_is_never_removed
    without_unlink_nothing_is_removed
    a_file_that_has_taken_its_place_is_not_removed
    the_file_of_an_adopted_socket_is_not_removed
    the_file_of_a_socket_that_another_server_adopts_stays_until_both_have_ended
    the_file_never_permits_more_than_its_mode
    without_a_mode_the_umask_decides
    a_failed_bind_leaves_nothing_behind
    an_abstract_name_has_no_file
}
