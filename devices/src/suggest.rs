//! "Did you mean": the closest known name to a mistyped one.

/// The known name closest to `name`, when it is close enough to be a slip of the hand.
///
/// Distance: edits that insert, delete, replace, or swap two neighbours (optimal string alignment), without regard to
/// case. A third of the longer name's letters, at least one, may differ. Ties go to the earlier name.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let allowed = (name.chars().count().max(candidate.chars().count()) / 3).max(1);
        let distance = distance(&name, &candidate.to_lowercase());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // The rows of the table for the letter before the last, and for the last.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, left) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut cost = at(&last, j) + usize::from(left != *right);
            cost = cost.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = j > 0 && b.get(j - 1) == Some(&left) && previous == Some(*right);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(left);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        let cases =
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("epcohs", "epochs", 1), ("abc", "ca", 3)];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_is_corrected_and_a_stranger_is_not() {
        let known = ["jetson-nano", "jetson-orin-nano", "pi5"];
        assert_eq!(closest("jetson-oirn-nano", known), Some("jetson-orin-nano"));
        assert_eq!(closest("Jetson_Nano", known), Some("jetson-nano"));
        assert_eq!(closest("pi6", known), Some("pi5"));
        assert_eq!(closest("toaster", known), None);
    }
}
