//! How far a sweep is, on standard error: a bar for people, a line now and then where nobody looks.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use slalom_common::answer::{RunState, SweepStatus};

use super::{note, number};

/// Between two lines where nobody looks.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The bar's resolution.
const PARTS: u64 = 10_000;

/// The progress of one sweep.
pub(crate) struct Bar {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
}

impl Bar {
    /// For the sweep of this name.
    pub(crate) fn new(sweep: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { shown: Shown::Lines { last: None } };
        }
        let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
        bar.set_style(style("  {prefix}   {percent:>2}%  {wide_bar}  {msg}"));
        bar.set_prefix(sweep.to_owned());
        Self { shown: Shown::Bar(bar) }
    }

    /// Shows how it stands; lines come at an interval, and once when all is over.
    pub(crate) fn update(&mut self, status: &SweepStatus) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position((part_done(status) * PARTS as f64) as u64);
                bar.set_message(words(status));
            }
            Shown::Lines { last } => {
                if status.state.is_over() || last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    note(&format!("{} {:.0}% {}", status.sweep, 100.0 * part_done(status), words(status)));
                }
            }
        }
    }

    /// Says something without tearing the bar.
    pub(crate) fn note(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| note(line)),
            Shown::Lines { .. } => note(line),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A bar's look.
///
/// # Panics
/// If the template, which is ours, is none.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants").progress_chars("━━─")
}

fn part_done(status: &SweepStatus) -> f64 {
    if status.work_s > 0.0 { (status.work_done_s / status.work_s).clamp(0.0, 1.0) } else { 1.0 }
}

/// `84/138 runs   best 4.87 (64/64/16@2000)   12 s left (10 .. 15 s)`.
fn words(status: &SweepStatus) -> String {
    let over = RunState::ALL.into_iter().filter(|state| state.is_over()).map(|state| status.counts.of(state));
    let mut words = format!("{}/{} runs", number::count(over.sum()), number::count(status.counts.total()));
    let failed = status.counts.of(RunState::Failed);
    if failed > 0 {
        words += &format!("   {} failed", number::count(failed));
    }
    if let Some(best) = status.best {
        words += &format!(
            "   best {} ({})",
            number::perplexity(best.mean),
            number::point(best.shape, best.epochs)
        );
    }
    match status.eta {
        Some(eta) if !status.state.is_over() => {
            let [low, high] = [eta.low, eta.high].map(number::seconds);
            // `10 .. 15 s`: one unit is said once.
            let unit = |text: &str| text.rsplit(' ').next().map(str::to_owned);
            let one_each = [&low, &high].iter().all(|text| text.matches(' ').count() == 1);
            let low = match (unit(&low), unit(&high)) {
                (Some(one), Some(other)) if one == other && one_each => {
                    low.trim_end_matches(&one).trim_end().to_owned()
                }
                _ => low,
            };
            words += &format!("   {} left ({low} .. {high})", number::seconds(eta.seconds));
        }
        Some(_) | None => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use slalom_common::answer::{Best, Counts, Eta, SweepState};
    use slalom_common::run::Shape;

    use super::*;

    #[test]
    fn the_line_says_runs_best_and_time_left() {
        let mut counts = Counts::default();
        counts.add(RunState::Done, 80);
        counts.add(RunState::Diverged, 4);
        counts.add(RunState::Running, 2);
        counts.add(RunState::Waiting, 52);
        let mut status = SweepStatus {
            sweep: "ski-slope".parse().expect("a name"),
            state: SweepState::Active,
            counts,
            trials: 414,
            excluded: 18,
            trials_done: 240,
            trials_diverged: 4,
            workers: 1,
            slots: 2,
            paused_workers: 0,
            best: Some(Best {
                shape: Shape { nodes: 64, batch_size: 64, unrollings: 16 },
                epochs: 2000,
                mean: 4.871,
            }),
            work_done_s: 61.0,
            work_s: 100.0,
            eta: Some(Eta { seconds: 12.0, low: 10.2, high: 15.0 }),
            numbers: 144,
            corpus_written: "synthetic".to_owned(),
        };
        assert_eq!(words(&status), "84/138 runs   best 4.87 (64/64/16@2000)   12 s left (10 .. 15 s)");
        status.eta = Some(Eta { seconds: 100.0, low: 85.0, high: 200.0 });
        status.best = None;
        assert_eq!(words(&status), "84/138 runs   100 s left (85 s .. 3 min 20 s)");
        status.state = SweepState::Cancelled;
        assert_eq!(words(&status), "84/138 runs");
    }
}
