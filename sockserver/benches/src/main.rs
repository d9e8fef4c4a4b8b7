#![doc = include_str!("../README.md")]

use std::{
    env, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use cores::Cores;
use measure::measure;
use report::Run;
use servers::Peer;
use workload::Workload;

mod cores;
mod load;
mod machine;
mod measure;
mod plot;
mod process;
mod report;
mod servers;
mod tls_load;
mod workload;

struct Plan {
    rounds: usize,
    time: Duration,
    cores: Option<Cores>,
    peers: Vec<Peer>,
    workloads: Vec<Workload>,
    out: PathBuf,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", peer, service] => servers::serve(peer, service),
        ["report", ref files @ ..] => {
            let texts: Vec<String> = files.iter().map(fs::read_to_string).collect::<io::Result<_>>()?;
            println!("{}", Run::load(&texts.concat())?.markdown());
            Ok(())
        }
        ref options => {
            let plan = Plan::of(options)?;
            let run = plan.run();
            println!("{}", run.markdown());
            write_results(&run, &plan.out)
        }
    }
}

impl Plan {
    fn of(options: &[&str]) -> io::Result<Plan> {
        let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut plan = Plan {
            rounds: 5,
            time: Duration::from_millis(600),
            cores: None,
            peers: Vec::new(),
            workloads: Vec::new(),
            out,
        };
        let mut options = options.iter();
        while let Some(&option) = options.next() {
            let mut value = || options.next().copied().ok_or_else(|| wrong(option));
            match option {
                "--quick" => (plan.rounds, plan.time) = (1, Duration::from_millis(250)),
                "--pin" => plan.cores = Some(Cores::two()?),
                "--rounds" => plan.rounds = understood(value()?, |rounds| rounds.parse().ok())?,
                "--peer" => plan.peers.push(understood(value()?, Peer::named)?),
                "--workload" => plan.workloads.push(understood(value()?, Workload::named)?),
                "--out" => plan.out = value()?.into(),
                _ => return Err(wrong(option)),
            }
        }
        if plan.peers.is_empty() {
            plan.peers = Peer::ALL.into();
        }
        if plan.workloads.is_empty() {
            plan.workloads = Workload::ALL.into();
        }
        Ok(plan)
    }

    /// Peer after peer, round after round: what else the machine does meets them all.
    fn run(&self) -> Run {
        let mut run = Run::new(self.cores);
        let mut installed = Vec::new();
        for &peer in &self.peers {
            match peer.program() {
                Some(program) => installed.push((peer, program)),
                None => eprintln!("skipped: {} is not installed", peer.name()),
            }
        }
        for round in 0..self.rounds {
            for &workload in &self.workloads {
                eprintln!("round {} of {}: {}", round + 1, self.rounds, workload.name());
                for number in 0..installed.len() {
                    let (peer, program) = &installed[(number + round) % installed.len()];
                    // Memory is the same each time.
                    let known = round > 0 && matches!(workload, Workload::Idle { .. } | Workload::TlsIdle { .. });
                    if known || !workload.is_for(*peer) {
                        continue;
                    }
                    match measure(workload, program, self.time, self.cores) {
                        Ok(figures) => run.add(workload, *peer, figures),
                        Err(error) => eprintln!("{}, {}: {error}", workload.name(), peer.name()),
                    }
                }
            }
        }
        run
    }
}

fn understood<T>(value: &str, meaning: impl Fn(&str) -> Option<T>) -> io::Result<T> {
    meaning(value).ok_or_else(|| wrong(value))
}

fn wrong(argument: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("`{argument}` is not understood; README.md says what is"))
}

fn write_results(run: &Run, out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("run.tsv"), run.save())?;
    fs::write(out.join("report.md"), run.markdown())?;
    fs::write(out.join("plot.svg"), plot::svg(run))
}
