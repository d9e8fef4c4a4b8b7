//! The figures of one run, and the tables made of them.

use std::{
    fmt::Write as _,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{cores::Cores, machine, measure::Figures, servers::Peer, workload::Workload};

/// All measurements of one run. Figures of different runs are never put side by side: what a machine does in one hour
/// says nothing of another.
#[derive(Debug)]
pub struct Run {
    id: String,
    machine: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    workload: Workload,
    peer: Peer,
    figures: Figures,
}

impl Run {
    pub fn new(cores: Option<Cores>) -> Run {
        let id = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let pinned = cores.map_or("", |_| "; client and server on a core each");
        Run { id: id.to_string(), machine: machine::describe() + pinned, samples: Vec::new() }
    }

    pub fn add(&mut self, workload: Workload, peer: Peer, figures: Figures) {
        self.samples.push(Sample { workload, peer, figures });
    }

    /// One line for each measurement, each with the run that it is from.
    pub fn save(&self) -> String {
        let mut text = format!("# {}\n", self.machine);
        for Sample { workload, peer, figures } in &self.samples {
            let figures = figures.all().map(|figure| figure.map_or("-".into(), |figure| figure.to_string()));
            let _ = writeln!(text, "{}\t{}\t{}\t{}", self.id, workload.name(), peer.name(), figures.join("\t"));
        }
        text
    }

    /// What [`save`](Self::save) has written. Lines of different runs are an error.
    pub fn load(text: &str) -> io::Result<Run> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut run = Run { id: String::new(), machine: String::new(), samples: Vec::new() };
        for line in text.lines() {
            if let Some(machine) = line.strip_prefix("# ") {
                run.machine = machine.into();
                continue;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            let [id, workload, peer, figures @ ..] = &fields[..] else { return Err(invalid(format!("cut: {line}"))) };
            if !run.id.is_empty() && run.id != *id {
                return Err(invalid(format!("figures of different runs cannot be compared: {} and {id}", run.id)));
            }
            run.id = (*id).into();
            let workload = Workload::named(workload).ok_or_else(|| invalid(format!("no workload: {line}")))?;
            let peer = Peer::named(peer).ok_or_else(|| invalid(format!("no server: {line}")))?;
            let figures: Vec<Option<f64>> = figures.iter().map(|figure| figure.parse().ok()).collect();
            let figures = figures.try_into().map_err(|_| invalid(format!("cut: {line}")))?;
            run.add(workload, peer, Figures::of(figures));
        }
        Ok(run)
    }

    /// The median over the rounds.
    fn median(&self, workload: Workload, peer: Peer, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let of_both = |sample: &&Sample| sample.workload == workload && sample.peer == peer;
        let mut all: Vec<f64> =
            self.samples.iter().filter(of_both).filter_map(|sample| figure(&sample.figures)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let (low, high) = (all.get(all.len().checked_sub(1)? / 2)?, all.get(all.len() / 2)?);
        Some((low + high) / 2.0)
    }

    pub fn workloads(&self) -> Vec<Workload> {
        let measured = |workload: &Workload| self.samples.iter().any(|sample| sample.workload == *workload);
        Workload::ALL.into_iter().filter(measured).collect()
    }

    /// Those that sockserver is compared with, and itself.
    pub fn peers(&self) -> Vec<Peer> {
        let measured = |peer: &Peer| self.samples.iter().any(|sample| sample.peer == *peer);
        Peer::ALL.into_iter().filter(|peer| peer.variant().is_none()).filter(measured).collect()
    }

    fn is_measured(&self, workload: Workload, peer: Peer) -> bool {
        self.samples.iter().any(|sample| sample.workload == workload && sample.peer == peer)
    }

    /// What the workload is about: less is better.
    pub fn cost(&self, workload: Workload, peer: Peer) -> Option<f64> {
        self.median(workload, peer, |figures| match workload {
            Workload::Bulk { .. } | Workload::TlsBulk { .. } | Workload::Store { .. } | Workload::Compute { .. } => {
                figures.rate.map(|rate| 1e6 / rate)
            }
            Workload::Beside { .. } => figures.tw99,
            Workload::Idle { .. } | Workload::TlsIdle { .. } => figures.resident,
            Workload::Stop { .. } => figures.p99,
            _ => figures.cpu,
        })
    }

    pub fn origin(&self) -> String {
        format!("run {} on {}", self.id, self.machine)
    }

    /// Ours over theirs, and then all there is.
    pub fn markdown(&self) -> String {
        format!("{}\n{}", self.ratios(), self.details())
    }

    fn ratios(&self) -> String {
        let with_variants = self.samples.iter().any(|sample| sample.peer.variant().is_some());
        let peers: Vec<Peer> = self.peers().into_iter().filter(|peer| *peer != Peer::Ours || with_variants).collect();
        let mut text = format!("Medians of {}.\n\n| | sockserver |", self.origin());
        for peer in &peers {
            let _ = write!(text, " {} |", if *peer == Peer::Ours { "itself" } else { peer.name() });
        }
        text += "\n|---|--:|";
        peers.iter().for_each(|_| text += "--:|");
        for workload in self.workloads() {
            for subject in Peer::ALL {
                let is_ours = subject == Peer::Ours || subject.variant().is_some();
                if is_ours && self.is_measured(workload, subject) {
                    self.ratios_of(workload, subject, &peers, &mut text);
                }
            }
        }
        text += "\n\nUnder sockserver its own figure, less being better; under each peer sockserver's figure divided by \
                 the peer's. *Itself* is the sockserver of the row above. A target that is missed is **bold**, with the \
                 target after it.\n";
        text
    }

    fn ratios_of(&self, workload: Workload, subject: Peer, peers: &[Peer], text: &mut String) {
        let variant = subject.variant().unwrap_or_default();
        let own = self.cost(workload, subject);
        let own_judged = judged(own, own_target(workload), 1);
        let _ = write!(text, "\n| {}{variant}, {} | {own_judged} |", workload.name(), unit(workload));
        for peer in peers {
            let theirs = self.cost(workload, *peer).filter(|_| *peer != subject);
            let ratio = own.zip(theirs).map(|(own, theirs)| own / theirs);
            let _ = write!(text, " {} |", judged(ratio, target(workload, *peer), 2));
        }
    }

    fn details(&self) -> String {
        let mut text = String::from(
            "| | | requests/s | p50 µs | p99 µs | tw99 µs | CPU µs/request | resident KiB |\n\
             |---|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for workload in self.workloads() {
            for peer in Peer::ALL.into_iter().filter(|peer| self.is_measured(workload, *peer)) {
                let _ = write!(text, "| {} | {} |", workload.name(), peer.name());
                for (number, decimals) in [0, 1, 1, 1, 2, 1].into_iter().enumerate() {
                    let figure = self.median(workload, peer, |figures| figures.all()[number]);
                    let _ = write!(text, " {} |", judged(figure, None, decimals));
                }
                text.push('\n');
            }
        }
        text
    }
}

fn judged(figure: Option<f64>, target: Option<f64>, decimals: usize) -> String {
    match (figure, target) {
        (None, _) => String::new(),
        // A ratio is judged as it is shown.
        (Some(figure), Some(target)) if figure >= target + 0.005 => format!("**{figure:.decimals$}** > {target}"),
        (Some(figure), _) => format!("{figure:.decimals$}"),
    }
}

fn unit(workload: Workload) -> &'static str {
    match workload {
        Workload::Bulk { .. } | Workload::TlsBulk { .. } | Workload::Store { .. } | Workload::Compute { .. } => {
            "µs a request"
        }
        Workload::Beside { .. } => "tw99 µs",
        Workload::Idle { .. } | Workload::TlsIdle { .. } => "KiB a connection",
        Workload::Stop { .. } => "p99 µs",
        _ => "CPU µs a request",
    }
}

/// What sockserver's cost may be, in its own unit.
fn own_target(workload: Workload) -> Option<f64> {
    match workload {
        Workload::Stop { connections: 0 } => Some(5_000.0),
        Workload::Stop { .. } => Some(15_000.0),
        _ => None,
    }
}

/// What sockserver's cost may be, in parts of the peer's.
fn target(workload: Workload, peer: Peer) -> Option<f64> {
    Some(match (workload, peer) {
        (Workload::Connect { clients: 8.. }, Peer::Limit) => 1.15,
        (Workload::Connect { clients: 8.. }, Peer::StdThreads) => 0.30,
        (Workload::Connect { clients: 8.. }, Peer::Tokio) => 0.90,
        (Workload::Connect { clients: 8.. }, Peer::Go) => 0.65,
        (Workload::Connect { clients: 8.. }, Peer::Python) => 0.04,
        // Itself: with signals, of what it costs without.
        (Workload::Ping { connections: ..=64 }, Peer::Limit | Peer::StdThreads | Peer::Ours) => 1.03,
        (Workload::Ping { connections: 64 }, Peer::Python) => 0.50,
        (Workload::Pipeline { .. }, Peer::Limit) => 1.10,
        (Workload::Pipeline { .. }, Peer::StdThreads) => 0.35,
        (Workload::Pipeline { .. }, Peer::Tokio) => 1.00,
        (Workload::Udp { .. }, Peer::Limit) => 1.10,
        (Workload::Udp { .. }, Peer::Tokio) => 0.75,
        (Workload::Udp { .. }, Peer::Python) => 0.60,
        (Workload::Bulk { .. }, Peer::Limit) => 1.05,
        (Workload::Handshakes { .. } | Workload::TlsBulk { .. }, Peer::Tokio) => 1.05,
        // Of its rate, 0.8.
        (Workload::Store { .. }, Peer::Redis) => 1.25,
        (Workload::Idle { .. }, Peer::StdThreads) => 1.10,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Workload = Workload::Connect { clients: 8 };

    fn run(workload: Workload, costs: &[(Peer, f64)]) -> Run {
        let mut run = Run::new(None);
        for (peer, cpu) in costs {
            run.add(workload, *peer, Figures { cpu: Some(*cpu), ..Figures::default() });
        }
        run
    }

    #[test]
    fn a_saved_run_is_loaded_as_it_was() {
        let run = run(CONNECT, &[(Peer::Ours, 10.5), (Peer::StdThreads, 42.0)]);
        let loaded = Run::load(&run.save()).expect("what was saved");
        assert_eq!((loaded.id, loaded.machine, loaded.samples), (run.id, run.machine, run.samples));
    }

    #[test]
    fn figures_of_different_runs_are_not_compared() {
        let (one, mut other) = (run(CONNECT, &[(Peer::Ours, 1.0)]), run(CONNECT, &[(Peer::Limit, 1.0)]));
        other.id += "0";
        let error = Run::load(&(one.save() + &other.save())).expect_err("two runs");
        assert!(error.to_string().contains("different runs"), "{error}");
    }

    #[test]
    fn a_ratio_is_one_of_medians_and_judged_by_its_target() {
        let run = run(CONNECT, &[(Peer::Ours, 10.0), (Peer::Ours, 12.0), (Peer::Ours, 50.0), (Peer::Limit, 10.0)]);
        let row = "| connect 8, CPU µs a request | 12.0 | **1.20** > 1.15 |";
        assert!(run.ratios().contains(row), "{}", run.ratios());
    }

    #[test]
    fn what_signals_cost_is_a_row_beside_the_one_without() {
        let costs = [(Peer::Ours, 10.0), (Peer::OursOnSignals, 10.2), (Peer::Limit, 10.0)];
        let ratios = run(Workload::Ping { connections: 16 }, &costs).ratios();
        assert!(ratios.contains("| | sockserver | itself | limit |"), "{ratios}");
        assert!(ratios.contains("| ping 16, CPU µs a request | 10.0 |  | 1.00 |"), "{ratios}");
        assert!(ratios.contains("| ping 16 with signals, CPU µs a request | 10.2 | 1.02 | 1.02 |"), "{ratios}");
    }
}
