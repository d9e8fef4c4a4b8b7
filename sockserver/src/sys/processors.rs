//! The processors of the machine.

use std::time::Duration;

/// proc(5): how long the processors have had nothing to do, in total. `None` where the system does not say so.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
pub(crate) fn idle_time() -> Option<Duration> {
    use std::{fs::File, io::Read};

    // All processors together are in the first line, which is a word and ten numbers.
    let mut start = [0; 512];
    let length = File::open("/proc/stat").and_then(|mut stat| stat.read(&mut start)).ok()?;
    let stat = std::str::from_utf8(&start[..length]).ok()?;
    // SAFETY: sysconf(3) touches no memory.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    idle_time_in(stat, u64::try_from(ticks_a_second).ok()?)
}

#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
fn idle_time_in(stat: &str, ticks_a_second: u64) -> Option<Duration> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    // User, nice, system; then idle, and idle while a disk is waited for.
    let mut ticks = numbers.split_ascii_whitespace().skip(3).map(|number| number.parse::<u64>().ok());
    let idle = ticks.next()??.checked_add(ticks.next()??)?;
    Some(Duration::from_millis(idle.checked_mul(1000)?.checked_div(ticks_a_second)?))
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockserver_model))))]
pub(crate) fn idle_time() -> Option<Duration> {
    None
}

#[cfg(all(test, any(target_os = "linux", target_os = "android"), not(sockserver_model)))]
mod tests {
    use super::*;

    #[test]
    fn the_idle_time_is_that_of_all_processors_waits_for_disks_included() {
        let stat = "cpu  11 12 13 400 50 14 15 16 17 18\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(idle_time_in(stat, 100), Some(Duration::from_millis(4500)));
        for strange in ["", "cpu", "cpu0 1 2 3 4 5", "cpu  1 2 3", "cpu  1 2 3 four 5"] {
            assert_eq!(idle_time_in(strange, 100), None, "{strange:?}");
        }
        assert_eq!(idle_time_in(stat, 0), None);
    }

    #[test]
    fn this_machine_tells_its_idle_time() {
        assert!(idle_time().is_some_and(|idle| idle > Duration::ZERO));
    }
}
