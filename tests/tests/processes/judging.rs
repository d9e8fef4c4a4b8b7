//! The clients that mean harm of `testing::hostile`: what they find, and what they do not.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sockserver::{
    HandlerResult, Options, Reader, RequestHandler, Server, Stream, Writer, request_handler,
    testing::hostile::{Attack, Plan},
};
use sockserver_tests::{
    client::PATIENCE,
    place::Place,
    process::{Process, ServerProcess, example},
    served::Served,
};

/// A plan that takes little time, and waits as long as a busy machine needs.
fn plan(server: &Served) -> Plan {
    let plan = Plan::new(server.server_address()).honest("hello\n", "HELLO\n").clients(8);
    plan.duration(Duration::from_millis(100)).patience(PATIENCE)
}

/// Keeps its connections if it is to leak.
#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "pool", handler = Session, workers = 2)]
struct Pool {
    leaked: Option<Mutex<Vec<Stream>>>,
}

#[request_handler]
struct Session {
    rfile: Reader,
    wfile: Writer,
    stream: Stream,
    server: Arc<Pool>,
}

impl RequestHandler for Session {
    fn handle(&mut self) -> HandlerResult {
        if let Some(leaked) = &self.server.leaked {
            leaked.lock().unwrap_or_else(PoisonError::into_inner).push(self.stream.clone());
        }
        while let Some(line) = self.rfile.next_line()? {
            writeln!(self.wfile, "{}", line.to_uppercase())?;
        }
        Ok(())
    }
}

fn serve(server: Pool, idle: Option<Duration>) -> Served {
    let mut options = Options::new();
    // An honest client is done within this time, however busy the machine is.
    (options.timeouts.idle, options.timeouts.lifetime) = (idle, idle.map(|idle| 3 * idle));
    options.workers = Some(2);
    Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"))
}

#[test]
fn a_server_whose_timeouts_end_what_hangs_holds_out() {
    let server = serve(Pool::default(), Some(Duration::from_millis(500)));
    let report = plan(&server).clients(4).attack(Attack::ALL);
    assert!(report.is_good(), "{report}");
    assert_eq!(report.findings().len(), Attack::ALL.len());
    assert!(report.findings().iter().all(|finding| finding.served() > 0 && finding.connected() >= 4), "{report}");
}

#[test]
fn a_pool_that_silent_clients_fill_is_found() {
    let server = serve(Pool::default(), None);
    let report = plan(&server).patience(Duration::from_millis(500)).attack(&[Attack::Silent]);
    let finding = &report.findings()[0];
    assert!(!report.is_good() && finding.not_served() > 0, "{report}");
    assert_eq!(finding.still_open(), Some(8));
    assert!(report.to_string().contains("honest clients not served: no answer within 500ms"), "{report}");
}

#[test]
fn descriptors_that_do_not_come_back_are_found() {
    let server = serve(Pool { leaked: Some(Mutex::default()) }, Some(Duration::from_millis(100)));
    // The tests beside this one may close as many meanwhile, but not five times.
    let is_found = (0..5).any(|_| {
        let plan = plan(&server).process(std::process::id()).clients(200).patience(Duration::from_secs(2));
        let report = plan.attack(&[Attack::HalfClosing]);
        println!("{report}");
        report.findings()[0].faults().iter().any(|fault| fault.to_string().contains("descriptors"))
    });
    assert!(is_found);
}

#[test]
fn the_example_judges_a_server() {
    let server = ServerProcess::start(example("upper"), Place::of("tcp"));
    let mut judge = Process::start(example("hostile").arg(server.address().to_string()).args([
        "--clients",
        "8",
        "--seconds",
        "0.1",
    ]));
    assert_eq!(judge.line(), "an honest client says \"hello\\n\" and gets \"HELL…\"");
    let table = judge.rest();
    assert!(judge.ended().success(), "{table}");
    for attack in Attack::ALL {
        let row = table.lines().find(|row| row.starts_with(&format!("| {attack} |")));
        assert!(row.is_some_and(|row| row.ends_with("| good |") && row.contains(" MiB |")), "{attack} in {table}");
    }
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    for (words, said) in [
        (&[][..], "hostile: usage: hostile HOST:PORT"),
        (&["127.0.0.1"], "hostile: 127.0.0.1: "),
        (&["127.0.0.1:9", "--loud", "1"], "hostile: --loud is not understood"),
        (&["127.0.0.1:9", "--clients"], "hostile: --clients takes a value"),
        (&["127.0.0.1:9", "--clients", "many"], "hostile: --clients is a whole number, not many"),
        (&["127.0.0.1:9", "--seconds", "-1"], "hostile: --seconds is a number of seconds, not -1"),
    ] {
        let mut process = Process::start(example("hostile").args(words));
        process.reports(said);
        assert!(!process.ended().success());
    }
}
