//! One measurement of one server.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    cores::Cores,
    load,
    process::Process,
    servers::Program,
    tls_load,
    workload::{MANY, Workload},
};

/// What a measurement yields; what a workload does not tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Requests a second.
    pub rate: Option<f64>,
    /// Microseconds, as the client sees it.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// The 99th percentile weighted by duration: how long the request takes that a moment drawn at random falls into. A
    /// client that is stuck makes few requests, so that the plain percentile does not see it.
    pub tw99: Option<f64>,
    /// Microseconds of the server's CPU time a request, user and system.
    pub cpu: Option<f64>,
    /// KiB, of the process; of one connection in [`Workload::Idle`].
    pub resident: Option<f64>,
}

impl Figures {
    pub fn all(&self) -> [Option<f64>; 6] {
        [self.rate, self.p50, self.p99, self.tw99, self.cpu, self.resident]
    }

    pub fn of([rate, p50, p99, tw99, cpu, resident]: [Option<f64>; 6]) -> Figures {
        Figures { rate, p50, p99, tw99, cpu, resident }
    }
}

/// Counts requests and times them, after a warm-up.
pub struct Meter<'a> {
    server: &'a Process,
    time: Duration,
    /// When counting has begun, and what the server had used by then.
    begun: Option<(Instant, Duration)>,
    ends: Instant,
    requests: usize,
    latencies: Vec<Duration>,
    /// For how long the requests have waited that were not answered when the load ended.
    waiting: Vec<Duration>,
}

/// The server warms up for one part in so many of the time it is measured.
const WARM_UP: u32 = 5;

/// How often stopping with idle connections is measured in one round: often enough for a 99th percentile.
const STOPS: usize = 100;

/// How many times as many requests as are sent at once make a measurement of a store, after a tenth of that.
const STORE_BATCHES: usize = 60_000;

/// The same without connections, where CPython takes half a second each: the percentile is the longest.
const BARE_STOPS: usize = 10;

/// The same with so many that opening them takes a second: the percentile is the longest.
const MANY_STOPS: usize = 3;

pub fn measure(workload: Workload, program: &Program, time: Duration, cores: Option<Cores>) -> io::Result<Figures> {
    let start = || Process::start(program.command(workload.service()), cores);
    match workload {
        Workload::Store { at_once } => store(&start()?, at_once),
        Workload::Idle { connections } => idle(&start()?, connections, load::idle),
        Workload::TlsIdle { connections } => idle(&start()?, connections, tls_load::idle),
        Workload::Stop { connections } => stop(start, connections),
        _ => {
            let server = start()?;
            let mut meter = Meter::new(&server, time);
            load::drive(workload, server.address, &mut meter)?;
            let figures = meter.figures()?;
            // Nearly all of the CPU time went into the computing, which is not what is asked.
            Ok(if let Workload::Beside { .. } = workload { Figures { cpu: None, ..figures } } else { figures })
        }
    }
}

fn store(server: &Process, at_once: usize) -> io::Result<Figures> {
    let requests = STORE_BATCHES * at_once;
    load::redis_benchmark(server.address, requests / 10, at_once)?;
    let before = server.cpu_time()?;
    let rate = load::redis_benchmark(server.address, requests, at_once)?;
    let cpu = server.cpu_time()? - before;
    Ok(Figures { rate: Some(rate), cpu: Some(micros(cpu) / requests as f64), ..Figures::default() })
}

fn idle<C>(
    server: &Process,
    connections: usize,
    open: impl Fn(SocketAddr, usize) -> io::Result<Vec<C>>,
) -> io::Result<Figures> {
    // What the first connection makes the server load is not what each one costs.
    let first = open(server.address, 1)?;
    let before = server.resident_kib()?;
    let all = open(server.address, connections)?;
    let resident = (server.resident_kib()? - before) / all.len() as f64;
    drop(first);
    Ok(Figures { resident: Some(resident), ..Figures::default() })
}

fn stop(start: impl Fn() -> io::Result<Process>, connections: usize) -> io::Result<Figures> {
    let mut latencies = Vec::new();
    let stops = match connections {
        0 => BARE_STOPS,
        MANY => MANY_STOPS,
        _ => STOPS,
    };
    for _ in 0..stops {
        let server = start()?;
        let idle = load::idle(server.address, connections.max(1))?;
        if connections == 0 {
            drop(idle);
            latencies.push(server.stop()?);
        } else {
            latencies.push(server.stop()?);
            drop(idle);
        }
    }
    Ok(Figures { p50: percentile(&mut latencies, 50), p99: percentile(&mut latencies, 99), ..Figures::default() })
}

impl<'a> Meter<'a> {
    fn new(server: &'a Process, time: Duration) -> Meter<'a> {
        let ends = Instant::now() + time / WARM_UP;
        Meter { server, time, begun: None, ends, requests: 0, latencies: Vec::new(), waiting: Vec::new() }
    }

    /// Whether the load is to go on.
    pub fn goes_on(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        if now < self.ends {
            return Ok(true);
        }
        if self.begun.is_some() {
            return Ok(false);
        }
        self.begun = Some((now, self.server.cpu_time()?));
        self.ends = now + self.time;
        self.requests = 0;
        self.latencies.clear();
        Ok(true)
    }

    pub fn answered(&mut self, requests: usize, sent: Instant) {
        self.requests += requests;
        self.latencies.push(sent.elapsed());
    }

    /// What was sent then has had no answer by the end of the load.
    pub fn unanswered(&mut self, sent: Instant) {
        self.waiting.push(sent.elapsed());
    }

    fn figures(mut self) -> io::Result<Figures> {
        let (begun, cpu_before) = self.begun.ok_or_else(|| io::Error::other("the load ended early"))?;
        let cpu = self.server.cpu_time()? - cpu_before;
        let requests = self.requests as f64;
        let rate = requests / begun.elapsed().as_secs_f64();
        let (p50, p99) = (percentile(&mut self.latencies, 50), percentile(&mut self.latencies, 99));
        self.latencies.append(&mut self.waiting);
        Ok(Figures {
            rate: Some(rate),
            p50,
            p99,
            tw99: weighted_percentile(&mut self.latencies, 99),
            cpu: Some(micros(cpu) / requests),
            resident: Some(self.server.resident_kib()?),
        })
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The least that at least so many percent of them do not exceed.
fn percentile(latencies: &mut [Duration], percent: usize) -> Option<f64> {
    let nth = (latencies.len() * percent).div_ceil(100).checked_sub(1)?;
    Some(micros(*latencies.select_nth_unstable(nth).1))
}

/// The same, where each counts for as long as it is.
fn weighted_percentile(latencies: &mut [Duration], percent: u32) -> Option<f64> {
    latencies.sort_unstable();
    let share = latencies.iter().sum::<Duration>() * percent / 100;
    let mut seen = Duration::ZERO;
    let found = latencies.iter().find(|latency| {
        seen += **latency;
        seen >= share
    });
    found.copied().map(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(all: &[u64]) -> Vec<Duration> {
        all.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_percentile_is_the_least_that_covers_its_part() {
        let mut hundred = millis(&(1..=100).rev().collect::<Vec<_>>());
        assert_eq!(percentile(&mut hundred, 50), Some(50e3));
        assert_eq!(percentile(&mut hundred, 99), Some(99e3));
        assert_eq!(percentile(&mut millis(&[7]), 99), Some(7e3));
        assert_eq!(percentile(&mut [], 99), None);
    }

    #[test]
    fn a_stuck_client_weighs_as_much_as_the_time_that_it_is_stuck() {
        // 980 requests of 1 ms and two of 10 ms: the two are 0.2 % of the requests, and 2 % of the time.
        let mut nearly = millis(&[[1].repeat(980), vec![10, 10]].concat());
        assert_eq!(percentile(&mut nearly, 99), Some(1e3));
        assert_eq!(weighted_percentile(&mut nearly, 98), Some(1e3));
        assert_eq!(weighted_percentile(&mut nearly, 99), Some(10e3));
    }

    #[test]
    fn equal_durations_weigh_the_same() {
        assert_eq!(weighted_percentile(&mut millis(&[3; 10]), 99), Some(3e3));
        assert_eq!(weighted_percentile(&mut [], 99), None);
    }
}
