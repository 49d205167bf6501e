//! What a search of a run stands on, without the search: the trained supernet's score, the limits and the latency model. Samplers are
//! compared on it.

use std::path::Path;

use masktas_devices::engine::EngineOptions;

use super::latency::{self, Fitted};
use super::{Workshop, networks};
use crate::budget::{Cost, Interval, Limit, SearchBudget};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::run::{Phase, Run, document};
use crate::score::{self, Fusion, Score};
use crate::space::{Genes, VitSpace};

/// The ground of a run's search.
pub struct Ground {
    place: Place,
    score: Rated,
}

/// What exists, what it costs, and what is allowed.
pub(crate) struct Place {
    space: VitSpace,
    limits: Vec<Limit>,
    latency: Option<Fitted>,
    seed: u64,
    identity: String,
}

/// The run's score, placed among its reference subnets.
pub(crate) struct Rated {
    score: Box<dyn Score>,
    fusion: Fusion,
}

impl Ground {
    /// That of the run in `folder`, whose references are scored.
    ///
    /// # Errors
    /// [`Error::NotARun`] for a run that has not come so far; [`Error::Invalid`] for one without a limit; what the score meets on the
    /// images.
    pub fn open(folder: &Path, progress: &mut dyn Progress) -> Result<Self> {
        let mut run = Run::open(folder)?;
        let fusion = run.get_doc::<Fusion>(document::FUSION)?;
        let (true, Some(fusion)) = (run.is_done(Phase::References)?, fusion) else {
            return Err(Error::NotARun {
                path: folder.to_path_buf(),
                problem: "its reference subnets are not scored".into(),
                next: format!("go on with it: masktas search --resume {}", folder.display()),
            });
        };
        let limits = Limit::all(&run.manifest().recipe.budget)?;
        if limits.is_empty() {
            return Err(Error::Invalid {
                thing: format!("run {}", folder.display()),
                problem: "it has 0 limits, and a front is measured within 1 at least".to_owned(),
                next: format!(
                    "begin one with: masktas search --supernet {} --latency TIME",
                    folder.display()
                ),
            });
        }
        let shop = Workshop::open(&mut run, EngineOptions::default(), progress)?;
        let latency = latency::prepare(&mut run, &shop, &limits, progress)?;
        let teacher = networks::teacher(&mut run, &shop, progress)?;
        let (supernet, teacher) = networks::supernet(&mut run, &shop, teacher, progress)?;
        let score = score::by_name(score::Parts {
            supernet,
            teacher: teacher.as_ref(),
            space: shop.space.clone(),
            images: &shop.images,
            recipe: &shop.recipe,
            lanes: shop.lanes.clone(),
        })?;
        let models: Vec<Option<latency::LatencyReport>> = (shop.recipe.latency.engines.iter())
            .map(|engine| run.get_doc(&latency::document(engine)))
            .collect::<Result<_>>()?;
        let models: Vec<Option<String>> =
            models.into_iter().map(|report| report.map(|report| report.model)).collect();
        // The references' places say which weights and which images they were scored on, to the last bit.
        let identity = format!("{}{limits:?}{models:?}{fusion:?}", run.manifest().space_hash);
        let place = Place { space: shop.space, limits, latency, seed: shop.recipe.seed, identity };
        Ok(Self { place, score: Rated { score, fusion } })
    }

    /// Both at once.
    pub(crate) fn parts(&mut self) -> (&Place, &mut Rated) {
        (&self.place, &mut self.score)
    }

    /// The limits, as the command line writes them.
    pub fn limits(&self) -> &[Limit] {
        &self.place.limits
    }

    /// The space.
    pub fn space(&self) -> &VitSpace {
        &self.place.space
    }
}

impl Place {
    pub(crate) fn space(&self) -> &VitSpace {
        &self.space
    }

    /// Text that is the same for the same weights, images, limits and latency models only.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Predicted latency, where one is limited.
    pub(crate) fn cost(&self) -> Option<Box<Cost<'_>>> {
        self.latency.as_ref().map(|model| model.cost(&self.space))
    }

    /// The limits.
    ///
    /// # Errors
    /// Those of [`SearchBudget::new`].
    pub(crate) fn budget<'a>(&'a self, cost: Option<&'a Cost<'a>>) -> Result<SearchBudget<'a>> {
        SearchBudget::new(&self.space, self.limits.clone(), cost)
    }

    /// The least cost in the space, and the most that the first limit allows, in that limit's unit.
    ///
    /// # Errors
    /// Those of [`SearchBudget::intervals`].
    pub(crate) fn range(&self, budget: &SearchBudget<'_>) -> Result<(f64, f64)> {
        let intervals: Vec<Interval> = budget.intervals(self.seed)?;
        // The first is of the cost that fronts are drawn over.
        let axis = intervals.first().ok_or_else(|| Error::Backend("the space has no cost".into()))?;
        let limit = self.limits.iter().find(|limit| limit.kind == axis.kind);
        Ok((axis.low, limit.map_or(axis.high, |limit| limit.most)))
    }
}

impl Rated {
    /// The fused score, in (0, 1).
    ///
    /// # Errors
    /// What the score meets.
    pub(crate) fn rate(&mut self, genes: &Genes) -> Result<f64> {
        let rated = self.score.rate(std::slice::from_ref(genes))?;
        let one = rated.first();
        let one = one.ok_or_else(|| Error::Backend("the score gave nothing for an architecture".into()))?;
        self.fusion.fuse(one)
    }
}
