//! The processors of the machine.

use std::time::Duration;

/// proc(5): how long the processors have had nothing to do, in total. `None` where the system does not say so.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
pub(crate) fn idle_time() -> Option<Duration> {
    use std::{fs::File, io::Read};

    // The first line adds all processors up. It begins with a word and ten numbers.
    let mut line = [0; 512];
    let length = File::open("/proc/stat").and_then(|mut stat| stat.read(&mut line)).ok()?;
    let line = std::str::from_utf8(&line[..length]).ok()?.lines().next()?;
    let mut ticks = line.strip_prefix("cpu ")?.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
    // User, nice, system; then idle, and idle while a disk is waited for.
    let idle = ticks.nth(3)?? + ticks.next()??;
    // SAFETY: sysconf(3) touches no memory.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(Duration::from_millis(
        idle.checked_mul(1000)? / u64::try_from(ticks_a_second).ok().filter(|ticks| *ticks > 0)?,
    ))
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockserver_model))))]
pub(crate) fn idle_time() -> Option<Duration> {
    None
}

#[cfg(all(test, any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
mod tests {
    use super::*;

    #[test]
    fn processors_are_idle_for_no_less_time_than_before() {
        let before = idle_time().expect("proc(5)");
        std::thread::sleep(Duration::from_millis(50));
        assert!(idle_time() >= Some(before) && before > Duration::ZERO);
    }
}
