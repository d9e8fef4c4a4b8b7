//! On which machine it ran.

use std::{fs, process::Command, thread};

pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = first_line("/proc/sys/kernel/osrelease");
    let load = first_line("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let versions: Vec<String> =
        [("rustc", "--version"), ("go", "version"), ("python3", "--version")].into_iter().filter_map(version).collect();
    format!("{}, {cores} cores, Linux {kernel}, load {load} before; {}", cpu(), versions.join(", "))
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or("a processor without a name").into()
}

fn first_line(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().into()
}

fn version((program, argument): (&str, &str)) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.to_owned())
}
