//! Programs that run beside a test: the examples, and the tools that talk to them.

use std::{
    env,
    fmt::Display,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Once,
        atomic::AtomicBool,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use sockserver::Address;

use crate::{
    client::{PATIENCE, eventually},
    concurrencies::pass_workers,
    place::Place,
    resources::Observed,
};

/// A running program, which is killed and waited for when this is dropped. If the test fails, what is left of its
/// standard error is shown.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// `None`: closed.
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

/// Where this process ignores SIGINT, as a job in the background does, the programs that it starts would ignore it as
/// well. A signal that is caught has its default action in them; here it has that too.
fn heed_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::new(AtomicBool::new(true))).expect("it can be caught");
        }
    });
}

impl Process {
    #[track_caller]
    pub fn start(command: &mut Command) -> Process {
        Process::start_with(command, Stdio::piped())
    }

    /// Starts it with this as its standard input, such as a socket.
    #[track_caller]
    pub fn start_with(command: &mut Command, stdin: impl Into<Stdio>) -> Process {
        Process::spawn(command, stdin.into(), Stdio::piped())
    }

    #[track_caller]
    fn spawn(command: &mut Command, stdin: Stdio, stderr: Stdio) -> Process {
        heed_signals();
        pass_workers(command);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Process {
            stdin: child.stdin.take(),
            stdout: Lines::of(child.stdout.take().expect("it is a pipe")),
            stderr: child.stderr.take().map_or_else(Lines::none, Lines::of),
            child,
        }
    }

    /// Starts it with these as its standard input and its standard error.
    #[track_caller]
    pub fn start_with_stderr(command: &mut Command, stdin: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Process {
        Process::spawn(command, stdin.into(), stderr.into())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to the program's standard input.
    #[track_caller]
    pub fn enter(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        // In one write: the program may end when it has read the line without its end.
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the program reads its input");
    }

    /// Ends the program's standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output; an empty one at the end.
    #[track_caller]
    pub fn line(&self) -> String {
        self.stdout.next().unwrap_or_default()
    }

    /// The rest of the next line of its standard output that starts like this.
    #[track_caller]
    pub fn line_after(&self, start: &str) -> String {
        let mut others = Vec::new();
        loop {
            let line = match self.stdout.try_next() {
                Ok(line) => line,
                Err(why) => {
                    let errors: Vec<_> = self.stderr.0.try_iter().collect();
                    panic!(
                        "the program has not said `{start}`, but {others:?} and {errors:?} ({why} within {PATIENCE:?})"
                    )
                }
            };
            match line.strip_prefix(start) {
                Some(rest) => return rest.to_owned(),
                None => others.push(line),
            }
        }
    }

    /// The rest of its standard output, until its end.
    #[track_caller]
    pub fn rest(&self) -> String {
        std::iter::from_fn(|| self.stdout.next()).map(|line| line + "\n").collect()
    }

    /// Waits for a line of its standard error that has this in it.
    #[track_caller]
    pub fn reports(&self, text: &str) {
        let found = std::iter::from_fn(|| self.stderr.next()).any(|line| line.contains(text));
        assert!(found, "the program has ended and not reported `{text}`");
    }

    /// The next line of its standard error; an empty one at the end.
    #[track_caller]
    pub fn error_line(&self) -> String {
        self.stderr.next().unwrap_or_default()
    }

    /// What kill(1) does.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        self.observed().signal(signal);
    }

    /// What it holds.
    pub fn observed(&self) -> Observed {
        Observed::of(self.id())
    }

    /// Whether the program has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child of this process").is_some()
    }

    /// Waits until the program has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("it is a child of this process");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Ends its standard input, waits for its success, and returns the rest of its standard output.
    #[track_caller]
    pub fn output(mut self) -> String {
        self.end_input();
        let output = self.rest();
        let status = self.ended();
        assert!(status.success(), "{status}, after {output:?}");
        output
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails if the program has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.stderr.0.try_iter().for_each(|line| eprintln!("standard error: {line}"));
        }
    }
}

/// The lines of a pipe, which a thread reads, so that no test waits for ever.
#[derive(Debug)]
struct Lines(Receiver<String>);

impl Lines {
    fn none() -> Lines {
        Lines(mpsc::channel().1)
    }

    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(pipe).split(b'\n').map_while(Result::ok);
            for line in lines {
                // The program must be able to write also when the test does not listen any more.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Lines(receiver)
    }

    #[track_caller]
    fn next(&self) -> Option<String> {
        match self.try_next() {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the program has written no line within {PATIENCE:?}"),
        }
    }

    fn try_next(&self) -> Result<String, RecvTimeoutError> {
        self.0.recv_timeout(PATIENCE)
    }
}

/// A running program that serves, like an example.
#[derive(Debug)]
pub struct ServerProcess {
    process: Process,
    address: Address,
    /// Dropped last: where a program that is killed leaves its socket file.
    _place: Place,
}

impl ServerProcess {
    /// Starts it with the place as its last argument, and waits until it says where it listens.
    #[track_caller]
    pub fn start(mut command: Command, place: Place) -> ServerProcess {
        let process = Process::start(command.arg(place.address().to_string()));
        let line = process.line();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{command:?} said {line:?} first"));
        let address = address.parse::<SocketAddr>().map_or_else(|_| Address::unix(address), Address::Inet);
        ServerProcess { process, address, _place: place }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The socket file.
    #[track_caller]
    pub fn path(&self) -> &Path {
        self.address.path().expect("the address of a Unix socket")
    }

    /// As [`Process::output`], and the place is there until then.
    #[track_caller]
    pub fn output(self) -> String {
        self.process.output()
    }
}

impl Deref for ServerProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for ServerProcess {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The program of an example of this workspace, which is built first unless it is up to date.
pub fn example(name: &str) -> Command {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(build_examples);
    Command::new(DIRECTORY.join(name))
}

/// A server of this package, in this role. See `src/bin/server/`.
pub fn server(role: &str) -> Command {
    let mut command = Command::new(server_program());
    command.arg(role);
    command
}

/// The program of all roles.
pub fn server_program() -> PathBuf {
    of_this_build(1).join("server")
}

/// An example of this workspace with these words in its attribute.
pub fn example_with(name: &str, transport: &str, concurrency: &str) -> Command {
    let mut command = Command::new(of_this_build(1).join("examples_everywhere"));
    command.env("CELL", format!("{name} {transport} {concurrency}"));
    command
}

/// So many folders above that of this test, which is `target/PROFILE/deps`.
fn of_this_build(up: usize) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.ancestors().nth(up + 1).expect("a test is in target/PROFILE/deps").to_owned()
}

fn build_examples() -> PathBuf {
    let [profile, target] = [1, 2].map(of_this_build);
    let profile_name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{} is no directory of a profile", profile.display()),
    };
    // With the whole workspace selected and all features, as for its tests in CI, nothing has to be built twice.
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--all-features",
            "--examples",
            "--profile",
            profile_name,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo has built this test");
    assert!(built.success(), "the examples cannot be built");
    profile.join("examples")
}

/// A program that not every machine has. `None`: it is missing, and the test is over, which this has said.
#[track_caller]
pub fn installed(program: &str) -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_there {
        skip(format!("{program} is not installed"));
    }
    is_there.then(|| Command::new(program))
}

/// Says that a test is over, as something that it needs is missing. In CI that is a failure: everything is there.
#[track_caller]
pub fn skip(why: impl Display) {
    assert!(env::var_os("CI").is_none(), "skipped, which nothing is in CI: {why}");
    println!("skipped: {why}");
}
