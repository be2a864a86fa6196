//! A sweep's results as a page of text: what came of it, its best points, the best by each axis, and the slope.

use std::fmt::Write as _;

use slalom_common::answer::TrialRow;
use slalom_common::filter::Name;
use slalom_common::id::SweepName;
use slalom_coordinator::aggregate::Tally;
use slalom_coordinator::aggregate::marginal::{Lowest, Slope, best_by, slope};
use slalom_coordinator::aggregate::summary::{Point, points, ranked};

use super::number;

/// Points in the table.
const POINTS_SHOWN: usize = 10;
/// Values on one line of the best by an axis.
const VALUES_A_LINE: usize = 8;
/// Rows of the slope.
const ROWS_SHOWN: usize = 20;
/// Columns of the slope.
const CELLS_SHOWN: usize = 12;
/// From the lowest perplexity to the highest.
const BARS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
/// As `BARS`, two a cell.
const SHADES: [&str; 4] = ["░░", "▒▒", "▓▓", "██"];

/// A sweep and what its trials came to.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Results {
    /// Its name.
    pub(crate) sweep: SweepName,
    /// What its submitter called the corpus.
    pub(crate) corpus: String,
    /// Trials that do not exist.
    pub(crate) excluded: u64,
    /// The others, in the order of the files.
    pub(crate) trials: Vec<TrialRow>,
}

/// How a sweep was run, for whoever watched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Watched {
    /// From start to end.
    pub(crate) seconds: f64,
    /// Slots that were there.
    pub(crate) slots: u32,
    /// Part of the time that they had a run, 0 to 1.
    pub(crate) busy: f64,
}

impl Results {
    /// What became of the trials.
    pub(crate) fn tally(&self) -> Tally {
        Tally::of(&self.trials)
    }

    /// The page.
    pub(crate) fn page(&self, watched: Option<Watched>) -> String {
        let points = points(&self.trials);
        let ranked = ranked(&points);
        let mut page = self.headline(watched);
        if ranked.is_empty() {
            return page;
        }
        page.push('\n');
        page.push_str(&table(&points, &ranked));
        page.push_str(&best_lines(&points, &ranked));
        let slope = slope(&points, &ranked);
        if slope.nodes.len() > 1 && slope.unrollings.len() > 1 {
            page.push('\n');
            page.push_str(&heat_map(&slope));
        }
        page
    }

    fn headline(&self, watched: Option<Watched>) -> String {
        let tally = self.tally();
        let mut line = format!(
            " {}: {} done, {} excluded, {} diverged, {} failed",
            self.sweep,
            number::counted(tally.done, "trial"),
            number::count_or_none(self.excluded),
            number::count_or_none(tally.diverged),
            number::count_or_none(tally.failed),
        );
        if tally.missing > 0 {
            line += &format!(", {} missing", number::count(tally.missing));
        }
        if let Some(Watched { seconds, slots, busy }) = watched {
            let (seconds, slots) = (number::seconds(seconds), number::counted(slots.into(), "slot"));
            line += &format!(" in {seconds} ({slots}, {:.0}% busy)", 100.0 * busy);
        }
        line + "\n"
    }
}

fn table(points: &[Point], ranked: &[Point]) -> String {
    let shown = &ranked[..ranked.len().min(POINTS_SHOWN)];
    let seeds_max = points.iter().map(|point| point.seeds).max().unwrap_or(0);
    let of_axes = |point: &Point| {
        let Point { shape, epochs, .. } = *point;
        [shape.nodes.into(), shape.batch_size.into(), shape.unrollings.into(), epochs]
            .map(|value: u64| value.to_string())
    };
    let headings = ["nodes", "batch", "unroll", "epochs"];
    let widths: Vec<usize> = (0..headings.len())
        .map(|axis| {
            shown.iter().map(|point| of_axes(point)[axis].len()).max().unwrap_or(0).max(headings[axis].len())
        })
        .collect();
    let means: Vec<String> = shown
        .iter()
        .map(|point| point.perplexity.map_or_else(String::new, |spread| number::perplexity(spread.mean)))
        .collect();
    let mean_width = means.iter().map(String::len).max().unwrap_or(0);

    let aligned = |cells: &[String]| -> String {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    let over = match seeds_max {
        1 => "perplexity of one seed".to_owned(),
        seeds => format!("perplexity over {} seeds", number::count(seeds)),
    };
    let mut table = format!("   {}   {over}\n", aligned(&headings.map(str::to_owned)));
    for (point, mean) in shown.iter().zip(&means) {
        let mut line = format!("   {}   {mean:>mean_width$}", aligned(&of_axes(point)));
        if let Some(deviation) = point.perplexity.and_then(|spread| spread.deviation) {
            line += &format!("  ± {}", number::deviation(deviation));
        }
        if point.seeds_done < seeds_max {
            line += &format!("   {} of {} seeds", point.seeds_done, point.seeds);
        }
        table += line.trim_end();
        table.push('\n');
    }
    if ranked.len() > shown.len() {
        let all = number::count(ranked.len() as u64);
        table += &format!("   the best {} of {all} points\n", shown.len());
    }
    if shown.iter().any(|point| point.seeds_done > 1) {
        table += "   ± is the standard deviation over seeds, which vary initial weights only\n";
    }
    table
}

/// A line for each axis with more than one value.
fn best_lines(points: &[Point], ranked: &[Point]) -> String {
    let axes = [Name::Nodes, Name::BatchSize, Name::Unrollings, Name::Epochs];
    let lines: Vec<(Name, Vec<[String; 3]>)> = axes
        .into_iter()
        .map(|name| (name, best_by(name, points, ranked)))
        .filter(|(_, best)| best.len() > 1)
        .map(|(name, best)| (name, cells_of(&best)))
        .collect();
    let label_width = lines.iter().map(|(name, _)| name.word().len()).max().unwrap_or(0);
    let width = |place: usize, part: usize| {
        let cells = lines.iter().flat_map(|(_, cells)| cells.iter().skip(place).step_by(VALUES_A_LINE));
        cells.map(|cell| cell[part].len()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for (name, cells) in &lines {
        for (index, row) in cells.chunks(VALUES_A_LINE).enumerate() {
            let label = if index == 0 {
                format!("best by {name:<label_width$}")
            } else {
                " ".repeat(8 + label_width)
            };
            let cells = row.iter().enumerate().map(|(place, [value, perplexity, bar])| {
                let (values, perplexities) = (width(place, 0), width(place, 1));
                format!("{value:>values$} {perplexity:>perplexities$} {bar}")
            });
            // Infallible for a String.
            let _ = writeln!(text, " {label}  {}", cells.collect::<Vec<_>>().join("   "));
        }
    }
    text
}

/// Value, perplexity and bar of each.
fn cells_of(best: &[Lowest]) -> Vec<[String; 3]> {
    let range = Range::of(best.iter().filter_map(|lowest| lowest.perplexity));
    let cell = |&Lowest { value, perplexity }: &Lowest| match perplexity {
        Some(lowest) => {
            let bar = BARS[range.level(lowest, BARS.len())];
            [value.to_string(), number::perplexity(lowest), bar.to_string()]
        }
        None => [value.to_string(), "-".to_owned(), "-".to_owned()],
    };
    best.iter().map(cell).collect()
}

fn heat_map(slope: &Slope) -> String {
    let rows = evenly(slope.nodes.len(), ROWS_SHOWN);
    let columns = evenly(slope.unrollings.len(), CELLS_SHOWN);
    let range = Range::of(slope.cells.iter().flatten().filter_map(|cell| *cell));
    let cell = |row: usize, column: usize| {
        slope.cells[row][column].map_or_else(|| "-".to_owned(), number::perplexity_short)
    };
    let label_width = rows.iter().map(|&row| slope.nodes[row].to_string().len()).max().unwrap_or(0).max(6);
    let widths: Vec<usize> = columns
        .iter()
        .map(|&column| {
            let heading = slope.unrollings[column].to_string().len();
            rows.iter().map(|&row| cell(row, column).len()).max().unwrap_or(0).max(heading).max(4)
        })
        .collect();
    let line = |label: &str, cells: Vec<String>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}"));
        format!(" {label:>label_width$}{}", cells.collect::<String>())
    };

    let mut text = " perplexity by nodes (down) and unrollings (across), best of the rest\n".to_owned();
    let headings = columns.iter().map(|&column| slope.unrollings[column].to_string());
    text += &line("", headings.collect());
    text.push('\n');
    for &row in &rows {
        let cells = columns.iter().map(|&column| cell(row, column)).collect();
        let shades = columns.iter().map(|&column| match slope.cells[row][column] {
            Some(lowest) => SHADES[range.level(lowest, SHADES.len())],
            None => "··",
        });
        // Infallible for a String.
        let _ =
            writeln!(text, "{}   {}", line(&slope.nodes[row].to_string(), cells), shades.collect::<String>());
    }
    for (shown, all, name) in [
        (rows.len(), slope.nodes.len(), Name::Nodes),
        (columns.len(), slope.unrollings.len(), Name::Unrollings),
    ] {
        if shown < all {
            text += &format!("   {shown} of {} {name} shown\n", number::count(all as u64));
        }
    }
    text
}

/// At most `most` of the indices below `len`, evenly apart, the first and the last among them.
fn evenly(len: usize, most: usize) -> Vec<usize> {
    if len <= most { (0..len).collect() } else { (0..most).map(|i| i * (len - 1) / (most - 1)).collect() }
}

/// From the lowest to the highest of some perplexities.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        values.fold(Self { low: f64::INFINITY, high: 0.0 }, |Self { low, high }, value| Self {
            low: low.min(value),
            high: high.max(value),
        })
    }

    /// Which of `levels`, by ratio: perplexities of 5 and 10 are as far apart as 10 and 20.
    fn level(self, value: f64, levels: usize) -> usize {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        // Of a single value, 0 / 0: the lowest.
        if part.is_finite() { ((part * levels as f64) as usize).min(levels - 1) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use slalom_common::answer::RunState;
    use slalom_common::grid::Coordinates;
    use slalom_common::id::{RunNumber, Step};
    use slalom_common::outcome::Perplexity;
    use slalom_common::run::Shape;

    use super::*;

    fn trial(point: [u32; 4], seed: u64, perplexity: Option<f64>) -> TrialRow {
        let [nodes, batch_size, unrollings, epochs] = point;
        TrialRow {
            run: RunNumber::new(0),
            at: Coordinates { shape: Shape { nodes, batch_size, unrollings }, seed },
            epochs: epochs.into(),
            steps: Step::new(epochs.into()),
            state: if perplexity.is_some() { RunState::Done } else { RunState::Diverged },
            perplexity: perplexity.and_then(Perplexity::new),
        }
    }

    fn results(trials: Vec<TrialRow>) -> Results {
        let sweep = "ski-slope".parse().expect("a name");
        Results { sweep, corpus: "synthetic".to_owned(), excluded: 18, trials }
    }

    #[test]
    fn the_page_shows_the_best_points_the_best_by_each_axis_and_the_slope() {
        let mut trials = Vec::new();
        for (nodes, unrollings, mean) in [(8, 1, 12.4), (8, 16, 9.8), (64, 1, 8.9), (64, 16, 4.87)] {
            for (seed, off) in [(0, -0.06), (1, 0.0), (2, 0.06)] {
                trials.push(trial([nodes, 64, unrollings, 2000], seed, Some(mean + off)));
            }
        }
        let watched = Watched { seconds: 31.2, slots: 2, busy: 0.984 };
        let page = results(trials).page(Some(watched));
        let expected =
            " ski-slope: 12 trials done, 18 excluded, none diverged, none failed in 31 s (2 slots, 98% busy)

   nodes  batch  unroll  epochs   perplexity over 3 seeds
      64     64      16    2000    4.87  ± 0.06
      64     64       1    2000    8.90  ± 0.06
       8     64      16    2000    9.80  ± 0.06
       8     64       1    2000   12.40  ± 0.06
   ± is the standard deviation over seeds, which vary initial weights only
 best by nodes       8 9.80 ▇   64 4.87 ▁
 best by unrollings  1 8.90 ▇   16 4.87 ▁

 perplexity by nodes (down) and unrollings (across), best of the rest
            1    16
      8  12.4   9.8   ██▓▓
     64   8.9   4.9   ▓▓░░
";
        assert_eq!(page, expected);
    }

    #[test]
    fn large_numbers_and_holes_keep_the_columns_straight() {
        let trials = vec![
            trial([16_384, 65_536, 1, 1_000_000], 0, Some(3.0)),
            trial([8, 1, 100, 5], 0, Some(1e10)),
            trial([8, 1, 1, 5], 0, None),
        ];
        let page = results(trials).page(None);
        let expected = " ski-slope: 2 trials done, 18 excluded, 1 diverged, none failed

   nodes  batch  unroll   epochs   perplexity of one seed
   16384  65536       1  1000000     3.00
       8      1     100        5   1.0e10
 best by nodes       8 1.0e10 ▇     16384   3.00 ▁
 best by batch_size  1 1.0e10 ▇     65536   3.00 ▁
 best by unrollings  1   3.00 ▁       100 1.0e10 ▇
 best by epochs      5 1.0e10 ▇   1000000   3.00 ▁

 perplexity by nodes (down) and unrollings (across), best of the rest
            1   100
      8     -  1e10   ··██
  16384   3.0     -   ░░··
";
        assert_eq!(page, expected);
    }

    #[test]
    fn nothing_done_is_said_in_one_line() {
        let mut waiting = trial([8, 16, 1, 10], 0, None);
        waiting.state = RunState::Waiting;
        let page = results(vec![waiting]).page(None);
        assert_eq!(page, " ski-slope: 0 trials done, 18 excluded, none diverged, none failed, 1 missing\n");
    }

    #[test]
    fn a_wide_slope_is_shown_in_part_with_its_ends() {
        assert_eq!(evenly(3, 12), [0, 1, 2]);
        let some = evenly(100, 12);
        assert_eq!((some.len(), some[0], some[11]), (12, 0, 99));
    }
}
