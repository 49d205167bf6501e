//! Combination of rated parts (the search of DNA, Li et al., CVPR 2020, with sums merged by [`combine`] instead of nested loops).
//!
//! A random first generation; then, round by round, every option of every gene gets a rating of its own from all that was rated (ridge
//! regression on the genes), and a cost from what it adds to the cost of the smallest network. For each choice of the structural genes
//! (width and depth), [`combine`] gives the whole front of sums; of all fronts' members, those are proposed that are new and within
//! budget, spread along the front from its best end. In a space that lists its members, where not every combination need exist, the
//! front is that of the members' own sums of ratings and costs.
//!
//! DNA rates whole blocks, each by how well it reproduces its teacher's; here ratings come from whole networks, so that any score
//! serves. What that leaves out is how genes act together. Costs are summed in steps ([`GRAINS`]) and need not add, so a front is near the
//! best one, not the best; but the budget is asked of each proposal.

use std::collections::BTreeSet;

use super::npenas::around;
use super::rounds::{Rounds, highest, rated};
use super::{Budget, Sampler, Trial};
use crate::combine::{Choice, Combination, combine, join};
use crate::error::Result;
use crate::predictor::{FEWEST, Predictor as _, Ridge};
use crate::rand::Rng;
use crate::recipe::SamplerChoice;
use crate::space::{Genes, Space};

/// Steps of cost along one front: within a step only the best sum is kept on the way, for each gene once.
const GRAINS: f64 = 1000.0;

/// Choices of the structural genes that are combined, at most: those rated best in a space that has more.
const STRUCTURES: usize = 256;

/// Members of a joined front that are looked at, at most, at equal steps along it.
const LOOKED_AT: usize = 2000;

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

/// Choices of the structural genes, each as values of all genes with 0 for the others: all of them, or the [`STRUCTURES`] rated best.
fn structures(space: &dyn Space, ratings: &[Vec<f64>]) -> Vec<Vec<u16>> {
    let mut all = vec![(0.0, vec![0u16; space.genes().len()])];
    for (at, gene) in space.genes().iter().enumerate().filter(|(_, gene)| gene.structural) {
        let with = |(sum, values): &(f64, Vec<u16>), option: usize| {
            let mut values = values.clone();
            values[at] = option as u16;
            (sum + ratings[at][option], values)
        };
        all = all.iter().flat_map(|one| (0..gene.options.len()).map(|option| with(one, option))).collect();
        // Ratings add: what is not among the best so far is not in the end, whatever follows.
        if all.len() > STRUCTURES {
            all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            all.truncate(STRUCTURES);
        }
    }
    all.into_iter().map(|(_, values)| values).collect()
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
    let (mut rated_once, mut fixed, mut reach) = (0.0, smallest, 0.0);
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
        fixed += least;
        reach += choices.iter().map(|choice| choice.cost).fold(0.0, f64::max);
        genes.push(at);
        blocks.push(choices);
    }
    let mut front = combine(&blocks, fixed, f64::MAX, reach / GRAINS)?;
    front.iter_mut().for_each(|member| member.loss -= rated_once);
    Ok(Structure { base, genes, front })
}

/// Members of the joined front, from its best end.
fn combined(
    space: &dyn Space,
    ratings: &[Vec<f64>],
    budget: &dyn Budget,
    rng: &mut Rng,
) -> Result<Vec<Genes>> {
    let (mut parts, mut fronts) = (Vec::new(), Vec::new());
    for base in structures(space, ratings) {
        let mut structure = front(base, ratings, space, budget, rng)?;
        fronts.push(std::mem::take(&mut structure.front));
        parts.push(structure);
    }
    let front = join(fronts);
    let members = along(&front, LOOKED_AT);
    Ok(members.into_iter().map(|(from, member)| space.member(parts[*from].values(member), rng)).collect())
}

/// Of members that are listed, those that no other beats in both the sum of ratings and the cost, by cost up.
fn undominated(members: Vec<Genes>, ratings: &[Vec<f64>], budget: &dyn Budget) -> Result<Vec<Genes>> {
    let sum = |genes: &Genes| -> f64 {
        let each = ratings.iter().zip(&genes.values).zip(&genes.active);
        each.filter(|(_, active)| **active).map(|((ratings, value), _)| ratings[usize::from(*value)]).sum()
    };
    let mut rows: Vec<(f64, f64, Genes)> = Vec::new();
    for genes in members {
        rows.push((budget.cost(&genes)?, sum(&genes), genes));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut best = f64::NEG_INFINITY;
    rows.retain(|(_, sum, _)| {
        let better = *sum > best;
        best = best.max(*sum);
        better
    });
    Ok(rows.into_iter().map(|(_, _, genes)| genes).collect())
}

/// Up to `count` of a list at equal steps, from its end.
fn along<T>(list: &[T], count: usize) -> Vec<&T> {
    let last = list.len().saturating_sub(1) as f64;
    let steps = count.min(list.len());
    let place = |step: usize| (last - last * step as f64 / (steps.max(2) - 1) as f64).round() as usize;
    (0..steps).map(|step| &list[place(step)]).collect()
}

/// Those that the budget allows.
fn within(members: Vec<Genes>, budget: &dyn Budget) -> Result<Vec<Genes>> {
    let mut allowed = Vec::new();
    for genes in members {
        if budget.allows(&genes)? {
            allowed.push(genes);
        }
    }
    Ok(allowed)
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
            let known: BTreeSet<&Genes> = rated.iter().map(|(genes, _)| genes).collect();
            let mut listed = space.listed();
            let front = match &mut listed {
                Some(members) => {
                    members.retain(|genes| !known.contains(genes));
                    *members = within(std::mem::take(members), budget)?;
                    undominated(members.clone(), &ratings, budget)?
                }
                None => {
                    let mut seen: BTreeSet<Genes> = known.iter().copied().cloned().collect();
                    let mut front = combined(space, &ratings, budget, rng)?;
                    front.retain(|genes| seen.insert(genes.clone()));
                    front.reverse();
                    within(front, budget)?
                }
            };
            let mut plan: Vec<Genes> = along(&front, *batch).into_iter().cloned().collect();
            if plan.len() < *batch {
                // The front is short, or rated already: of all that is listed, or lies around the best, what is guessed highest.
                let near: Vec<&Genes> = best.iter().map(|at| &rated[*at].0).collect();
                let planned: BTreeSet<&Genes> = known.iter().copied().chain(&plan).collect();
                let more = match listed {
                    Some(members) => members.into_iter().filter(|genes| !planned.contains(genes)).collect(),
                    None => around(&near, &planned, 10 * *batch, space, budget, rng)?,
                };
                let guesses: Vec<f64> =
                    ridge.predict(space, &more)?.into_iter().map(|guess| guess.value).collect();
                plan.extend(highest(more, &guesses, *batch));
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

    /// The best score within a limit on parameters, which add up for each width and depth: by sums that are merged without a grain.
    fn best(space: &VitSpace, worth: &[Vec<f64>], budget: &dyn Budget, rng: &mut Rng) -> f64 {
        let mut best = 0.0f64;
        for base in structures(space, worth) {
            let Structure { base, genes, .. } = front(base, worth, space, budget, rng).expect("combines");
            let cost = |values: Vec<u16>| {
                budget.cost(&Genes { active: space.active(&values), values }).expect("counted")
            };
            let smallest = cost(base.clone());
            let choices = |gene: &usize| -> Vec<Choice> {
                let with = |option: usize| {
                    let mut values = base.clone();
                    values[*gene] = option as u16;
                    Choice { loss: -worth[*gene][option], cost: cost(values) - smallest }
                };
                (0..worth[*gene].len()).map(with).collect()
            };
            let blocks: Vec<Vec<Choice>> = genes.iter().map(choices).collect();
            if let Ok(front) = combine(&blocks, smallest, MOST, 0.0) {
                let structural: f64 = (space.genes().iter().enumerate())
                    .filter(|(_, gene)| gene.structural)
                    .map(|(at, _)| worth[at][usize::from(base[at])])
                    .sum();
                best = front.iter().map(|one| structural - one.loss).fold(best, f64::max);
            }
        }
        best
    }

    const MOST: f64 = 9e5;

    /// Where scores add, the first front that is combined from 60 random ratings is next to the best that any member within the
    /// budget has, and most of what it proposes is better than all 60.
    #[test]
    fn where_scores_add_the_first_front_is_nearly_the_true_one() {
        let space = VitSpace::load("vit-micro").expect("space");
        let worth = worth(&space);
        let limits = vec![Limit { kind: Kind::Params, most: MOST }];
        let budget = SearchBudget::new(&space, limits, None).expect("budget");
        let mut rng = stream(1, "test", 0);
        let best = best(&space, &worth, &budget, &mut rng);
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
