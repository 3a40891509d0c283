//! Busy neighbours: processes of our own that do nothing but compute, and end with the value that holds them.

use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::limits;

/// Running hogs.
pub(crate) struct Hogs(Vec<Child>);

impl Hogs {
    pub(crate) fn start(count: usize) -> anyhow::Result<Self> {
        let mut hogs = Self(Vec::new());
        for _ in 0..count {
            hogs.0.push(Command::new(std::env::current_exe()?).arg("hog").stdin(Stdio::null()).spawn()?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// Keeps one processor busy until the parent is gone, or a hog's life is over.
pub(crate) fn spin() {
    let (parent, started) = (parent_id(), Instant::now());
    let mut state = 1_u64;
    while parent_id() == parent && started.elapsed() < limits::HOG_LIFE {
        for _ in 0..10_000_000 {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
