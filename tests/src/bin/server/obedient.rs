//! A server that does what its clients tell it, for tests of what only a process with one thread can do.
//!
//! `obedient TRANSPORT CONCURRENCY [KEY=VALUE]… ADDRESS` says on standard output where it listens, what `handle_error`
//! was told, and how serving ended.

use std::{
    error::Error,
    fmt, fs,
    io::{self, Write},
    os::unix::process::parent_id,
    path::Path,
    process::{self, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGTERM, SIGUSR1},
    low_level,
};
use sockserver::{
    Address, HandlerError, HandlerResult, Options, Reader, RequestHandler, Server, ServerHandle, SocketServer, Writer,
    request_handler,
};
use sockserver_tests::{place::Directory, script::words_of};

use crate::{Ended, follow_parent, options};

pub(crate) fn serve(arguments: &[String]) -> Ended {
    let [transport, concurrency, settings @ .., address] = arguments else {
        return Err("obedient TRANSPORT CONCURRENCY [KEY=VALUE]… ADDRESS".into());
    };
    let settings = Settings::parse(settings)?;
    match (transport.as_str(), concurrency.as_str()) {
        ("tcp", "forking") => tcp_forking::serve(address, &settings),
        ("udp", "forking") => udp_forking::serve(address, &settings),
        ("unix", "forking") => unix_forking::serve(address, &settings),
        ("unix_datagram", "forking") => unix_datagram_forking::serve(address, &settings),
        ("tcp", "sync") => tcp_sync::serve(address, &settings),
        _ => Err("this composition is not here".into()),
    }
}

#[derive(Default)]
struct Settings {
    /// Those that are options.
    options: Vec<String>,
    /// How many threads there are beside the one that serves.
    threads: usize,
    /// Another thread keeps the lock of the standard output.
    hold_stdout: bool,
    /// It stops on signals.
    signals: bool,
    /// A thread is in a signal handler nearly all the time.
    signalled: bool,
    /// A thread binds servers that stop on signals, and drops them.
    rebinding: bool,
    /// A thread reads standard input: for each line, which is the number of a process that has ended, it starts a process
    /// with this number, here or, with `foreign` before it, as the child of another process. At the end it says whether
    /// these run.
    impostors: bool,
    /// This many threads call `handle_request`, for ever.
    leaders: usize,
    /// This many `handle_request` in place of `serve_forever`.
    requests: Option<usize>,
    /// A child of the program's own, which ends with this status while the server serves.
    foreign: Option<u8>,
    /// What is printed before serving, without a line end.
    print: String,
    /// An order that every handler follows before it reads those of its client.
    first: String,
}

impl Settings {
    fn parse(arguments: &[String]) -> Result<Settings, Box<dyn Error>> {
        let mut settings = Settings::default();
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or("KEY=VALUE")?;
            match key {
                "threads" => settings.threads = value.parse()?,
                "signals" => settings.signals = value.parse()?,
                "signalled" => settings.signalled = value.parse()?,
                "rebinding" => settings.rebinding = value.parse()?,
                "impostors" => settings.impostors = value.parse()?,
                "leaders" => settings.leaders = value.parse()?,
                "hold_stdout" => settings.hold_stdout = value.parse()?,
                "requests" => settings.requests = Some(value.parse()?),
                "foreign" => settings.foreign = Some(value.parse()?),
                "print" => settings.print = value.to_owned(),
                "first" => settings.first = value.to_owned(),
                "another" => *ANOTHER.lock().unwrap() = Some(AnotherServer.bind(value)?),
                _ => settings.options.push(argument.clone()),
            }
        }
        Ok(settings)
    }

    fn options(&self, mut options: Options) -> Result<Options, Box<dyn Error>> {
        self.options.iter().try_for_each(|option| options::set(&mut options, option))?;
        Ok(options)
    }
}

fn serve_bound<S: Server>(server: SocketServer<S>, settings: &Settings) -> Ended {
    for _ in 0..settings.threads {
        thread::spawn(|| sleep_while(|| true));
    }
    let foreign = settings.foreign.map(|status| Command::new("sh").args(["-c", &format!("exit {status}")]).spawn());
    if settings.signals {
        server.shutdown_on_signals()?;
    }
    if settings.signalled {
        let actions = (0..2000).map(|_| signal_hook::flag::register(SIGUSR1, Arc::default()));
        actions.collect::<io::Result<Vec<_>>>()?;
        thread::spawn(|| while low_level::raise(SIGUSR1).is_ok() {});
    }
    if settings.rebinding {
        thread::spawn(rebind);
    }
    let impostors = Arc::new(Mutex::new(Vec::new()));
    if settings.impostors {
        let impostors = impostors.clone();
        thread::spawn(move || {
            io::stdin()
                .lines()
                .map_while(Result::ok)
                .try_for_each(|order| {
                    impostors.lock().unwrap().push(start_impostor(&order)?);
                    println!("started {order}");
                    Ok::<(), Box<dyn Error>>(())
                })
                .expect("the number of the next process can be chosen");
        });
    }
    println!("listening on {}", server.server_address());
    print!("{}", settings.print);
    let handle = server.handle();
    if settings.hold_stdout {
        let (hold, held) = mpsc::channel();
        thread::spawn(move || {
            let _lock = io::stdout().lock();
            hold.send(())?;
            sleep_while(|| true);
            Ok::<(), mpsc::SendError<()>>(())
        });
        held.recv()?;
    }
    if settings.leaders > 0 {
        let lead = || while server.handle_request().is_ok_and(|_| true) {};
        thread::scope(|scope| (0..settings.leaders).for_each(|_| drop(scope.spawn(lead))));
    }
    let served = match settings.requests {
        None => server.serve_forever(),
        Some(requests) => (0..requests).try_for_each(|_| server.handle_request().map(drop)).map(|()| drop(server)),
    };
    if let Some(foreign) = foreign {
        println!("foreign {}", foreign?.wait()?);
    }
    for impostor in &*impostors.lock().unwrap() {
        let stat = fs::read_to_string(format!("/proc/{impostor}/stat"));
        println!("impostor runs: {}", stat.is_ok_and(|stat| !stat.contains(") Z ")));
    }
    println!("stats {:?}", handle.stats());
    match served {
        Ok(()) => println!("ended {:?}", handle.wait()?),
        Err(error) => println!("failed {:?}: {error}", error.kind()),
    }
    Ok(())
}

/// Starts a process with this number, once the one that has it has ended and the system has waited for it.
fn start_impostor(order: &str) -> Result<u32, Box<dyn Error>> {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let number: u32 = order.trim_start_matches("foreign ").parse()?;
    let last = number - 1;
    let exists = || Path::new(&format!("/proc/{number}")).exists();
    // What is printed ends with this program.
    let start = |script| Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    while exists() {
        thread::sleep(Duration::from_millis(1));
    }
    // The number is free a moment later.
    if order.starts_with("foreign ") {
        start(&format!("until [ -d /proc/{number} ]; do echo {last} >{LAST}; sleep 60 & done; exec sleep 60"))?;
        while !exists() {
            thread::sleep(Duration::from_millis(1));
        }
    } else {
        let start_next = || fs::write(LAST, last.to_string()).and_then(|()| start("exec sleep 60"));
        while start_next()?.id() != number {}
    }
    Ok(number)
}

/// Registers actions of signals and takes them away again, for ever.
fn rebind() {
    let directory = Directory::new();
    let bind = || AnotherServer.bind(directory.path().join("another"))?.shutdown_on_signals();
    while bind().is_ok() {}
}

macro_rules! obedient {
    ($composition:ident: $transport:literal, $concurrency:literal) => {
        mod $composition {
            use super::*;

            #[derive(Server)]
            #[server(
                transport = $transport,
                concurrency = $concurrency,
                handler = Session,
                timeouts(poll = "20s"),
                hooks(handle_error = Self::tell, service_actions = Self::end_with_the_test, server_close = Self::tell_end),
            )]
            struct Obedient {
                requests: AtomicUsize,
                first: String,
            }

            // signal(7): a socket with a timeout is interrupted by signals for which system calls are else restarted.
            #[request_handler(timeout = "60s")]
            struct Session {
                rfile: Reader,
                wfile: Writer,
                handle: ServerHandle,
                server: Arc<Obedient>,
            }

            impl RequestHandler for Session {
                fn handle(&mut self) -> HandlerResult {
                    let mut next = Some(self.server.first.clone());
                    while let Some(line) = next {
                        let (order, value) = line.split_once(' ').unwrap_or((&line, ""));
                        match order {
                            "shutdown" => self.handle.shutdown(),
                            "count" => {
                                let requests = self.server.requests.fetch_add(1, SeqCst) + 1;
                                writeln!(self.wfile, "{requests}")?;
                            }
                            _ => obey(order, value, &mut self.wfile)?,
                        }
                        next = self.rfile.next_line()?;
                    }
                    Ok(())
                }
            }

            impl Obedient {
                fn tell(&self, error: &HandlerError, client_address: &Address) {
                    let (who, stage) = (process::id(), error.stage());
                    let words = words_of(error);
                    println!("error in {who} of {client_address} in {stage:?}, panic {}: {words}", error.is_panic());
                }

                fn end_with_the_test(&self) {
                    follow_parent();
                }

                fn tell_end(&self) {
                    println!("closed in {}", process::id());
                }
            }

            pub(super) fn serve(address: &str, settings: &Settings) -> Ended {
                let server = Obedient {
                    requests: AtomicUsize::new(0),
                    first: settings.first.clone(),
                };
                let server = server.bind_with(address, settings.options(Obedient::OPTIONS)?)?;
                serve_bound(server, settings)
            }
        }
    };
}

obedient!(tcp_forking: "tcp", "forking");
obedient!(udp_forking: "udp", "forking");
obedient!(unix_forking: "unix", "forking");
obedient!(unix_datagram_forking: "unix_datagram", "forking");
obedient!(tcp_sync: "tcp", "sync");

/// The orders that need no more than a writer.
fn obey(order: &str, value: &str, wfile: &mut Writer) -> HandlerResult {
    match order {
        "" => {}
        "echo" => writeln!(wfile, "{value}")?,
        "pid" => writeln!(wfile, "{}", process::id())?,
        "fail" => return Err(value.into()),
        "panic" => panic!("{value}"),
        "abort" => process::abort(),
        "leave_the_pipes_and_abort" => {
            leave_the_pipes(value)?;
            process::abort();
        }
        "fail_unspeakably" => return Err(Box::new(Unspeakable)),
        "exit" => process::exit(value.parse()?),
        "serve" => serve_another(value, wfile)?,
        "print" => print!("{value} "),
        "hang" => {
            announce(wfile)?;
            sleep_while(|| true);
        }
        "until_terminated" => {
            let terminated = flag(SIGTERM)?;
            announce(wfile)?;
            sleep_while(|| !terminated.load(SeqCst));
            println!("terminated {}", process::id());
        }
        "ignore_termination" => {
            flag(SIGTERM)?;
            announce(wfile)?;
            sleep_while(|| true);
        }
        "bulk" => {
            let interrupted = flag(SIGUSR1)?;
            announce(wfile)?;
            wfile.write_all(&vec![0; value.parse()?])?;
            writeln!(wfile, "interrupted {}", interrupted.load(SeqCst))?;
        }
        unknown => return Err(format!("there is no order {unknown}").into()),
    }
    Ok(())
}

/// An error that panics when it is to say what it is.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not a word")
    }
}

impl Error for Unspeakable {}

/// Starts processes that hold the pipes which this one has open, other than its standard ones, for so many seconds.
fn leave_the_pipes(seconds: &str) -> io::Result<()> {
    for number in 3..100 {
        let file = format!("/proc/self/fd/{number}");
        if fs::read_link(&file).is_ok_and(|link| link.to_string_lossy().starts_with("pipe:")) {
            let pipe = fs::OpenOptions::new().write(true).open(file)?;
            Command::new("sleep").arg(seconds).stdin(Stdio::null()).stdout(pipe).stderr(Stdio::null()).spawn()?;
        }
    }
    Ok(())
}

/// The server that is bound before the first child is forked.
static ANOTHER: Mutex<Option<SocketServer<AnotherServer>>> = Mutex::new(None);

#[request_handler]
#[server(transport = "unix", concurrency = "threading")]
struct Another {
    rfile: Reader,
    handle: ServerHandle,
}

impl RequestHandler for Another {
    fn handle(&mut self) -> HandlerResult {
        self.rfile.next_line()?;
        self.handle.shutdown();
        Ok(())
    }
}

/// Serves, in this process, what was bound in another one; or drops it.
fn serve_another(what: &str, wfile: &mut Writer) -> HandlerResult {
    let another = ANOTHER.lock().unwrap().take().ok_or("nothing was bound")?;
    if what == "nothing" {
        drop(another);
    } else {
        announce(wfile)?;
        another.serve_forever()?;
    }
    Ok(writeln!(wfile, "served")?)
}

/// Says who the handler is, before it does something that takes its time.
fn announce(wfile: &mut Writer) -> io::Result<()> {
    writeln!(wfile, "{}", process::id())?;
    wfile.flush()
}

/// Handles the signal, instead of ending.
fn flag(signal: i32) -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, flag.clone())?;
    Ok(flag)
}

/// A test that was killed leaves no handler behind either.
fn sleep_while(condition: impl Fn() -> bool) {
    let parent = parent_id();
    while condition() && parent_id() == parent {
        thread::sleep(Duration::from_millis(5));
    }
}
