//! First and last receiver of a broadcast, as two dots with the time between them.

use maud::{Markup, html};

use super::figure::{Figure, LEFT, RIGHT, Readings, foot_grid, round};
use super::scale::{TimeScale, percent, tick_time, time};
use super::shown::{ShownRun, run_class};
use crate::saved::{Quantile, Summary};

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
const TOP: f64 = 8.0;
const ROW: f64 = 20.0;
const GAP: f64 = 12.0;
const PLOT_LEFT: f64 = LEFT + 40.0;
/// Room for the difference, right of the plot.
const PLOT_RIGHT: f64 = RIGHT - 70.0;

/// The rows of one run.
struct Rows<'a> {
    run: &'a ShownRun,
    /// First and last receiver at each of [`QUANTILES`].
    pairs: Vec<(f64, &'a Quantile, &'a Quantile)>,
}

/// The figure; `None` when no run has receivers to tell apart, as in echo.
pub(crate) fn figure(runs: &[ShownRun]) -> Option<Figure> {
    let rows: Vec<_> = runs.iter().filter_map(rows_of).collect();
    if rows.is_empty() {
        return None;
    }
    let values =
        rows.iter().flat_map(|rows| &rows.pairs).flat_map(|(_, first, last)| [first.value_ns, last.value_ns]);
    let times = TimeScale::new(values, PLOT_LEFT, PLOT_RIGHT);
    let bottom = TOP + rows.len() as f64 * (QUANTILES.len() as f64 * ROW + GAP);
    Some(Figure {
        id: "receivers",
        title: "First and last receiver",
        description: describe(&rows),
        caption: html! {
            "From the intended time of a broadcast until its first receiver (open dot) and its last (full dot) has it, "
            "for 50, 90 and 99 % of the broadcasts; at the right, how far the dots are apart. The first and the last at 99 % may be of "
            "two broadcasts: the figure after this one is about single ones."
        },
        height: bottom + 52.0,
        drawing: drawing(&rows, &times, bottom),
        readings: Readings::default(),
    })
}

fn rows_of(run: &ShownRun) -> Option<Rows<'_>> {
    let has_values = |summary: &&Summary| summary.count > 0;
    let first = run.result.first.as_ref().filter(has_values)?;
    let last = run.result.complete.as_ref().filter(has_values)?;
    let pair = |quantile| Some((quantile, first.quantile(quantile)?, last.quantile(quantile)?));
    Some(Rows { run, pairs: QUANTILES.into_iter().filter_map(pair).collect() })
}

fn describe(rows: &[Rows<'_>]) -> String {
    let each = rows.iter().map(|rows| {
        let pairs = rows.pairs.iter().map(|(quantile, first, last)| {
            format!("{}: first {}, last {}", percent(*quantile), time(first.value_ns), shown(last))
        });
        format!("Run {}, {}: {}.", rows.run.number, rows.run.label, pairs.collect::<Vec<_>>().join("; "))
    });
    each.collect::<Vec<_>>().join(" ")
}

fn shown(quantile: &Quantile) -> String {
    format!("{}{}", if quantile.at_least { "≥ " } else { "" }, time(quantile.value_ns))
}

fn drawing(all: &[Rows<'_>], times: &TimeScale, bottom: f64) -> Markup {
    let ticks: Vec<_> =
        times.ticks().into_iter().map(|tick| (times.position(tick), tick_time(tick))).collect();
    html! {
        (foot_grid(&ticks, TOP, bottom))
        text.axis x=((PLOT_LEFT + PLOT_RIGHT) / 2.0) y=(bottom + 42.0) text-anchor="middle" { "since the intended time" }
        @for (index, rows) in all.iter().enumerate() {
            @let top = TOP + GAP / 2.0 + index as f64 * (QUANTILES.len() as f64 * ROW + GAP);
            g.(run_class(rows.run.number)) {
                text.end x="14" y=(top + 1.5 * ROW + 4.0) text-anchor="middle" { (rows.run.number) }
                @for (row, (quantile, first, last)) in rows.pairs.iter().enumerate() {
                    @let y = top + (row as f64 + 0.5) * ROW;
                    @let [from, to] = [first, last].map(|at| round(times.position(at.value_ns)));
                    text.tick x=(PLOT_LEFT - 14.0) y=(y + 4.0) text-anchor="end" { (percent(*quantile)) }
                    line.between x1=(from) x2=(to) y1=(y) y2=(y) {}
                    circle.first cx=(from) cy=(y) r="4.5" {
                        title { "Run " (rows.run.number) ", " (percent(*quantile)) ", first: " (time(first.value_ns)) }
                    }
                    circle.last cx=(to) cy=(y) r="4.5" {
                        title { "Run " (rows.run.number) ", " (percent(*quantile)) ", last: " (shown(last)) }
                    }
                    text.tick x=(RIGHT + 28.0) y=(y + 4.0) text-anchor="end" {
                        @if last.at_least { "≥ " }
                        (time(last.value_ns.saturating_sub(first.value_ns)))
                    }
                }
            }
        }
    }
}
