//! What a run holds that was given up early: whether it is worth keeping.

use super::reuse::PROFILE_FROM;
use crate::error::Result;
use crate::run::{Phase, Run, Table};

/// What would be lost with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing that took time.
    Nothing,
    /// A finished profile that it measured itself, and nothing else: another search can take it over.
    Profile,
    /// Training or measuring that can go on.
    Work,
}

impl Left {
    /// Of a run and of those of its further devices.
    ///
    /// # Errors
    /// When the run cannot be read.
    pub fn of(run: &Run) -> Result<Self> {
        let mut left = Self::of_one(run)?;
        for one in &run.manifest().further {
            let folder = run.target(one.target());
            if !folder.join("run.toml").is_file() {
                continue;
            }
            // A further device's profile lies deeper, and the run is what holds it.
            if Self::of_one(&Run::open_read_only(&folder)?)? != Self::Nothing {
                left = Self::Work;
            }
        }
        Ok(left)
    }

    fn of_one(run: &Run) -> Result<Self> {
        // Training leaves its curves from the first step on.
        if !run.curve_names()?.is_empty() || run.is_done(Phase::Teacher)? {
            return Ok(Self::Work);
        }
        if run.get_doc::<std::path::PathBuf>(PROFILE_FROM)?.is_some() {
            return Ok(Self::Nothing);
        }
        if run.is_done(Phase::Profile)? {
            return Ok(Self::Profile);
        }
        let timed = !run.rows::<serde_json::Value>(Table::Profile)?.is_empty();
        Ok(if timed { Self::Work } else { Self::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use crate::run::Manifest;
    use crate::space::VitSpace;

    #[test]
    fn a_run_is_worth_what_was_measured_or_trained_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe::load(None, None, &[]).unwrap();
        let space = VitSpace::load(&recipe.space.name).unwrap().definition().clone();
        let mut run = Run::create(&folder.path().join("run"), Manifest::new(recipe, space, vec![])).unwrap();
        assert_eq!(Left::of(&run).unwrap(), Left::Nothing);
        run.put_row(Table::Profile, "ort/a", &serde_json::json!(1)).unwrap();
        assert_eq!(Left::of(&run).unwrap(), Left::Work, "timing can go on");
        run.mark(Phase::Profile).unwrap();
        assert_eq!(Left::of(&run).unwrap(), Left::Profile);
        run.put_doc(PROFILE_FROM, &folder.path().to_path_buf()).unwrap();
        assert_eq!(Left::of(&run).unwrap(), Left::Nothing, "it was measured elsewhere");
        run.mark(Phase::Teacher).unwrap();
        assert_eq!(Left::of(&run).unwrap(), Left::Work);
    }
}
