//! Suggestions for names that were not found.

pub(crate) use masktas_devices::suggest::closest;

/// The end of an "unknown name" message: a suggestion when there is one, then what is known.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let list = known.join(", ");
    match closest(name, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`? Known: {list}"),
        None => format!("known: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_suggests_or_lists() {
        let known = ["epochs", "batch", "learning_rate"];
        assert!(hint("epcohs", known).starts_with("did you mean `epochs`?"));
        assert!(hint("colour", known).starts_with("known: epochs, batch"));
    }
}
