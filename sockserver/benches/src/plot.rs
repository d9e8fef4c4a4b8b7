//! The costs of one run as an SVG: what each peer costs, in multiples of what sockserver does.

use std::fmt::Write as _;

use crate::{report::Run, servers::Peer, workload::Workload};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 90.0;
const ROW: f64 = 30.0;
/// Between the entries of the legend, and for each letter of one.
const LEGEND_GAP: f64 = 42.0;
const LETTER: f64 = 8.0;
/// The axis is logarithmic.
const LEAST: f64 = 0.1;
const MOST: f64 = 100.0;
const TICKS: [f64; 10] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

pub fn svg(run: &Run) -> String {
    let workloads = run.workloads();
    let bottom = TOP + ROW * workloads.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        bottom + 60.0
    );
    text(&mut svg, WIDTH / 2.0, 24.0, "middle", "What a request costs the server, sockserver = 1 (less is better)");
    legend(&mut svg, &run.peers());
    for tick in TICKS {
        let (x, width) = (x(tick), if tick == 1.0 { 2.0 } else { 0.5 });
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#888\" stroke-width=\"{width}\"/>"
        );
        text(&mut svg, x, bottom + 18.0, "middle", &format!("{tick} ×"));
    }
    for (number, workload) in workloads.iter().enumerate() {
        let y = TOP + ROW * (number as f64 + 0.5);
        text(&mut svg, LEFT - 20.0, y + 4.0, "end", &workload.name());
        row(&mut svg, run, *workload, y);
    }
    text(
        &mut svg,
        WIDTH / 2.0,
        bottom + 42.0,
        "middle",
        "server CPU time a request; ping beside 1: tw99; bulk, compute and kv: time; idle: memory a connection; shutdown: p99",
    );
    let _ = writeln!(svg, "<!-- {} -->\n</svg>", run.origin());
    svg
}

fn row(svg: &mut String, run: &Run, workload: Workload, y: f64) {
    let Some(ours) = run.cost(workload, Peer::Ours) else { return };
    for peer in run.peers() {
        let Some(theirs) = run.cost(workload, peer) else { continue };
        let (x, ratio) = (x(theirs / ours), theirs / ours);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"{}\" fill-opacity=\"0.85\">\
             <title>{}, {}: {ratio:.2}</title></circle>",
            colour(peer),
            workload.name(),
            peer.name()
        );
    }
}

fn legend(svg: &mut String, peers: &[Peer]) {
    let mut x = RIGHT;
    for peer in peers {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"52\" r=\"6\" fill=\"{}\"/>", colour(*peer));
        text(svg, x + 10.0, 56.0, "start", peer.name());
        x += LEGEND_GAP + LETTER * peer.name().len() as f64;
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn x(ratio: f64) -> f64 {
    let part = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Ours | Peer::OursOnSignals | Peer::OursOnMessages => "#d62728",
        Peer::OursOnLoop | Peer::OursOnLoops | Peer::OursOnOneLoop => "#ff7f0e",
        Peer::Limit => "#222",
        Peer::StdThreads => "#1f77b4",
        Peer::Tokio => "#9467bd",
        Peer::May => "#8c564b",
        Peer::Go => "#17becf",
        Peer::Python => "#e0a800",
        Peer::Redis => "#7f7f7f",
        Peer::Nginx => "#009639",
    }
}
