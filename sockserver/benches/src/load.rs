//! The load: as many requests as the server answers, from one thread.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{setsockopt, sockopt::IpBindAddressNoPort},
};
use socket2::{Domain, Socket, Type};

use crate::{
    measure::Meter,
    servers::{BLOCK, BULK, COMPUTE, COMPUTE_BRIEFLY},
    tls_load,
    workload::{LINE, Workload},
};

/// Nothing has come for so long: the server is broken, or packets are lost.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Drives a server until the meter has seen enough.
pub fn drive(workload: Workload, server: SocketAddr, meter: &mut Meter<'_>) -> io::Result<()> {
    match workload {
        Workload::Connect { clients } => connect(server, clients, meter),
        Workload::Ping { connections } => exchange(server, &vec![&request(1)[..]; connections], LINE, meter),
        Workload::Beside { connections, blocked } => {
            let (ping, mut slow) = (request(1), request(1));
            slow[0] = if blocked > 0 { BLOCK } else { COMPUTE };
            let mut requests = vec![&ping[..]; connections];
            requests.extend(vec![&slow[..]; blocked.max(1)]);
            exchange(server, &requests, LINE, meter)
        }
        Workload::Compute { connections } => {
            let mut line = request(1);
            line[0] = COMPUTE_BRIEFLY;
            exchange(server, &vec![&line[..]; connections], LINE, meter)
        }
        Workload::Pipeline { connections, lines } => {
            exchange(server, &vec![&request(lines)[..]; connections], lines * LINE, meter)
        }
        Workload::Bulk { connections } => exchange(server, &vec![&request(1)[..]; connections], BULK.len(), meter),
        Workload::Udp { under_way } => packets(server, under_way, meter),
        Workload::Broadcast { members, beside_stuck } => broadcast(server, members, beside_stuck, meter),
        Workload::Handshakes { clients } => tls_load::handshakes(server, clients, meter),
        Workload::TlsBulk { connections } => tls_load::bulk(server, connections, meter),
        Workload::TlsIdle { .. } | Workload::Store { .. } | Workload::Idle { .. } | Workload::Stop { .. } => Ok(()),
    }
}

/// Opens connections that have each had one answer.
pub fn idle(server: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    let mut all = open(server, connections)?;
    for connection in &mut all {
        connection.write_all(&request(1))?;
    }
    for connection in &mut all {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.read_exact(&mut [0; LINE])?;
    }
    Ok(all)
}

/// What redis-benchmark makes of a store: so many requests, half of each kind, over 50 connections with so many at once.
/// Returns its requests a second.
pub fn redis_benchmark(server: SocketAddr, requests: usize, at_once: usize) -> io::Result<f64> {
    wait_for(server)?;
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &server.ip().to_string(), "-p", &server.port().to_string()]);
    command.args(["-n", &(requests / 2).to_string(), "-P", &at_once.to_string()]);
    let output = command.args(["-t", "set,get", "-r", "10000", "--csv"]).output()?;
    let table = String::from_utf8_lossy(&output.stdout);
    let rate = |row: &str| row.split(',').nth(1)?.trim_matches('"').parse::<f64>().ok();
    match table.lines().filter_map(rate).collect::<Vec<_>>()[..] {
        [set, get] if output.status.success() => Ok(2.0 / (1.0 / set + 1.0 / get)),
        _ => Err(io::Error::other(format!("redis-benchmark said {table}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Waits until the server listens: some say their port before.
pub fn wait_for(server: SocketAddr) -> io::Result<()> {
    let begun = Instant::now();
    while let Err(error) = TcpStream::connect(server) {
        if begun.elapsed() > PATIENCE {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn open(server: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    // In several rounds there are more than one address has ports.
    let from =
        |number| if connections > 1000 { connect_from(source(number), server) } else { TcpStream::connect(server) };
    (0..connections as u32).map(from).collect()
}

pub fn request(lines: usize) -> Vec<u8> {
    let mut line = [b'a'; LINE];
    line[LINE - 1] = b'\n';
    line.repeat(lines)
}

/// A client, and when it sent what it waits for the answer to.
struct Client {
    connection: TcpStream,
    sent: Instant,
    missing: usize,
}

fn connect(server: SocketAddr, clients: usize, meter: &mut Meter<'_>) -> io::Result<()> {
    let request = request(1);
    let mut connected = 0;
    let mut visit = || -> io::Result<Client> {
        connected += 1;
        let sent = Instant::now();
        let mut connection = connect_from(source(connected), server)?;
        connection.write_all(&request)?;
        connection.shutdown(Shutdown::Write)?;
        Ok(Client { connection, sent, missing: LINE })
    };
    let poll = Poll::new()?;
    let mut all: Vec<Client> = (0..clients).map(|_| visit()).collect::<io::Result<_>>()?;
    for (number, client) in all.iter().enumerate() {
        poll.add(&client.connection, number)?;
    }
    let mut buffer = [0; LINE];
    while meter.goes_on()? {
        poll.wait(|number| {
            let client = &mut all[number];
            client.missing -= answered(client.connection.read(&mut buffer))?;
            if client.missing == 0 {
                meter.answered(1, client.sent);
                // Closed before the next connects, and with that no longer watched.
                *client = visit()?;
                poll.add(&client.connection, number)?;
            }
            Ok(())
        })?;
    }
    all.iter().for_each(|client| meter.unanswered(client.sent));
    Ok(())
}

/// One of many addresses of this machine: the ports of a single one would all be used up by connections in TIME_WAIT.
pub fn source(number: u32) -> SocketAddr {
    let [high, low] = u16::to_be_bytes((number % 50_000) as u16);
    (Ipv4Addr::new(127, 1, high, low.max(1)), 0).into()
}

pub fn connect_from(source: SocketAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&source.into())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// One connection for each of `requests`, which it sends again and again. What makes the server compute, or block, is
/// not counted: it is there for the others to meet.
fn exchange(server: SocketAddr, requests: &[&[u8]], answer: usize, meter: &mut Meter<'_>) -> io::Result<()> {
    let counts = |number: usize| ![BLOCK, COMPUTE].contains(&requests[number][0]);
    let poll = Poll::new()?;
    let mut all: Vec<Client> = Vec::new();
    for (number, mut connection) in open(server, requests.len())?.into_iter().enumerate() {
        connection.set_nodelay(true)?;
        let sent = Instant::now();
        connection.write_all(requests[number])?;
        all.push(Client { connection, sent, missing: answer });
        poll.add(&all[number].connection, number)?;
    }
    let mut buffer = vec![0; answer.max(LINE)];
    while meter.goes_on()? {
        poll.wait(|number| {
            let client = &mut all[number];
            client.missing -= answered(client.connection.read(&mut buffer[..client.missing]))?;
            if client.missing == 0 {
                if counts(number) {
                    meter.answered(requests[number].len() / LINE, client.sent);
                }
                client.sent = Instant::now();
                client.missing = answer;
                client.connection.write_all(requests[number])?;
            }
            Ok(())
        })?;
    }
    all.iter().enumerate().filter(|(number, _)| counts(*number)).for_each(|(_, client)| meter.unanswered(client.sent));
    Ok(())
}

/// One of the members sends a line when all have received the last one. So a line that is lost ends the measurement.
fn broadcast(server: SocketAddr, members: usize, beside_stuck: bool, meter: &mut Meter<'_>) -> io::Result<()> {
    let _stuck = beside_stuck.then(|| stuck_member(server)).transpose()?;
    let line = request(1);
    let poll = Poll::new()?;
    let mut all = Vec::new();
    for number in 0..members {
        let member = join(server)?;
        poll.add(&member, number)?;
        all.push(member);
    }
    let mut buffer = [0; LINE];
    while meter.goes_on()? {
        let sent = Instant::now();
        all[0].write_all(&line)?;
        let mut missing = members * LINE;
        while missing > 0 {
            poll.wait(|number| {
                missing -= answered(all[number].read(&mut buffer))?;
                Ok(())
            })?;
        }
        meter.answered(members, sent);
    }
    Ok(())
}

/// Connects, and reads the greeting.
fn join(server: SocketAddr) -> io::Result<TcpStream> {
    let mut member = TcpStream::connect(server)?;
    member.set_nodelay(true)?;
    member.set_read_timeout(Some(PATIENCE))?;
    member.read_exact(&mut [0; LINE])?;
    Ok(member)
}

/// A member that has stopped to read when its connection and its mailbox were full.
fn stuck_member(server: SocketAddr) -> io::Result<TcpStream> {
    /// More than the kernel and a mailbox of sockserver hold.
    const LINES: usize = 400;
    let stuck = join(server)?;
    let mut sender = join(server)?;
    let mut line = vec![b'x'; 60_000];
    line.push(b'\n');
    let mut received = vec![0; line.len()];
    for _ in 0..LINES {
        sender.write_all(&line)?;
        sender.read_exact(&mut received)?;
    }
    Ok(stuck)
}

fn answered(read: io::Result<usize>) -> io::Result<usize> {
    match read? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")),
        received => Ok(received),
    }
}

fn packets(server: SocketAddr, under_way: usize, meter: &mut Meter<'_>) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut packet = [b'a'; LINE];
    let mut sent = Vec::new();
    for number in 0..under_way {
        packet[0] = number as u8;
        sent.push(Instant::now());
        socket.send(&packet)?;
    }
    while meter.goes_on()? {
        let received = socket.recv(&mut packet)?;
        if received != LINE {
            return Err(io::Error::other("the answer is not the request"));
        }
        let number = usize::from(packet[0]);
        meter.answered(1, sent[number]);
        sent[number] = Instant::now();
        socket.send(&packet)?;
    }
    sent.into_iter().for_each(|sent| meter.unanswered(sent));
    Ok(())
}

/// Which clients have something to read.
pub struct Poll(Epoll);

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub fn add(&self, connection: &TcpStream, number: usize) -> io::Result<()> {
        Ok(self.0.add(connection, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?)
    }

    pub fn wait(&self, mut ready: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let timeout = EpollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        match self.0.wait(&mut events, timeout)? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer")),
            count => events[..count].iter().try_for_each(|event| ready(event.data() as usize)),
        }
    }
}
