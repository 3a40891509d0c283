//! Which processors compute.

use std::fmt;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Processors by number, written as Linux writes them in a cpuset: `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus {
    /// In order, each once.
    numbers: Vec<usize>,
}

impl Cpus {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Whether none of them is one of `other`.
    pub(crate) fn is_apart_from(&self, other: &Self) -> bool {
        self.numbers.iter().all(|number| other.numbers.binary_search(number).is_err())
    }

    /// That this process may run on all of them; what it may run on is the error.
    pub(crate) fn check(&self) -> Result<(), String> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(|error| format!("nobody knows which: {error}"))?;
        let is_allowed = |number: usize| allowed.is_set(number).unwrap_or(false);
        if self.numbers.iter().all(|&number| is_allowed(number)) {
            return Ok(());
        }
        Err(Self { numbers: (0..CpuSet::count()).filter(|&number| is_allowed(number)).collect() }.to_string())
    }

    /// Keeps the calling thread, and those that it starts, on these processors.
    pub(crate) fn hold_this_thread(&self) -> Result<(), nix::Error> {
        let mut set = CpuSet::new();
        for &number in &self.numbers {
            set.set(number)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("`{text}` is no list of processors; 0-3,8 is one, with numbers below {}", CpuSet::count());
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&number| number < CpuSet::count());
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = number(from).zip(number(to)).filter(|(from, to)| from <= to).ok_or_else(refused)?;
            numbers.extend(from..=to);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self { numbers })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.numbers.chunk_by(|before, after| before + 1 == *after);
        for (place, run) in runs.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match run {
                [only] => write!(f, "{comma}{only}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_linux_writes_them() {
        let check = |text: &str, expected: &[usize], shown: &str| {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.numbers.as_slice(), cpus.to_string().as_str()), (expected, shown), "{text}");
        };
        check("0", &[0], "0");
        check("0-3,8", &[0, 1, 2, 3, 8], "0-3,8");
        check("8, 2-2,1,1-2", &[1, 2, 8], "1-2,8");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "a", "1-", "-1", "3-1", "1,,2", "0-99999999999", "1024"] {
            let refusal = text.parse::<Cpus>().unwrap_err();
            assert!(refusal.contains("0-3,8 is one"), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_thread_and_those_it_starts_stay_there() {
        let allowed = || sched_getaffinity(Pid::from_raw(0)).unwrap();
        let before = allowed();
        let first = (0..CpuSet::count()).find(|&number| before.is_set(number).unwrap()).unwrap();
        let only: Cpus = first.to_string().parse().unwrap();
        only.check().unwrap();
        let held = std::thread::spawn(move || {
            only.hold_this_thread().unwrap();
            std::thread::spawn(allowed).join().unwrap()
        });
        let held = held.join().unwrap();
        let kept: Vec<usize> = (0..CpuSet::count()).filter(|&number| held.is_set(number).unwrap()).collect();
        assert_eq!(kept, [first]);
        assert_eq!(allowed(), before, "other threads go where they went");

        let all: Cpus = format!("0-{}", CpuSet::count() - 1).parse().unwrap();
        let said = all.check().unwrap_err();
        assert!(said.parse::<Cpus>().is_ok_and(|cpus| cpus.count() > 0 && cpus != all), "{said}");
    }
}
