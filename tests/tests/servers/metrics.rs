//! What a server counts, as a real parser of OpenMetrics reads it.

use std::process::{Command, Stdio};

use sockserver::{OnLimit, Options, Stats, concurrency::Threading, transport::Tcp};
use sockserver_tests::{
    client::{Client, eventually},
    process::{Process, skip},
    script::{Script, Session},
};

/// Prints each sample as `type name{label="value"} value`. The parser refuses what is no OpenMetrics.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family
    for sample in family.samples:
        labels = ','.join(f'{name}={value}' for name, value in sample.labels.items())
        print(family.type, sample.name + (f'{{{labels}}}' if labels else ''), int(sample.value))
";

/// What the parser of Python's `prometheus_client` reads. `None`: it is not installed.
fn parsed(stats: &Stats) -> Option<String> {
    let has_parser = |python: &&str| {
        let import = Command::new(python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    // Debian's packages are for its own Python.
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_parser) else {
        skip("prometheus_client is not installed");
        return None;
    };
    let mut process = Process::start(Command::new(python).args(["-c", PARSE]));
    process.enter(stats.to_string().trim_end());
    process.end_input();
    Some(process.output())
}

#[test]
fn a_parser_of_openmetrics_reads_the_counts() {
    let handle = |session: &mut Session<Tcp, Threading>| match session.rfile.next_line()?.as_deref() {
        Some("fail") => Err("no disk".into()),
        Some("panic") => panic!("no luck"),
        _ => session.rfile.next_line().map(drop).map_err(Into::into),
    };
    let mut options = Options::new();
    options.limits.per_client = Some(2);
    options.limits.on_limit = OnLimit::Reject;
    let server = Script::<Tcp, Threading>::serve_with(handle, options);
    for word in ["fail\n", "panic\n", "\n\n", "\n\n"] {
        let mut client = Client::connect(server.server_address());
        client.send(word);
        client.finish();
        client.wait_for_end();
    }
    let _active = [(); 2].map(|()| Client::connect(server.server_address()));
    eventually("both are accepted", || server.stats().active == 2);
    Client::connect(server.server_address()).wait_for_end();
    let stats = server.stats();
    let Some(parsed) = parsed(&stats) else { return };
    let expected = "\
counter sockserver_connections_accepted_total 7
counter sockserver_accept_errors_total 0
counter sockserver_packets_truncated_total 0
gauge sockserver_connections_active 2
gauge sockserver_connections_handshaking 0
counter sockserver_connections_ended_total{outcome=finished} 2
counter sockserver_connections_ended_total{outcome=failed} 1
counter sockserver_connections_ended_total{outcome=panicked} 1
counter sockserver_connections_ended_total{outcome=disconnected} 0
counter sockserver_connections_ended_total{outcome=timed_out} 0
counter sockserver_connections_ended_total{outcome=refused} 0
counter sockserver_connections_ended_total{outcome=rejected} 1
counter sockserver_connections_ended_total{outcome=bad_preamble} 0
counter sockserver_connections_ended_total{outcome=bad_handshake} 0
";
    assert_eq!(parsed, expected, "{stats}");
}
