//! Exact combination of rated parts (the search of DNA, Li et al., CVPR 2020, made exact).
//!
//! A random first generation; then, round by round, every option of every gene gets a rating of its own from all that was rated (ridge
//! regression on the genes), and a cost from what it adds to the cost of the smallest network. For each choice of the structural genes
//! (width and depth), [`combine`] gives the whole front of sums; of all fronts' members, those are proposed that are new and within
//! budget, spread along the front from its best end.
//!
//! DNA rates whole blocks, each by how well it reproduces its teacher's; here ratings come from whole networks, so that any score
//! serves. What that leaves out is how genes act together; and costs that do not add make a front that is not exact, but never a
//! proposal beyond the budget, which is asked of each.

use std::collections::BTreeSet;

use super::npenas::around;
use super::rounds::{Rounds, rated};
use super::{Budget, Sampler, Trial};
use crate::combine::{Choice, Combination, combine, join};
use crate::error::Result;
use crate::predictor::{FEWEST, Predictor as _, Ridge};
use crate::rand::Rng;
use crate::recipe::SamplerChoice;
use crate::space::{Genes, Space};

/// Steps of cost along one front: within a step only the best sum is kept on the way.
const GRAINS: f64 = 500.0;

/// Choices of the structural genes that are combined, at most: the first ones in a space that has more.
const STRUCTURES: usize = 256;

/// Combination of rated parts.
pub struct BlockDp {
    parents: usize,
    batch: usize,
    rounds: Rounds,
}

impl BlockDp {
    /// With a recipe's `population` of random trials to begin with, and its `batch` a round.
    pub fn new(choice: &SamplerChoice) -> Self {
        Self {
            parents: choice.parents.max(1),
            batch: choice.batch.max(1),
            rounds: Rounds::new(choice.population.max(FEWEST), choice.batch),
        }
    }
}

/// The genes of one choice of the structural ones, each with its rated options.
struct Structure {
    /// Values of all genes, the smallest option for those that are combined.
    base: Vec<u16>,
    /// The genes that are combined.
    genes: Vec<usize>,
    front: Vec<Combination>,
}

impl Structure {
    /// The values of a member of the front.
    fn values(&self, member: &Combination) -> Vec<u16> {
        let mut values = self.base.clone();
        for (gene, choice) in self.genes.iter().zip(&member.choices) {
            values[*gene] = *choice as u16;
        }
        values
    }
}

/// Every choice of the structural genes, each as values of all genes with 0 for the others.
fn structures(space: &dyn Space) -> Vec<Vec<u16>> {
    let mut all = vec![vec![0u16; space.genes().len()]];
    for (at, gene) in space.genes().iter().enumerate().filter(|(_, gene)| gene.structural) {
        let with = |values: &Vec<u16>, option: usize| {
            let mut values = values.clone();
            values[at] = option as u16;
            values
        };
        all = all
            .iter()
            .flat_map(|values| (0..gene.options.len()).map(|option| with(values, option)))
            .collect();
        all.truncate(STRUCTURES);
    }
    all
}

/// The front of one choice of the structural genes.
fn front(
    base: Vec<u16>,
    ratings: &[Vec<f64>],
    space: &dyn Space,
    budget: &dyn Budget,
    rng: &mut Rng,
) -> Result<Structure> {
    let active = space.active(&base);
    let smallest = budget.cost(&space.member(base.clone(), rng))?;
    let (mut genes, mut blocks) = (Vec::new(), Vec::new());
    let (mut rated_once, mut reach) = (0.0, 0.0);
    for (at, gene) in space.genes().iter().enumerate() {
        if !active[at] {
            continue;
        }
        if gene.structural {
            rated_once += ratings[at][usize::from(base[at])];
            continue;
        }
        let mut choices = Vec::new();
        for (option, rating) in ratings[at].iter().enumerate() {
            let mut values = base.clone();
            values[at] = option as u16;
            let more = budget.cost(&space.member(values, rng))? - smallest;
            choices.push(Choice { loss: -rating, cost: more });
        }
        // Costs begin at the cheapest option, which need not be the first.
        let least = choices.iter().map(|choice| choice.cost).fold(f64::INFINITY, f64::min);
        choices.iter_mut().for_each(|choice| choice.cost -= least);
        reach += choices.iter().map(|choice| choice.cost).fold(0.0, f64::max);
        genes.push(at);
        blocks.push(choices);
    }
    let mut front = combine(&blocks, smallest, f64::MAX, reach / GRAINS)?;
    front.iter_mut().for_each(|member| member.loss -= rated_once);
    Ok(Structure { base, genes, front })
}

/// Up to `count` members of the joined front that are new and within budget: its best end, and others at equal steps along it.
fn spread(
    structures: &[Structure],
    known: &BTreeSet<&Genes>,
    count: usize,
    space: &dyn Space,
    budget: &dyn Budget,
    rng: &mut Rng,
) -> Result<Vec<Genes>> {
    let fronts = structures.iter().map(|one| one.front.clone()).collect();
    let mut fitting: Vec<Genes> = Vec::new();
    for (from, member) in join(fronts) {
        let genes = space.member(structures[from].values(&member), rng);
        if !known.contains(&genes) && !fitting.contains(&genes) && budget.allows(&genes)? {
            fitting.push(genes);
        }
    }
    // By cost up, so the last one is rated best.
    let last = fitting.len().saturating_sub(1) as f64;
    let steps = count.min(fitting.len());
    let place = |step: usize| (last - last * step as f64 / (steps.max(2) - 1) as f64).round() as usize;
    Ok((0..steps).map(|step| fitting[place(step)].clone()).collect())
}

impl Sampler for BlockDp {
    fn name(&self) -> &'static str {
        "block-dp"
    }

    fn ahead(&self) -> usize {
        self.rounds.ahead()
    }

    fn ask(&mut self, space: &dyn Space, budget: &dyn Budget, rng: &mut Rng) -> Result<Option<Genes>> {
        let Self { parents, batch, rounds } = self;
        rounds.ask(space, budget, rng, &mut |trials, rng| {
            let (rated, best) = rated(trials, *parents);
            let mut ridge = Ridge::default();
            ridge.fit(space, &rated)?;
            let ratings = ridge.ratings(space)?;
            let structures: Vec<Structure> = structures(space)
                .into_iter()
                .map(|base| front(base, &ratings, space, budget, rng))
                .collect::<Result<_>>()?;
            let known: BTreeSet<&Genes> = rated.iter().map(|(genes, _)| genes).collect();
            let mut plan = spread(&structures, &known, *batch, space, budget, rng)?;
            if plan.len() < *batch {
                // The front is rated already: what lies around the best teaches the ratings more.
                let near: Vec<&Genes> = best.iter().map(|at| &rated[*at].0).collect();
                plan.extend(around(&near, &known, *batch, space, budget, rng)?);
            }
            Ok(plan)
        })
    }

    fn tell(&mut self, trial: Trial) {
        self.rounds.log.tell(trial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Kind, Limit, SearchBudget};
    use crate::rand::stream;
    use crate::sampler::proposal_rng;
    use crate::space::VitSpace;

    /// What each option of each gene of a made-up score is worth: it rises, more in some genes than in others.
    fn worth(space: &VitSpace) -> Vec<Vec<f64>> {
        let of_gene = |(at, options): (usize, usize)| {
            (0..options).map(|option| (1 + (7 * at) % 5) as f64 * (1.0 + option as f64).ln()).collect()
        };
        space.genes().iter().map(|gene| gene.options.len()).enumerate().map(of_gene).collect()
    }

    fn score(worth: &[Vec<f64>], genes: &Genes) -> f64 {
        let each = worth.iter().zip(&genes.values).zip(&genes.active);
        each.filter(|(_, active)| **active).map(|((worth, value), _)| worth[usize::from(*value)]).sum()
    }

    /// Where scores add, the first front that is combined from 60 random ratings is next to the best that any member within the
    /// budget has, and most of what it proposes is better than all 60.
    #[test]
    fn where_scores_add_the_first_front_is_nearly_the_true_one() {
        let space = VitSpace::load("vit-micro").expect("space");
        let worth = worth(&space);
        let limits = vec![Limit { kind: Kind::Params, most: 9e5 }];
        let budget = SearchBudget::new(&space, limits, None).expect("budget");
        let mut rng = stream(1, "test", 0);
        let truth: Vec<Structure> = structures(&space)
            .into_iter()
            .map(|base| front(base, &worth, &space, &budget, &mut rng).expect("combines"))
            .collect();
        let within: Vec<f64> = join(truth.iter().map(|one| one.front.clone()).collect())
            .into_iter()
            .map(|(from, member)| space.member(truth[from].values(&member), &mut rng))
            .filter(|genes| budget.allows(genes).expect("counted"))
            .map(|genes| score(&worth, &genes))
            .collect();
        let best = within.iter().copied().fold(0.0, f64::max);
        let recipe = crate::recipe::Recipe::load(None, None, &[]).expect("the default");
        let choice = SamplerChoice { population: 60, batch: 10, ..recipe.sampler };
        let mut sampler = BlockDp::new(&choice);
        let mut scores = Vec::new();
        for index in 0..70 {
            let asked = sampler.ask(&space, &budget, &mut proposal_rng(1, index)).expect("asks");
            let genes = asked.expect("a member");
            let (score, cost) = (score(&worth, &genes), budget.cost(&genes).expect("counted"));
            scores.push(score);
            sampler.tell(Trial { genes, score, cost });
        }
        let most = |scores: &[f64]| scores.iter().copied().fold(0.0, f64::max);
        let (random, found) = (most(&scores[..60]), most(&scores[60..]));
        assert!(found > 0.95 * best, "{found} of {best}; {random} by chance");
        assert!(found > random && random < 0.95 * best, "{random} by chance, {found}, {best}");
    }
}
