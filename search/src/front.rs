//! Pareto fronts of score (up) against cost (down): ranks, crowding, hypervolume, and the pick a
//! person asks for.
//!
//! Sources: non-dominated sorting and crowding distance from NSGA-II (Deb et al., 2002); the sweep
//! is the two-objective case. A point that is not a number counts as the worst.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a front compares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Higher is better.
    pub score: f64,
    /// Lower is better.
    pub cost: f64,
}

impl Point {
    /// Not a number becomes the worst, so that every two points can be compared.
    fn sane(self) -> Self {
        let score = if self.score.is_nan() { f64::NEG_INFINITY } else { self.score };
        let cost = if self.cost.is_nan() { f64::INFINITY } else { self.cost };
        Self { score, cost }
    }

    /// Whether it is no worse in both and better in one.
    pub fn dominates(self, other: Self) -> bool {
        let (a, b) = (self.sane(), other.sane());
        a.score >= b.score && a.cost <= b.cost && (a.score > b.score || a.cost < b.cost)
    }
}

/// Indices by cost up, then score down, then position.
fn order(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| {
        let (p, q) = (points[a].sane(), points[b].sane());
        let by_cost = p.cost.partial_cmp(&q.cost).unwrap_or(Ordering::Equal);
        by_cost.then(q.score.partial_cmp(&p.score).unwrap_or(Ordering::Equal)).then(a.cmp(&b))
    });
    order
}

/// The rank of every point: 0 on the front, 1 on the front of the rest, and so on. O(n log n).
pub fn ranks(points: &[Point]) -> Vec<usize> {
    let mut ranks = vec![0; points.len()];
    // The last point that joined each rank: in this order it has the rank's highest score.
    let mut last: Vec<Point> = Vec::new();
    for at in order(points) {
        let point = points[at].sane();
        let rank = last.partition_point(|front| front.dominates(point));
        match last.get_mut(rank) {
            Some(front) => *front = point,
            None => last.push(point),
        }
        ranks[at] = rank;
    }
    ranks
}

/// Indices of the points that none dominates, by cost up. Equal points all stay.
pub fn front(points: &[Point]) -> Vec<usize> {
    let ranks = ranks(points);
    order(points).into_iter().filter(|at| ranks[*at] == 0).collect()
}

/// Crowding distance of every point among those of its own rank: the normalised gap between its two
/// neighbours, infinite at the ends. Larger is lonelier.
pub fn crowding(points: &[Point], ranks: &[usize]) -> Vec<f64> {
    let mut crowding = vec![0.0; points.len()];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in order(points) {
        let rank = ranks.get(at).copied().unwrap_or(0);
        if groups.len() <= rank {
            groups.resize(rank + 1, Vec::new());
        }
        groups[rank].push(at);
    }
    for group in &groups {
        let (Some(&first), Some(&last)) = (group.first(), group.last()) else { continue };
        // Within a rank, cost and score rise together: one order serves both.
        let span = |read: fn(&Point) -> f64| {
            let span = read(&points[last]) - read(&points[first]);
            if span.is_finite() && span > 0.0 { span } else { 1.0 }
        };
        let (scores, costs) = (span(|point| point.score), span(|point| point.cost));
        for window in group.windows(3) {
            let (left, right) = (points[window[0]].sane(), points[window[2]].sane());
            let gap = (right.score - left.score) / scores + (right.cost - left.cost) / costs;
            crowding[window[1]] = if gap.is_nan() { 0.0 } else { gap };
        }
        crowding[first] = f64::INFINITY;
        crowding[last] = f64::INFINITY;
    }
    crowding
}

/// Indices from best to worst: rank, then crowding, then position. The order in which NSGA-II keeps
/// members.
pub fn selection(points: &[Point]) -> Vec<usize> {
    let ranks = ranks(points);
    let crowding = crowding(points, &ranks);
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| {
        let lonelier = crowding[b].partial_cmp(&crowding[a]).unwrap_or(Ordering::Equal);
        ranks[a].cmp(&ranks[b]).then(lonelier).then(a.cmp(&b))
    });
    order
}

/// The area dominated by the points and bounded by `reference` (a score below and a cost above
/// which nothing counts).
pub fn hypervolume(points: &[Point], reference: Point) -> f64 {
    let mut area = 0.0;
    let mut best = reference.score;
    for at in front(points) {
        let point = points[at].sane();
        if point.cost < reference.cost && point.score > best {
            area += (point.score - best) * (reference.cost - point.cost);
            best = point.score;
        }
    }
    area
}

/// Which member of a front to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The bend: farthest above the line from the cheapest to the best, both axes scaled to 0..1.
    Knee,
    /// The highest score.
    Best,
    /// The lowest cost.
    Fastest,
    /// The member with this id.
    Id(String),
}

impl Pick {
    /// Reads `knee`, `best`, `fastest`, or else an id.
    pub fn parse(text: &str) -> Self {
        match text {
            "knee" => Self::Knee,
            "best" => Self::Best,
            "fastest" => Self::Fastest,
            id => Self::Id(id.to_owned()),
        }
    }
}

/// Position of the bend among the members of a front (`front`'s order or any other); `None` when empty.
///
/// With fewer than three members, or all on one line, it is the best score at the lowest cost.
pub fn knee(members: &[Point]) -> Option<usize> {
    let on = front(members);
    let (first, last) = (members[*on.first()?].sane(), members[*on.last()?].sane());
    let (scores, costs) = (last.score - first.score, last.cost - first.cost);
    let mut best = (f64::NEG_INFINITY, *on.last()?);
    if scores > 0.0 && costs > 0.0 && scores.is_finite() && costs.is_finite() {
        for &at in &on {
            let point = members[at].sane();
            let above = (point.score - first.score) / scores - (point.cost - first.cost) / costs;
            // The first of equals is the cheapest. Rounding must not make a bend of a line.
            if above > best.0.max(1e-9) {
                best = (above, at);
            }
        }
    }
    Some(best.1)
}

/// The position a person picked among members with these ids.
///
/// # Errors
/// When there are no members, or none has the id (with a suggestion).
pub fn pick(members: &[(String, Point)], pick: &Pick) -> Result<usize> {
    let points: Vec<Point> = members.iter().map(|(_, point)| *point).collect();
    let on = front(&points);
    let (Some(&fastest), Some(&best)) = (on.first(), on.last()) else {
        return Err(Error::Unusable {
            thing: "front".to_owned(),
            problem: "it has 0 members".to_owned(),
            next: "let the search score some architectures first".to_owned(),
        });
    };
    match pick {
        Pick::Knee => Ok(knee(&points).unwrap_or(best)),
        Pick::Best => Ok(best),
        Pick::Fastest => Ok(fastest),
        Pick::Id(id) => {
            let found = members.iter().position(|(known, _)| known == id);
            found.ok_or_else(|| {
                let words = ["knee", "best", "fastest"].into_iter();
                let ids = on.iter().map(|at| members[*at].0.as_str());
                let hint = crate::suggest::hint(id, words.chain(ids));
                Error::UnknownName { what: "member of the front", name: id.clone(), hint }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(values: &[(f64, f64)]) -> Vec<Point> {
        values.iter().map(|&(score, cost)| Point { score, cost }).collect()
    }

    /// Peels front after front by the definition.
    fn ranks_by_hand(points: &[Point]) -> Vec<usize> {
        let mut ranks = vec![usize::MAX; points.len()];
        for rank in 0..points.len() {
            let left: Vec<usize> = (0..points.len()).filter(|at| ranks[*at] == usize::MAX).collect();
            for &at in &left {
                if !left.iter().any(|other| points[*other].dominates(points[at])) {
                    ranks[at] = rank;
                }
            }
        }
        ranks
    }

    fn coarse() -> impl Strategy<Value = Vec<Point>> {
        // A coarse grid, so that ties and equal points happen all the time.
        let axis = || prop_oneof![12 => (0i32..8).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
        prop::collection::vec((axis(), axis()), 0..40).prop_map(|all| points(&all))
    }

    proptest! {
        #[test]
        fn ranks_match_the_definition(points in coarse()) {
            prop_assert_eq!(ranks(&points), ranks_by_hand(&points));
        }

        #[test]
        fn the_front_is_what_nothing_dominates(points in coarse()) {
            let mut expected: Vec<usize> = (0..points.len())
                .filter(|at| !points.iter().any(|other| other.dominates(points[*at])))
                .collect();
            let mut found = front(&points);
            prop_assert!(found.windows(2).all(|pair| points[pair[0]].sane().cost <= points[pair[1]].sane().cost));
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn hypervolume_counts_dominated_cells(cells in prop::collection::vec((0i32..8, 0i32..8), 0..20)) {
            let points: Vec<Point> =
                cells.iter().map(|&(s, c)| Point { score: f64::from(s), cost: f64::from(c) }).collect();
            let mut area = 0;
            for score in 0..8 {
                for cost in 0..7 {
                    // The unit cell with its worst corner at (score, cost + 1).
                    if cells.iter().any(|&(s, c)| s > score && c <= cost) {
                        area += 1;
                    }
                }
            }
            prop_assert_eq!(hypervolume(&points, Point { score: 0.0, cost: 7.0 }), f64::from(area));
        }

        #[test]
        fn selection_never_puts_a_dominated_point_first(points in coarse()) {
            let order = selection(&points);
            for (at, &early) in order.iter().enumerate() {
                for &late in &order[at..] {
                    prop_assert!(!points[late].dominates(points[early]));
                }
            }
        }

        #[test]
        fn the_knee_is_on_the_front(points in coarse()) {
            match knee(&points) {
                None => prop_assert!(points.is_empty()),
                Some(at) => prop_assert!(front(&points).contains(&at)),
            }
        }
    }

    #[test]
    fn crowding_by_hand() {
        let points = points(&[(0.0, 0.0), (1.0, 1.0), (3.0, 2.0), (4.0, 4.0), (0.0, 4.0)]);
        let ranks = ranks(&points);
        assert_eq!(ranks, [0, 0, 0, 0, 1]);
        let crowding = crowding(&points, &ranks);
        assert_eq!(crowding[1], 3.0 / 4.0 + 2.0 / 4.0);
        assert_eq!(crowding[2], 3.0 / 4.0 + 3.0 / 4.0);
        assert!([0, 3, 4].iter().all(|at| crowding[*at] == f64::INFINITY));
        assert_eq!(selection(&points), [0, 3, 2, 1, 4]);
    }

    #[test]
    fn picks() {
        let all = points(&[(0.1, 1.0), (0.8, 2.0), (1.0, 10.0), (0.5, 5.0)]);
        let members: Vec<(String, Point)> =
            all.iter().enumerate().map(|(at, point)| (format!("d{at}"), *point)).collect();
        let at = |text: &str| pick(&members, &Pick::parse(text));
        assert_eq!(at("knee").ok(), Some(1));
        assert_eq!(at("best").ok(), Some(2));
        assert_eq!(at("fastest").ok(), Some(0));
        assert_eq!(at("d3").ok(), Some(3));
        let error = at("kneee").expect_err("unknown").to_string();
        assert!(error.contains("did you mean `knee`"), "{error}");
        assert!(pick(&[], &Pick::Best).is_err());
    }

    #[test]
    fn a_line_has_no_bend_so_the_best_is_taken() {
        assert_eq!(knee(&points(&[(0.0, 0.0), (0.1, 0.1), (0.3, 0.3)])), Some(2));
        assert_eq!(knee(&points(&[(0.3, 1.0)])), Some(0));
        assert_eq!(knee(&points(&[(0.3, 1.0), (0.3, 1.0)])), Some(1));
    }
}
