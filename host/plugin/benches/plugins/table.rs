//! What is printed: a line for each figure, and whether it is what was promised.

use std::cell::Cell;
use std::time::Duration;

/// The table, as it is printed line by line.
#[derive(Default)]
pub(crate) struct Table {
    gates: Cell<usize>,
    met: Cell<usize>,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate {
    /// The median, in microseconds.
    Median(f64),
    /// The 99th percentile, in microseconds.
    P99(f64),
}

impl Table {
    pub(crate) fn head(title: &str) {
        println!("{title:<76} {:>11} {:>11}", "median", "p99");
    }

    /// A line without a gate.
    #[expect(clippy::unused_self, reason = "as the lines with one")]
    pub(crate) fn show(&self, what: &str, calls: usize, times: &[Duration]) {
        println!("{}", line(what, median_and_p99(calls, times)));
    }

    /// A line with one. `times` are of `calls` calls each, and the figure is of one call.
    pub(crate) fn gate(&self, what: &str, calls: usize, times: &[Duration], gate: Gate) {
        let (median, p99) = median_and_p99(calls, times);
        let (figure, name, most) = match gate {
            Gate::Median(most) => (median, "", most),
            Gate::P99(most) => (p99, "p99 ", most),
        };
        println!("{}  {name}≤ {most} µs {}", line(what, (median, p99)), self.judge(figure <= most));
    }

    /// A size, and the most that it may be, where that was promised.
    pub(crate) fn size(&self, what: &str, bytes: f64, bytes_max: Option<f64>) {
        let gate = bytes_max.map(|most| format!("{:>11}  ≤ {} KiB {}", "", most / 1024.0, self.judge(bytes <= most)));
        println!("{what:<76} {:>7.1} KiB {}", bytes / 1024.0, gate.unwrap_or_default());
    }

    pub(crate) fn foot(&self) {
        println!("\n{} of {} gates met", self.met.get(), self.gates.get());
    }

    fn judge(&self, is_met: bool) -> &'static str {
        self.gates.set(self.gates.get() + 1);
        self.met.set(self.met.get() + usize::from(is_met));
        if is_met { "met" } else { "MISSED" }
    }
}

fn line(what: &str, (median, p99): (f64, f64)) -> String {
    format!("{what:<76} {median:>8.2} µs {p99:>8.2} µs")
}

/// Of one call, in microseconds.
fn median_and_p99(calls: usize, times: &[Duration]) -> (f64, f64) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |part: f64| {
        let place = ((times.len() - 1) as f64 * part).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let time = times[place as usize];
        time.as_secs_f64() * 1e6 / calls as f64
    };
    (at(0.5), at(0.99))
}
