//! Wall and processor time of one run.

use std::time::Instant;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Stamp {
    /// Now.
    pub(crate) fn now() -> Self {
        // The wall clock is read last at the start and first at the end, so it spans the run alone.
        let cpu_ns = process_cpu_ns();
        Self { wall: Instant::now(), cpu_ns }
    }

    /// Milliseconds since this stamp: wall, and processor time of the whole process where the system tells it.
    pub(crate) fn elapsed_ms(self) -> (f64, Option<f64>) {
        let wall = self.wall.elapsed().as_secs_f64() * 1e3;
        let cpu = match (self.cpu_ns, process_cpu_ns()) {
            (Some(start), Some(end)) => Some(end.saturating_sub(start) as f64 / 1e6),
            _ => None,
        };
        (wall, cpu)
    }
}

#[cfg(unix)]
fn process_cpu_ns() -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: the pointer is to a timespec on this stack.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    if code != 0 {
        return None;
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(not(unix))]
fn process_cpu_ns() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn sleeping_costs_wall_time_and_work_costs_both() {
        let sleep = Stamp::now();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let (wall, _) = sleep.elapsed_ms();
        assert!(wall >= 30.0, "{wall}");
        let work = Stamp::now();
        let mut x = 1u64;
        while work.elapsed_ms().1.unwrap() < 10.0 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(work.elapsed_ms().0 > 1.0, "{x}");
    }
}
