//! The table.

use std::fmt::Display;
use std::io::Write as _;

use crate::process;
use crate::scenario::Bench;

/// One line of the table: a figure of ours beside somebody's, taken in turns.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) figure: String,
    pub(crate) unit: Unit,
    pub(crate) against: String,
    /// One per round; round by round in the order of `ours`.
    pub(crate) theirs: Vec<f64>,
    pub(crate) ours: Vec<f64>,
    pub(crate) aim: Option<Aim>,
    /// What a reader has to know.
    pub(crate) note: Option<String>,
}

/// What a figure is measured in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    TokensPerSecond,
    PerSecond,
    Milliseconds,
    CpuMillisecondsPerToken,
    Megabytes,
    Times,
    Tokens,
    Count,
}

/// By how much a figure of the same server differs from run to run on a quiet machine: less is not worse.
const NOISE: f64 = 1.05;

/// What the issues want of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
    /// At most this, and not worse than theirs.
    AtMostAndNotWorse(f64),
    /// At most so much more than theirs.
    AddsAtMost(f64),
}

impl Row {
    pub(crate) fn new(figure: impl Into<String>, unit: Unit, against: impl Display) -> Self {
        let against = format!("{against}");
        Self { figure: figure.into(), unit, against, theirs: Vec::new(), ours: Vec::new(), aim: None, note: None }
    }

    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    pub(crate) fn push(&mut self, theirs: f64, ours: f64) {
        self.theirs.push(theirs);
        self.ours.push(ours);
    }

    /// The median of the rounds' ratios: what the machine did in one round hit both.
    pub(crate) fn ratio(&self) -> Option<f64> {
        median(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs))
    }

    pub(crate) fn is_met(&self) -> Option<bool> {
        let (ours, theirs) = (median(self.ours.iter().copied())?, median(self.theirs.iter().copied()));
        Some(match self.aim? {
            Aim::RatioAtLeast(least) => self.ratio()? >= least,
            Aim::RatioAtMost(most) => self.ratio()? <= most,
            Aim::AtLeast(least) => ours >= least,
            Aim::AtMost(most) => ours <= most,
            Aim::AddsAtMost(most) => {
                median(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours - theirs))? <= most
            }
            Aim::AtMostAndNotWorse(most) => ours <= most && theirs.is_none_or(|theirs| ours <= theirs * NOISE),
        })
    }
}

/// The middle value; of two middle values the upper one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

pub(crate) fn print_head(bench: &Bench) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let model = bench.model.file_name().unwrap_or_default().display();
    let pace = if bench.is_quick { ", quick" } else { "" };
    writeln!(out, "{model}, {} threads, load average {:.1}{pace}\n", bench.threads, process::load_average()?)?;
    writeln!(out, "| figure | against | theirs | ours | ours/theirs | aim | rounds, load |")?;
    writeln!(out, "|---|---|---:|---:|---:|---|---|")?;
    Ok(())
}

pub(crate) fn print_rows(rows: &[Row]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let load = process::load_average()?;
    for row in rows {
        let shown =
            |values: &[f64]| median(values.iter().copied()).map_or("–".to_owned(), |value| row.unit.show(value));
        let ratio = row.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let aim = match (row.aim, row.is_met()) {
            (None, _) => String::new(),
            (Some(aim), Some(true)) => format!("{} met", aim.show(row.unit)),
            (Some(aim), Some(false)) => format!("{} **missed**", aim.show(row.unit)),
            (Some(aim), None) => format!("{} not measured", aim.show(row.unit)),
        };
        let note = row.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
        let Row { figure, against, theirs, ours, .. } = row;
        writeln!(
            out,
            "| {figure} | {against} | {} | {} | {ratio} | {aim} | {}, {load:.1}{note} |",
            shown(theirs),
            shown(ours),
            ours.len()
        )?;
    }
    out.flush()?;
    Ok(())
}

pub(crate) fn print_foot() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nMedians of the rounds; the ratio is the median of the rounds' ratios, each taken in turns.")?;
    writeln!(out, "Load average at the end: {:.1}", process::load_average()?)?;
    Ok(())
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::TokensPerSecond => format!("{value:.1} tokens/s"),
            Self::PerSecond => format!("{value:.1}/s"),
            Self::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds if value < 100.0 => format!("{value:.1} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::CpuMillisecondsPerToken => format!("{value:.1} ms"),
            Self::Megabytes => format!("{value:.0} MB"),
            Self::Times => format!("{value:.3}"),
            Self::Tokens | Self::Count => format!("{value:.0}"),
        }
    }
}

impl Aim {
    fn show(self, unit: Unit) -> String {
        match self {
            Self::RatioAtLeast(least) => format!("≥ {least:.2} ×"),
            Self::RatioAtMost(most) => format!("≤ {most:.2} ×"),
            Self::AtLeast(least) => format!("≥ {}", unit.show(least)),
            Self::AtMost(most) => format!("≤ {}", unit.show(most)),
            Self::AddsAtMost(most) => format!("≤ {} more", unit.show(most)),
            Self::AtMostAndNotWorse(most) => format!("≤ {} and theirs", unit.show(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(theirs: &[f64], ours: &[f64], aim: Aim) -> Row {
        let mut row = Row::new("figure", Unit::Milliseconds, "peer").aim(aim);
        for (theirs, ours) in theirs.iter().zip(ours) {
            row.push(*theirs, *ours);
        }
        row
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        // A slow second round hits both. The ratio of the medians would be 150/100.
        let row = row(&[100.0, 10.0, 100.0], &[200.0, 20.0, 150.0], Aim::RatioAtLeast(2.0));
        assert_eq!(row.ratio(), Some(2.0));
        assert_eq!(row.is_met(), Some(true));
    }

    #[test]
    fn an_aim_is_met_or_missed() {
        let check = |aim, expected| assert_eq!(row(&[100.0], &[120.0], aim).is_met(), expected, "{aim:?}");
        check(Aim::RatioAtLeast(1.2), Some(true));
        check(Aim::RatioAtLeast(1.3), Some(false));
        check(Aim::RatioAtMost(1.2), Some(true));
        check(Aim::RatioAtMost(1.1), Some(false));
        check(Aim::AtLeast(120.0), Some(true));
        check(Aim::AtLeast(121.0), Some(false));
        check(Aim::AtMost(120.0), Some(true));
        check(Aim::AtMost(119.0), Some(false));
        check(Aim::AtMostAndNotWorse(130.0), Some(false));
        assert_eq!(row(&[115.0], &[120.0], Aim::AtMostAndNotWorse(130.0)).is_met(), Some(true));
        assert_eq!(row(&[115.0], &[121.0], Aim::AtMostAndNotWorse(130.0)).is_met(), Some(false));
        check(Aim::AddsAtMost(20.0), Some(true));
        check(Aim::AddsAtMost(19.0), Some(false));
        assert_eq!(row(&[], &[], Aim::AtMost(1.0)).is_met(), None);
        assert_eq!(row(&[130.0], &[120.0], Aim::AtMostAndNotWorse(125.0)).is_met(), Some(true));
    }

    #[test]
    fn a_figure_that_is_none_does_not_count() {
        assert_eq!(median([f64::NAN, 2.0, f64::INFINITY, 1.0, 3.0].into_iter()), Some(2.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
