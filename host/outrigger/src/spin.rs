//! Keeps idle OpenMP threads from spinning a neighbour's core away, and ours with it.
//!
//! libgomp's barrier spins for some 300,000 rounds before it sleeps. Beside one busy process on two cores that took a
//! model from about 100 to 5 tokens/s; with 1,000 rounds it stayed at 95 to 110, and alone it lost nothing. libgomp
//! reads the number before `main` begins, so the process starts itself anew, once, under the same pid.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::console;

const VARIABLE: &str = "GOMP_SPINCOUNT";
const SPIN_COUNT: &str = "1000";

/// Replaces this process by itself with a bounded spin, unless the environment already says how to wait.
pub(crate) fn bound_openmp_spin() {
    let is_said = |name| std::env::var_os(name).is_some();
    if is_said(VARIABLE) || is_said("OMP_WAIT_POLICY") {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only where it failed, such as without /proc. Slower beside busy neighbours is better than not at all.
    let error = command.args(arguments).env(VARIABLE, SPIN_COUNT).exec();
    console::say(format_args!(
        "warning: cannot restart with {VARIABLE}={SPIN_COUNT} ({error}); set it for full speed on shared cores"
    ));
}
