//! "Did you mean": the closest known name to a mistyped one.

/// The known name closest to `name`, when it is close enough to be a slip of the hand.
///
/// Distance: edits that insert, delete, replace, or swap two neighbours (optimal string alignment).
/// A third of the longer name's letters, at least one, may differ. Ties go to the earlier name.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let distance = distance(&name.to_lowercase(), &candidate.to_lowercase());
        let allowed = (name.chars().count().max(candidate.chars().count()) / 3).max(1);
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The end of an "unknown name" message: a suggestion when there is one, then what is known.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let list = known.join(", ");
    match closest(name, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`? Known: {list}"),
        None => format!("known: {list}"),
    }
}

/// Optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &right) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(left != right)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left == b[j - 1] && a[i - 1] == right {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
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
        let known = ["epochs", "batch", "learning_rate"];
        assert_eq!(closest("epcohs", known), Some("epochs"));
        assert_eq!(closest("Batch", known), Some("batch"));
        assert_eq!(closest("learning-rate", known), Some("learning_rate"));
        assert_eq!(closest("colour", known), None);
        assert!(hint("colour", known).starts_with("known: epochs, batch"));
    }
}
