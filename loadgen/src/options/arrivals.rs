//! Rates over time as they are asked for: stages in a row, and how broadcasts are spread over them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// The most broadcasts of one run: sequence numbers travel as eight hexadecimal digits.
pub const BROADCASTS_MAX: u64 = u32::MAX as u64;
/// The most stages of a run: each has histograms of its own on every thread, half a megabyte together.
const STAGES_MAX: usize = 100;
/// The most broadcasts of a run with random arrivals: their times are kept, eight bytes each (400 MB).
pub const POISSON_BROADCASTS_MAX: u64 = 50_000_000;

/// How broadcasts are spread over a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At even distances.
    #[default]
    Constant,
    /// As independent events (a Poisson process, from the seed), which come in bursts and gaps.
    Poisson,
}

/// A rate that is kept for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// For how long.
    pub duration: Duration,
    /// Broadcasts a second.
    pub rate: f64,
}

impl Stage {
    /// How many broadcasts it comes to, rounded.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.rate * self.duration.as_secs_f64()).round() as u64
    }
}

/// Stages in a row, written `30s:10,60s:100`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages(pub Vec<Stage>);

impl FromStr for Stages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let stage = |item: &str| {
            let (duration, rate) = item
                .trim()
                .split_once(':')
                .ok_or_else(|| format!("{item:?} is no DURATION:RATE such as 30s:10"))?;
            let duration =
                humantime::parse_duration(duration).map_err(|error| format!("{duration:?}: {error}"))?;
            let rate = positive_rate(rate).map_err(|why| format!("{rate:?}: {why}"))?;
            let stage = Stage { duration, rate };
            match stage.count() {
                0 => Err(format!("{item:?} is too short for a single broadcast")),
                _ => Ok(stage),
            }
        };
        let count = text.split(',').count();
        if count > STAGES_MAX {
            return Err(format!("{count} stages: at most {STAGES_MAX} are allowed"));
        }
        text.split(',').map(stage).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", humantime::format_duration(stage.duration), stage.rate)?;
        }
        Ok(())
    }
}

/// Parses a rate.
///
/// # Errors
///
/// What is wrong with it.
pub fn positive_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let allowed = 0.001..=10_000_000.0;
    if allowed.contains(&rate) { Ok(rate) } else { Err("allowed are 0.001 to 10,000,000".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_stages_is_refused() {
        for wrong in ["", "30s", "30s:", ":10", "30s:0", "30s:a", "1s:0.1", "30s:1,", "30:1"] {
            assert!(wrong.parse::<Stages>().is_err(), "{wrong}");
        }
        assert!(["1s:5"; STAGES_MAX].join(",").parse::<Stages>().is_ok());
        assert!(["1s:5"; STAGES_MAX + 1].join(",").parse::<Stages>().is_err());
    }
}
