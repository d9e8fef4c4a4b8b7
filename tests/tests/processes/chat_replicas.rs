//! The example `chat_replicas`: several processes, a real Redis, and a real HAProxy in front.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    place::{Directory, own_ip},
    process::{Process, example, installed},
    proxies::Proxy,
};

/// A redis-server that loses nothing which it has answered.
struct Redis {
    address: SocketAddr,
    directory: Directory,
    process: Process,
}

impl Redis {
    /// `None`: it is not installed.
    fn start() -> Option<Redis> {
        let (address, directory) = ((own_ip(), 6379).into(), Directory::new());
        let process = Redis::run(address, directory.path())?;
        Some(Redis { address, directory, process })
    }

    fn run(address: SocketAddr, directory: &Path) -> Option<Process> {
        let mut command = installed("redis-server")?;
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            &address.ip().to_string(),
            "--save",
            "",
            "--dir",
        ]);
        command.arg(directory).args(["--appendonly", "yes", "--appendfsync", "always"]);
        let process = Process::start(&mut command);
        eventually("Redis answers", || {
            let Ok(mut redis) = TcpStream::connect(address) else { return false };
            let mut answer = String::new();
            redis.write_all(b"PING\r\n").is_ok()
                && BufReader::new(redis).read_line(&mut answer).is_ok()
                && answer == "+PONG\r\n"
        });
        Some(process)
    }

    fn crash_and_restart(&mut self) {
        self.process.signal("KILL");
        self.process.ended();
        self.process = Redis::run(self.address, self.directory.path()).expect("it is installed");
    }

    /// What redis-cli prints. `None`: it is not installed.
    fn cli(&self, words: &[&str]) -> Option<String> {
        let mut command = installed("redis-cli")?;
        Some(Process::start(command.args(["-h", &self.address.ip().to_string()]).args(words)).output())
    }
}

struct Replica {
    arguments: Vec<String>,
    process: Process,
    address: SocketAddr,
    agent: SocketAddr,
}

impl Replica {
    fn start(redis: &Redis, proxies: &[&str]) -> Replica {
        let ip = own_ip();
        let [address, agent] = [9999, 9998].map(|port| SocketAddr::from((ip, port)));
        let mut arguments: Vec<_> = [address, agent, redis.address].iter().map(SocketAddr::to_string).collect();
        arguments.extend(proxies.iter().map(|&proxy| proxy.to_owned()));
        let process = Replica::run(&arguments);
        Replica { arguments, process, address, agent }
    }

    fn run(arguments: &[String]) -> Process {
        let process = Process::start(example("chat_replicas").args(arguments));
        process.line_after("listening on ");
        process
    }

    fn restart(&mut self) {
        self.process.signal("TERM");
        // It lingers first.
        assert!(self.process.ended().success());
        self.process = Replica::run(&self.arguments);
    }

    fn crash_and_restart(&mut self) {
        self.process.signal("KILL");
        self.process.ended();
        self.process = Replica::run(&self.arguments);
    }

    fn connect(&self) -> Client {
        let mut client = Client::connect(&self.address.into());
        assert_eq!(client.line(), "* what is your name?");
        client
    }

    /// What it answers to an agent check.
    fn report(&self) -> String {
        Client::connect(&self.agent.into()).rest()
    }
}

/// A member that comes back when its connection ends, and says again what has not arrived.
struct Member {
    name: String,
    servers: Vec<SocketAddr>,
    state: Mutex<MemberState>,
    times_connected: AtomicUsize,
}

#[derive(Default)]
struct MemberState {
    said: Vec<String>,
    /// `None`: it is not connected.
    connection: Option<TcpStream>,
    /// The lines that members have said, in the order in which it was shown them.
    seen: Vec<String>,
}

impl Member {
    fn new(name: String, servers: Vec<SocketAddr>) -> Arc<Member> {
        Arc::new(Member { name, servers, state: Mutex::default(), times_connected: AtomicUsize::default() })
    }

    fn state(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a line now, or when it is connected again.
    fn say(&self, line: String) {
        let mut state = self.state();
        state.said.push(line.clone());
        if let Some(mut connection) = state.connection.as_ref() {
            // If it fails, the line is said again.
            let _ = connection.write_all(line.as_bytes());
        }
    }

    /// Is connected until the end.
    fn run(&self, is_over: &AtomicBool) {
        let mut key_and_id = None;
        for server in self.servers.iter().cycle() {
            if is_over.load(SeqCst) {
                return;
            }
            if self.stay(*server, &mut key_and_id).is_err() {
                thread::sleep(Duration::from_millis(20));
            }
            self.state().connection = None;
        }
    }

    /// Returns when the connection has ended.
    fn stay(&self, server: SocketAddr, key_and_id: &mut Option<(String, String)>) -> io::Result<()> {
        let mut connection = TcpStream::connect(server)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(connection.try_clone()?).lines().map_while(Result::ok);
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(lines.next().ok_or_else(ended)?, "* what is your name?");
        match key_and_id {
            Some((key, id)) => writeln!(connection, "{} {key} {id}", self.name)?,
            None => writeln!(connection, "{}", self.name)?,
        }
        let welcome = lines.next().ok_or_else(ended)?;
        let after = |start: &str| Some(welcome.split_once(start)?.1.split([' ', ';']).next()?.to_owned());
        let (Some(key), Some(said)) = (after("your key is "), after("you have said ")) else {
            // Before its first connection has shown it anything it has no key.
            panic!("{}: {welcome}", self.name);
        };
        let said: usize = said.parse().expect("a number");
        let id = key_and_id.take().map_or_else(|| "0-0".to_owned(), |(_, id)| id);
        *key_and_id = Some((key, id));
        {
            let mut state = self.state();
            for line in &state.said[said..] {
                connection.write_all(line.as_bytes())?;
            }
            state.connection = Some(connection);
        }
        self.times_connected.fetch_add(1, SeqCst);
        for line in lines {
            if let Some((id, text)) = line.split_once(' ')
                && id != "*"
            {
                if text.starts_with('<') {
                    self.state().seen.push(text.to_owned());
                }
                if let Some((_, last)) = key_and_id {
                    *last = id.to_owned();
                }
            }
        }
        Ok(())
    }
}

/// Has members talk while something happens, and checks that each line was shown once to each of them, in one order. It
/// returns how many lines and how many connections there were.
fn talk(members: &[Arc<Member>], pause: Duration, happens: impl FnOnce()) -> (usize, usize) {
    let [is_over, has_happened] = &[AtomicBool::new(false), AtomicBool::new(false)];
    thread::scope(|scope| {
        // A failure here ends the threads as well, since they see it.
        let end = End(is_over, members);
        for member in members {
            let thread = thread::Builder::new().stack_size(256 * 1024);
            thread.spawn_scoped(scope, move || member.run(is_over)).expect("a thread");
        }
        eventually("all have joined", || members.iter().all(|member| member.times_connected.load(SeqCst) > 0));
        let talker = scope.spawn(move || {
            let mut lines = 0;
            for member in members.iter().cycle() {
                if has_happened.load(SeqCst) || is_over.load(SeqCst) {
                    break;
                }
                member.say(format!("line {lines}\n"));
                lines += 1;
                thread::sleep(pause);
            }
            lines
        });
        happens();
        has_happened.store(true, SeqCst);
        let lines = talker.join().expect("no panic");
        for member in members {
            eventually("all lines have been shown", || member.state().seen.len() >= lines);
        }
        let expected = members[0].state().seen.clone();
        assert_eq!(expected.len(), lines);
        assert_eq!(expected.iter().collect::<BTreeSet<_>>().len(), lines, "a line is there twice");
        for member in members {
            assert!(member.state().seen == expected, "{} has seen something else", member.name);
        }
        drop(end);
        (lines, members.iter().map(|member| member.times_connected.load(SeqCst)).sum())
    })
}

struct End<'a>(&'a AtomicBool, &'a [Arc<Member>]);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
        for member in self.1 {
            if let Some(connection) = member.state().connection.take() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

/// HAProxy with the configuration that the example has, before these replicas.
fn haproxy(replicas: &[Replica]) -> Option<Proxy> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/examples/chat_replicas/haproxy.cfg");
    let configuration = fs::read_to_string(file).expect("the example has it");
    Proxy::haproxy_with(|address| {
        let mut configuration = configuration.replace(":9000", &address.to_string());
        for (number, replica) in replicas.iter().enumerate() {
            configuration = configuration.replace(&format!("10.0.0.{}", number + 1), &replica.address.ip().to_string());
        }
        configuration
    })
}

#[test]
fn no_line_is_lost_or_doubled_when_all_replicas_are_restarted_in_turn() {
    const MEMBERS: usize = 300;
    // Each member has two descriptors here, and two in HAProxy.
    rlimit::increase_nofile_limit(8_000).expect("the limit can be read");
    let Some(redis) = Redis::start() else { return };
    let mut replicas: Vec<_> = (0..3).map(|_| Replica::start(&redis, &["127.0.0.1"])).collect();
    let Some(proxy) = haproxy(&replicas) else { return };
    let is_up = |name: &str| eventually("it is up", || proxy.stat_of(name, "status") == "UP");
    ["one", "two", "three"].iter().for_each(|name| is_up(name));
    let members: Vec<_> = (0..MEMBERS).map(|number| Member::new(format!("m{number}"), vec![proxy.address()])).collect();
    let (lines, connections) = talk(&members, Duration::from_millis(40), || {
        for (replica, name) in replicas.iter_mut().zip(["one", "two", "three"]) {
            assert_ne!(proxy.stat_of(name, "scur"), "0", "{name} has no members");
            replica.restart();
            is_up(name);
        }
    });
    // A replica that ends has no new clients: none had to be sent to another one.
    for name in ["one", "two", "three"] {
        assert_eq!([proxy.stat_of(name, "econ"), proxy.stat_of(name, "wredis")], ["0", "0"], "{name}");
    }
    println!("{lines} lines, {connections} connections of {MEMBERS} members");
    assert!(connections > MEMBERS, "the restart has ended no connection");
}

#[test]
fn no_line_is_lost_or_doubled_when_redis_and_a_replica_crash() {
    let Some(mut redis) = Redis::start() else { return };
    let mut replicas = [Replica::start(&redis, &[]), Replica::start(&redis, &[])];
    let [one, two] = [replicas[0].address, replicas[1].address];
    let servers = [vec![one, two], vec![two, one]];
    let members = (0..20).zip(servers.iter().cycle());
    let members: Vec<_> = members.map(|(number, servers)| Member::new(format!("m{number}"), servers.clone())).collect();
    let (lines, connections) = talk(&members, Duration::from_millis(5), || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            redis.crash_and_restart();
        }
        replicas[0].crash_and_restart();
        redis.crash_and_restart();
        replicas[1].crash_and_restart();
        thread::sleep(Duration::from_millis(300));
    });
    println!("{lines} lines, {connections} connections of 20 members");
    assert!(lines > 100 && connections > 20);
}

/// Tells its name, and returns the key that it is given.
#[track_caller]
fn join(client: &mut Client, name: &str, others: &str) -> String {
    let welcome = client.ask(name);
    let start = format!("* welcome, {name}; your key is ");
    let (key, rest) =
        welcome.strip_prefix(&start).and_then(|rest| rest.split_once(';')).unwrap_or_else(|| panic!("{welcome}"));
    assert_eq!(rest, format!(" you have said 0 lines; here are: {others}"));
    key.to_owned()
}

/// The next line without its place.
#[track_caller]
fn text(client: &mut Client) -> String {
    let line = client.line();
    line.split_once(' ').unwrap_or_else(|| panic!("{line}")).1.to_owned()
}

#[test]
fn members_of_different_replicas_talk_and_a_newcomer_is_shown_the_last_lines() {
    let Some(redis) = Redis::start() else { return };
    let replicas = [Replica::start(&redis, &[]), Replica::start(&redis, &[])];
    let mut alice = replicas[0].connect();
    join(&mut alice, "alice", "");
    assert_eq!(text(&mut alice), "* alice has joined");
    let mut bob = replicas[1].connect();
    assert_eq!(bob.ask("alice"), "* there is already alice; your name?");
    join(&mut bob, "bob", "alice");
    assert_eq!(text(&mut alice), "* bob has joined");
    assert_eq!([text(&mut bob), text(&mut bob)], ["* alice has joined", "* bob has joined"]);
    for number in 0..30 {
        bob.send(format!("{number}\n"));
        for client in [&mut alice, &mut bob] {
            assert_eq!(text(client), format!("<bob> {number}"));
        }
    }
    let mut carol = replicas[0].connect();
    join(&mut carol, "carol", "alice, bob");
    for number in 11..30 {
        assert_eq!(text(&mut carol), format!("<bob> {number}"));
    }
    assert_eq!(text(&mut carol), "* carol has joined");
    carol.send("/quit\n");
    carol.wait_for_end();
    for line in ["* carol has joined", "* carol has left"] {
        assert_eq!(text(&mut alice), line);
    }
}

#[test]
fn a_member_comes_back_with_its_key_and_its_name_is_free_when_it_stays_away() {
    let Some(redis) = Redis::start() else { return };
    let replicas = [Replica::start(&redis, &[]), Replica::start(&redis, &[])];
    let mut alice = replicas[0].connect();
    let key = join(&mut alice, "alice", "");
    let joined = alice.line();
    let (id, _) = joined.split_once(' ').expect("a place");
    alice.send("one\n");
    assert_eq!(text(&mut alice), "<alice> one");
    drop(alice);
    let mut alice = replicas[1].connect();
    assert_eq!(alice.ask("alice"), "* there is already alice; your name?");
    assert_eq!(
        alice.ask(&format!("alice {} {id}", key.replace(|_| true, "0"))),
        "* that is not the key of alice; your name?"
    );
    let welcome = alice.ask(&format!("alice {key} {id}"));
    assert!(welcome.contains("you have said 1 lines"), "{welcome}");
    assert_eq!(text(&mut alice), "<alice> one");
    drop(alice);
    // As if a minute had passed.
    if redis.cli(&["ZADD", "chat:present", "1", "alice"]).is_none() {
        return;
    }
    let mut another = replicas[0].connect();
    assert_ne!(join(&mut another, "alice", ""), key);
}

#[test]
fn a_replica_tells_the_agent_check_that_it_drains() {
    let Some(redis) = Redis::start() else { return };
    let mut replica = Replica::start(&redis, &[]);
    assert_eq!(replica.report(), "up ready\n");
    let mut alice = replica.connect();
    join(&mut alice, "alice", "");
    assert_eq!(text(&mut alice), "* alice has joined");
    replica.process.signal("TERM");
    eventually("it drains", || replica.report() == "drain\n");
    // It still serves.
    alice.send("hello\n");
    assert_eq!(text(&mut alice), "<alice> hello");
    join(&mut replica.connect(), "bob", "alice");
    assert_eq!(text(&mut alice), "* bob has joined");
    assert_eq!(alice.rest(), "* this replica ends; come back with your key\n");
    assert!(replica.process.ended().success());
}
