//! The best of the rest: along one axis, and over nodes and unrollings, the slope.

use std::collections::{BTreeMap, BTreeSet};

use slalom_common::filter::Name;

use super::summary::Point;

/// A value of an axis and the lowest mean among the points that have it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lowest {
    /// The value.
    pub value: u64,
    /// Absent if no point there may be compared.
    pub perplexity: Option<f64>,
}

/// The lowest mean at each combination of nodes (down) and unrollings (across).
#[derive(Clone, PartialEq, Debug)]
pub struct Slope {
    /// Ascending.
    pub nodes: Vec<u64>,
    /// Ascending.
    pub unrollings: Vec<u64>,
    /// A row for each of `nodes`, in it a cell for each of `unrollings`; absent where nothing may be compared.
    pub cells: Vec<Vec<Option<f64>>>,
}

/// The best by each value that `points` have on the axis `name`, values ascending; of `ranked`, the points that may be
/// compared (see [`super::summary::ranked`]).
///
/// # Panics
/// For the axis of seeds: a point is a mean over them.
pub fn best_by(name: Name, points: &[Point], ranked: &[Point]) -> Vec<Lowest> {
    let mut best: BTreeMap<u64, Option<f64>> =
        points.iter().map(|point| (coordinate(point, name), None)).collect();
    for point in ranked {
        lower(best.entry(coordinate(point, name)).or_default(), point);
    }
    best.into_iter().map(|(value, perplexity)| Lowest { value, perplexity }).collect()
}

/// The slope of `points`, of which `ranked` may be compared.
pub fn slope(points: &[Point], ranked: &[Point]) -> Slope {
    let axis = |name| -> Vec<u64> {
        let values: BTreeSet<u64> = points.iter().map(|point| coordinate(point, name)).collect();
        values.into_iter().collect()
    };
    let (nodes, unrollings) = (axis(Name::Nodes), axis(Name::Unrollings));
    let mut cells = vec![vec![None; unrollings.len()]; nodes.len()];
    for point in ranked {
        let row = nodes.binary_search(&coordinate(point, Name::Nodes));
        let column = unrollings.binary_search(&coordinate(point, Name::Unrollings));
        if let (Ok(row), Ok(column)) = (row, column) {
            lower(&mut cells[row][column], point);
        }
    }
    Slope { nodes, unrollings, cells }
}

/// Lets `point` count in a cell.
fn lower(cell: &mut Option<f64>, point: &Point) {
    let Some(mean) = point.perplexity.map(|perplexity| perplexity.mean) else { return };
    *cell = Some(cell.map_or(mean, |lowest| lowest.min(mean)));
}

fn coordinate(point: &Point, name: Name) -> u64 {
    match name {
        Name::Nodes => point.shape.nodes.into(),
        Name::BatchSize => point.shape.batch_size.into(),
        Name::Unrollings => point.shape.unrollings.into(),
        Name::Epochs => point.epochs,
        Name::Seed => panic!("a point has no one seed"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::trial;
    use super::super::summary::{points, ranked};
    use super::*;

    #[test]
    fn the_best_by_an_axis_is_the_lowest_over_all_others_and_absent_where_all_diverged() {
        let trials = [
            trial([8, 16, 1, 10], 0, Some(9.0)),
            trial([8, 16, 5, 10], 0, Some(7.0)),
            trial([8, 64, 5, 20], 0, Some(6.5)),
            trial([16, 16, 1, 10], 0, Some(8.0)),
            trial([32, 16, 5, 10], 0, None),
        ];
        let points = points(&trials);
        let ranked = ranked(&points);
        let by = |name| -> Vec<(u64, Option<f64>)> {
            best_by(name, &points, &ranked).iter().map(|best| (best.value, best.perplexity)).collect()
        };
        assert_eq!(by(Name::Nodes), [(8, Some(6.5)), (16, Some(8.0)), (32, None)]);
        assert_eq!(by(Name::Unrollings), [(1, Some(8.0)), (5, Some(6.5))]);
        assert_eq!(by(Name::BatchSize), [(16, Some(7.0)), (64, Some(6.5))]);
        assert_eq!(by(Name::Epochs), [(10, Some(7.0)), (20, Some(6.5))]);

        let slope = slope(&points, &ranked);
        assert_eq!((slope.nodes, slope.unrollings), (vec![8, 16, 32], vec![1, 5]));
        assert_eq!(slope.cells, [[Some(9.0), Some(6.5)], [Some(8.0), None], [None, None]]);
    }
}
