//! Exact combination of rated blocks under a budget (the search half of DNA, Li et al., CVPR 2020).
//!
//! Where loss and cost add over blocks, the best network of every budget is found by merging blocks one at a time and dropping
//! what another sum beats in both: the whole front in one run. What is global, such as an embedding width, is combined once for each
//! of its values and the fronts are joined ([`join`]).
//!
//! Sampler `block-dp` combines ratings of genes by it; programs that rate blocks themselves can call it with their own.

use crate::error::{Error, Result};

/// What one choice for a block loses and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Loss of the block with this choice; lower is better.
    pub loss: f64,
    /// What the choice costs, in any unit that adds; at least 0.
    pub cost: f64,
}

/// A combination that no other beats in both loss and cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// Sum of the losses.
    pub loss: f64,
    /// Sum of the costs, the fixed one included.
    pub cost: f64,
    /// The position of the choice taken in each block.
    pub choices: Vec<usize>,
}

/// One sum on the way: loss, cost, the sum of the blocks before that it goes on from, and the choice taken.
#[derive(Clone, Copy)]
struct Sum {
    loss: f64,
    cost: f64,
    from: usize,
    choice: usize,
}

/// The whole front of combinations of one choice a block whose cost is at most `most`, by cost up. Equal sums are given once.
///
/// `fixed` is what every combination costs beside its blocks. `grain`: costs are compared in steps of so much, which bounds the number
/// of sums that are kept; within a step only the least loss is. At 0 the front is exact.
///
/// # Errors
/// [`Error::Invalid`] for a block without choices, and for numbers that are not finite or costs below 0; [`Error::Infeasible`] when
/// nothing fits.
pub fn combine(blocks: &[Vec<Choice>], fixed: f64, most: f64, grain: f64) -> Result<Vec<Combination>> {
    check(blocks, fixed)?;
    // The least that the blocks from each one on cost: sums that cannot end within the budget are dropped at once.
    let mut rest = vec![0.0; blocks.len() + 1];
    for (at, block) in blocks.iter().enumerate().rev() {
        rest[at] = rest[at + 1] + block.iter().map(|choice| choice.cost).fold(f64::INFINITY, f64::min);
    }
    let mut levels: Vec<Vec<Sum>> = vec![vec![Sum { loss: 0.0, cost: fixed, from: 0, choice: 0 }]];
    for (at, block) in blocks.iter().enumerate() {
        let mut sums = Vec::new();
        for (from, sum) in levels[at].iter().enumerate() {
            for (choice, one) in block.iter().enumerate() {
                let (loss, cost) = (sum.loss + one.loss, sum.cost + one.cost);
                // Sums in another order differ by rounding; what a person gives as the limit is let pass.
                if cost + rest[at + 1] <= most + ROUNDING * most.abs() {
                    sums.push(Sum { loss, cost, from, choice });
                }
            }
        }
        if sums.is_empty() {
            return Err(infeasible(blocks, fixed, most));
        }
        levels.push(undominated(sums, grain));
    }
    let last = levels.len() - 1;
    let follow = |end: usize| {
        let (mut at, mut choices) = (end, vec![0; last]);
        for level in (1..=last).rev() {
            let sum = levels[level][at];
            choices[level - 1] = sum.choice;
            at = sum.from;
        }
        choices
    };
    let front = levels[last].iter().enumerate();
    Ok(front.map(|(at, sum)| Combination { loss: sum.loss, cost: sum.cost, choices: follow(at) }).collect())
}

/// Share of a limit by which a sum may exceed it through rounding.
const ROUNDING: f64 = 1e-12;

/// The front of several fronts, such as one for each width, with the position of the front that each member is from.
pub fn join(fronts: Vec<Vec<Combination>>) -> Vec<(usize, Combination)> {
    let mut all: Vec<(usize, Combination)> = fronts
        .into_iter()
        .enumerate()
        .flat_map(|(from, front)| front.into_iter().map(move |member| (from, member)))
        .collect();
    all.sort_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut best = f64::INFINITY;
    all.retain(|(_, member)| {
        let better = member.loss < best;
        best = best.min(member.loss);
        better
    });
    all
}

/// Sums by cost up that none beats; the first of equals stays.
fn undominated(mut sums: Vec<Sum>, grain: f64) -> Vec<Sum> {
    sums.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut kept: Vec<Sum> = Vec::new();
    for sum in sums {
        match kept.last_mut() {
            Some(last) if sum.loss >= last.loss => {}
            Some(last) if grain > 0.0 && (sum.cost / grain).floor() == (last.cost / grain).floor() => {
                *last = sum
            }
            _ => kept.push(sum),
        }
    }
    kept
}

fn check(blocks: &[Vec<Choice>], fixed: f64) -> Result<()> {
    let refuse = |thing: String, problem: String| Error::Invalid {
        thing,
        problem,
        next: "rate every choice of every block".to_owned(),
    };
    if !fixed.is_finite() {
        return Err(refuse("fixed cost".to_owned(), format!("{fixed} is not a finite number")));
    }
    for (at, block) in blocks.iter().enumerate() {
        if block.is_empty() {
            return Err(refuse(format!("block {at}"), "it has 0 choices".to_owned()));
        }
        for (number, choice) in block.iter().enumerate() {
            if !(choice.loss.is_finite() && choice.cost.is_finite() && choice.cost >= 0.0) {
                let problem = format!("a loss of {} and a cost of {}", choice.loss, choice.cost);
                return Err(refuse(format!("choice {number} of block {at}"), problem));
            }
        }
    }
    Ok(())
}

fn infeasible(blocks: &[Vec<Choice>], fixed: f64, most: f64) -> Error {
    let sum = |pick: fn(f64, f64) -> f64, start: f64| -> f64 {
        fixed
            + blocks.iter().map(|block| block.iter().map(|choice| choice.cost).fold(start, pick)).sum::<f64>()
    };
    let (low, high) = (sum(f64::min, f64::INFINITY), sum(f64::max, f64::NEG_INFINITY));
    Error::Infeasible {
        space: format!("{} blocks", blocks.len()).into(),
        limit: format!("a cost of {most}"),
        low: low.to_string(),
        high: high.to_string(),
        next: format!("allow at least {low}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::{Draw, Rng, stream};
    use crate::space::{Space as _, VitSpace};

    /// Blocks with whole costs and losses, so that ties happen all the time and sums are exact.
    fn instance(rng: &mut Rng) -> Vec<Vec<Choice>> {
        let reach = [4, 20, 1000][rng.below(3)];
        let blocks = 1 + rng.below(5);
        (0..blocks)
            .map(|_| {
                let choice =
                    |rng: &mut Rng| Choice { loss: rng.below(reach) as f64, cost: rng.below(reach) as f64 };
                (0..1 + rng.below(6)).map(|_| choice(rng)).collect()
            })
            .collect()
    }

    /// Every combination within the budget.
    fn exhaustive(blocks: &[Vec<Choice>], fixed: f64, most: f64) -> Vec<(f64, f64)> {
        let mut all = vec![(fixed, 0.0)];
        for block in blocks {
            all = all
                .iter()
                .flat_map(|(cost, loss)| {
                    block.iter().map(move |choice| (cost + choice.cost, loss + choice.loss))
                })
                .collect();
        }
        all.retain(|(cost, _)| *cost <= most);
        let beaten =
            |one: &(f64, f64)| all.iter().any(|other| other.0 <= one.0 && other.1 <= one.1 && other != one);
        let mut front: Vec<(f64, f64)> = all.iter().copied().filter(|one| !beaten(one)).collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        front.dedup();
        front
    }

    #[test]
    fn a_thousand_instances_equal_exhaustive_search() {
        let mut rng = stream(1, "combine", 0);
        let mut infeasible = 0;
        for _ in 0..1000 {
            let blocks = instance(&mut rng);
            let fixed = rng.below(5) as f64;
            let most = fixed + rng.below(1 + blocks.len() * 600) as f64 / [1.0, 30.0, 200.0][rng.below(3)];
            let expected = exhaustive(&blocks, fixed, most);
            match combine(&blocks, fixed, most, 0.0) {
                Ok(front) => {
                    let found: Vec<(f64, f64)> = front.iter().map(|one| (one.cost, one.loss)).collect();
                    assert_eq!(found, expected);
                    for one in &front {
                        let taken = || one.choices.iter().zip(&blocks).map(|(at, block)| block[*at]);
                        assert_eq!(one.cost, fixed + taken().map(|choice| choice.cost).sum::<f64>());
                        assert_eq!(one.loss, taken().map(|choice| choice.loss).sum::<f64>());
                    }
                }
                Err(error) => {
                    assert!(expected.is_empty(), "{error}");
                    assert!(matches!(error, Error::Infeasible { .. }));
                    infeasible += 1;
                }
            }
        }
        assert!((10..900).contains(&infeasible), "{infeasible}");
    }

    /// The blocks of `vit-tiny` at each width, with their operations as costs and made-up losses. The bench `samplers` times the same.
    #[test]
    fn the_whole_front_of_vit_tiny_comes_from_one_run() {
        let space = VitSpace::load("vit-tiny").expect("space");
        let d = space.definition();
        let mut rng = stream(2, "combine", 0);
        let fronts: Vec<Vec<Combination>> = d
            .embed
            .iter()
            .map(|embed| {
                let block = |at: usize, rng: &mut Rng| -> Vec<Choice> {
                    let sizes =
                        d.heads.iter().flat_map(|heads| d.ratio.iter().map(move |ratio| (*heads, *ratio)));
                    // Blocks that may be left out cost nothing then, and lose what nothing gains.
                    let absent = (at >= d.depth[0]).then_some(Choice { loss: 1.0, cost: 0.0 });
                    let sized = sizes.map(|(heads, ratio)| {
                        let width = (heads * d.head_dim) as f64;
                        let embed = *embed as f64;
                        let cost = 64.0 * embed * (8.0 * width + 4.0 * embed * ratio) / 1e6;
                        Choice { loss: (40.0 / cost).exp() - 1.0 + 0.1 * rng.unit(), cost }
                    });
                    absent.into_iter().chain(sized).collect()
                };
                let blocks: Vec<Vec<Choice>> = (0..space.max_depth()).map(|at| block(at, &mut rng)).collect();
                combine(&blocks, 0.0, 1e9, 0.01).expect("fits")
            })
            .collect();
        let front = join(fronts);
        assert!(front.len() > 20, "{}", front.len());
        assert!(
            front.windows(2).all(|pair| pair[0].1.cost <= pair[1].1.cost && pair[0].1.loss > pair[1].1.loss)
        );
        assert!(space.count() > 1_000_000);
    }

    #[test]
    fn what_cannot_be_combined_is_named() {
        let good = Choice { loss: 1.0, cost: 2.0 };
        let error =
            |blocks: &[Vec<Choice>], most: f64| combine(blocks, 0.5, most, 0.0).unwrap_err().to_string();
        assert!(error(&[vec![good], vec![]], 9.0).contains("block 1"));
        assert!(error(&[vec![good, Choice { cost: -1.0, ..good }]], 9.0).contains("choice 1 of block 0"));
        let error = error(&[vec![good], vec![good, Choice { cost: 3.0, ..good }]], 4.0);
        assert!(error.contains("4.5") && error.contains("5.5"), "{error}");
    }
}
