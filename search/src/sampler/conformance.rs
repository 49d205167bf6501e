//! What every registered sampler must do, whatever it does.

#[cfg(test)]
mod tables;

use std::collections::BTreeSet;

use super::*;
use crate::budget::{Cost, Kind, Limit, SearchBudget};
use crate::front::{Point, hypervolume};
use crate::space::VitSpace;

const TINY: &str = "family = 'vit'\nname = 'tiny'\nimage = 8\npatch = 4\nhead_dim = 4\nembed = [8, 12]\n\
                    depth = [1, 2]\nheads = [1, 2]\nratio = [1, 2]\n";

fn tiny() -> VitSpace {
    VitSpace::from_toml("tiny", TINY).expect("space")
}

fn micro() -> VitSpace {
    VitSpace::load("vit-micro").expect("space")
}

/// Small generations, so that a short search sees several.
fn choice(name: &str) -> SamplerChoice {
    SamplerChoice {
        name: name.to_owned(),
        evaluations: 0,
        population: 12,
        parents: 5,
        mutants: 5,
        crossovers: 4,
        mutate_each: 0.2,
        mutate_structure: 0.4,
        gamma: 0.2,
        candidates: 20,
        batch: 5,
    }
}

/// What a sampler guesses by: the quickest that it takes.
fn predictor(name: &str) -> Predictor {
    let by = if name == "seminas" { "encoder-decoder" } else { "ridge" };
    Predictor { name: by.to_owned(), pretrain: "none".to_owned() }
}

fn sampler(name: &str) -> Box<dyn Sampler> {
    by_name(&choice(name), &predictor(name)).expect("registered")
}

fn limit(kind: Kind, most: f64) -> Vec<Limit> {
    vec![Limit { kind, most }]
}

/// A made-up score: blocks that grow towards the end are good, wide ones a little.
fn score(space: &VitSpace, genes: &Genes) -> f64 {
    let arch = space.vit(genes);
    let blocks = arch.blocks.len() as f64;
    let shape: f64 =
        arch.blocks.iter().enumerate().map(|(i, b)| (i as f64 / blocks - 0.4) * (b.heads as f64)).sum();
    shape + (arch.embed as f64).ln() + blocks.sqrt()
}

fn judge(space: &VitSpace, budget: &dyn Budget, genes: Genes) -> Trial {
    Trial { score: score(space, &genes), cost: budget.cost(&genes).expect("cost"), genes }
}

/// `count` trials after those of `told`, each told before the next is asked.
fn search(
    name: &str,
    space: &VitSpace,
    budget: &dyn Budget,
    seed: u64,
    told: &[Trial],
    count: usize,
) -> Vec<Trial> {
    driven(name, space, budget, seed, told, count, &|genes| score(space, genes))
}

/// The same in any space, with its own score.
fn driven(
    name: &str,
    space: &dyn Space,
    budget: &dyn Budget,
    seed: u64,
    told: &[Trial],
    count: usize,
    score: &dyn Fn(&Genes) -> f64,
) -> Vec<Trial> {
    let mut sampler = sampler(name);
    let mut trials = told.to_vec();
    told.iter().for_each(|trial| sampler.tell(trial.clone()));
    for _ in 0..count {
        let mut rng = proposal_rng(seed, trials.len());
        let Some(genes) = sampler.ask(space, budget, &mut rng).expect("asks") else { break };
        let trial = Trial { score: score(&genes), cost: budget.cost(&genes).expect("cost"), genes };
        sampler.tell(trial.clone());
        trials.push(trial);
    }
    trials
}

#[test]
fn the_registry_knows_every_name() {
    for name in NAMES {
        assert_eq!(sampler(name).name(), *name);
    }
    let error = by_name(&choice("evolutoin"), &predictor("")).err().expect("unknown").to_string();
    assert!(error.contains("did you mean `evolution`"), "{error}");
    for name in ["npenas", "seminas"] {
        let none = Predictor { name: "none".to_owned(), pretrain: "none".to_owned() };
        let error = by_name(&choice(name), &none).err().expect("needs a predictor").to_string();
        assert!(error.contains("predictor.name is \"none\""), "{error}");
    }
}

#[test]
fn proposals_are_legal_within_budget_and_never_repeat() {
    let space = micro();
    for name in NAMES {
        for most in [4.6e5, 8e5, 1e9] {
            let budget = SearchBudget::new(&space, limit(Kind::Params, most), None).expect("budget");
            let trials = search(name, &space, &budget, 1, &[], 80);
            assert_eq!(trials.len(), 80, "{name} {most}");
            for trial in &trials {
                assert_eq!(space.parse(&space.id(&trial.genes)).as_ref(), Some(&trial.genes), "{name}");
                assert!(trial.cost <= most, "{name}: {} > {most}", trial.cost);
            }
            let distinct: BTreeSet<&Genes> = trials.iter().map(|trial| &trial.genes).collect();
            assert_eq!(distinct.len(), trials.len(), "{name}");
        }
    }
}

#[test]
fn one_seed_gives_one_search_and_another_gives_another() {
    let space = micro();
    let budget = SearchBudget::new(&space, limit(Kind::Flops, 6e7), None).expect("budget");
    for name in NAMES {
        let first = search(name, &space, &budget, 1, &[], 50);
        assert_eq!(first, search(name, &space, &budget, 1, &[], 50), "{name}");
        assert_ne!(first, search(name, &space, &budget, 2, &[], 50), "{name}");
    }
}

#[test]
fn every_prefix_of_the_log_resumes_to_the_same_search() {
    let space = micro();
    let budget = SearchBudget::new(&space, limit(Kind::Params, 9e5), None).expect("budget");
    for name in NAMES {
        let whole = search(name, &space, &budget, 5, &[], 40);
        for stop in 0..whole.len() {
            let rest = search(name, &space, &budget, 5, &whole[..stop], 3);
            assert_eq!(rest[..rest.len().min(40)], whole[..rest.len().min(40)], "{name} after {stop}");
        }
    }
}

#[test]
fn a_batch_within_what_the_sampler_allows_changes_nothing() {
    let space = micro();
    let budget = SearchBudget::new(&space, vec![], None).expect("budget");
    for name in NAMES {
        let whole = search(name, &space, &budget, 3, &[], 40);
        let mut sampler = sampler(name);
        let mut trials: Vec<Trial> = Vec::new();
        while trials.len() < 40 {
            let ahead = sampler.ahead();
            assert!(ahead >= 1);
            let mut batch = Vec::new();
            for _ in 0..ahead.min(7).min(40 - trials.len()) {
                let mut rng = proposal_rng(3, trials.len() + batch.len());
                batch.extend(sampler.ask(&space, &budget, &mut rng).expect("asks"));
            }
            for genes in batch {
                let trial = judge(&space, &budget, genes);
                sampler.tell(trial.clone());
                trials.push(trial);
            }
        }
        assert_eq!(trials, whole, "{name}");
    }
}

#[test]
fn a_small_space_is_used_up_and_then_there_is_nothing() {
    let space = tiny();
    assert_eq!(space.count(), 40);
    for name in NAMES {
        let free = SearchBudget::new(&space, vec![], None).expect("budget");
        assert_eq!(search(name, &space, &free, 1, &[], 100).len(), 40, "{name}");
        let all = search(name, &space, &free, 2, &[], 100);
        let mut costs: Vec<f64> = all.iter().map(|trial| trial.cost).collect();
        costs.sort_by(f64::total_cmp);
        let most = costs[20];
        let fitting = all.iter().filter(|trial| trial.cost <= most).count();
        assert!(fitting < 40);
        let tight = SearchBudget::new(&space, limit(Kind::Params, most), None).expect("budget");
        assert_eq!(search(name, &space, &tight, 1, &[], 100).len(), fitting, "{name}");
    }
}

/// A budget that one member in a hundred million fits is met at once, and the few others found.
#[test]
fn a_needle_is_found() {
    let space = micro();
    let least = space.parameters(&space.smallest()).expect("counted") as f64;
    for name in NAMES {
        let budget = SearchBudget::new(&space, limit(Kind::Params, least), None).expect("budget");
        let trials = search(name, &space, &budget, 1, &[], 10);
        assert_eq!(
            trials.iter().map(|trial| &trial.genes).collect::<Vec<_>>(),
            [&space.smallest()],
            "{name}"
        );
        // One step in one block: 6 x (one head more, one ratio more) fit beside the smallest.
        let step = space.neighbours(&space.smallest());
        let steps: Vec<f64> = step.iter().map(|g| space.parameters(g).expect("counted") as f64).collect();
        let cheapest = steps.iter().copied().fold(f64::INFINITY, f64::min);
        let fitting = steps.iter().filter(|cost| **cost <= cheapest).count();
        let budget = SearchBudget::new(&space, limit(Kind::Params, cheapest), None).expect("budget");
        assert_eq!(search(name, &space, &budget, 1, &[], 40).len(), 1 + fitting, "{name}");
    }
}

/// Under a cost with its least value away from every corner.
#[test]
fn a_needle_away_from_the_corners_is_found_by_descent() {
    let space = micro();
    let middle = |genes: &Genes| -> Result<f64> {
        Ok(1.0 + genes.values.iter().zip(&genes.active).filter(|(v, a)| **a && **v != 1).count() as f64)
    };
    let cost: &Cost<'_> = &middle;
    let budget = SearchBudget::new(&space, limit(Kind::Latency, 1.0), Some(cost)).expect("budget");
    for name in NAMES {
        let trials = search(name, &space, &budget, 1, &[], 5);
        assert_eq!(trials.len(), 1, "{name}");
        assert_eq!(trials[0].cost, 1.0);
    }
}

#[test]
fn an_infeasible_budget_is_an_error_with_the_interval() {
    let space = micro();
    for name in NAMES {
        let budget = SearchBudget::new(&space, limit(Kind::Params, 1000.0), None).expect("budget");
        let error = sampler(name).ask(&space, &budget, &mut proposal_rng(1, 0)).expect_err("infeasible");
        assert!(matches!(error, Error::Infeasible { .. }), "{name}: {error}");
        assert!(error.to_string().contains("386k"), "{name}: {error}");
    }
}

/// A latency that falls with the parameters: a limit on both allows a band of sizes, which may be narrow or empty.
#[test]
fn limits_that_pull_apart_are_met_together_or_refused_together() {
    let space = micro();
    let parameters = |genes: &Genes| space.parameters(genes).expect("counted") as f64;
    let falling = |genes: &Genes| -> Result<f64> { Ok(1e6 / parameters(genes)) };
    let cost: &Cost<'_> = &falling;
    let both = |ms: f64, most: f64| {
        let latency = Limit { kind: Kind::Latency, most: ms };
        let params = Limit { kind: Kind::Params, most };
        SearchBudget::new(&space, vec![latency, params], Some(cost)).expect("budget")
    };
    for name in NAMES {
        let trials = search(name, &space, &both(1.2, 1e6), 1, &[], 20);
        assert_eq!(trials.len(), 20, "{name}");
        let within = |genes: &Genes| 1e6 / parameters(genes) <= 1.2 && parameters(genes) <= 1e6;
        assert!(trials.iter().all(|trial| within(&trial.genes)), "{name}");
    }
    // As tight as can be: the size of one member that the budget looks at before anything is trained.
    let mut rng = stream(7, "interval", 0);
    let drawn: Vec<Genes> = (0..100).map(|_| space.sample(&mut rng)).collect();
    let size = parameters(&drawn[99]);
    for name in NAMES {
        let budget = both(1e6 / size, size);
        assert_eq!(budget.intervals(7).expect("feasible").len(), 2);
        let trials = search(name, &space, &budget, 1, &[], 3);
        assert!(!trials.is_empty(), "{name}");
        assert!(trials.iter().all(|trial| parameters(&trial.genes) == size), "{name}");
    }
    // Above 1.67M and below 1M parameters there are none, though each limit is met alone.
    for name in NAMES {
        let budget = both(0.6, 1e6);
        let error = sampler(name).ask(&space, &budget, &mut proposal_rng(1, 0)).expect_err("none has both");
        assert!(matches!(error, Error::Together { .. }), "{name}: {error}");
        assert_eq!(error.to_string(), budget.intervals(0).expect_err("none has both").to_string(), "{name}");
    }
}

/// Not a law of nature, but on a score with structure evolution has to find more than chance does.
#[test]
fn evolution_covers_more_than_random() {
    let space = micro();
    let budget = SearchBudget::new(&space, limit(Kind::Params, 1.2e6), None).expect("budget");
    let reference = Point { score: 5.0, cost: 1.2e6 };
    let volume = |name: &str| -> f64 {
        (0..5)
            .map(|seed| {
                let trials = search(name, &space, &budget, seed, &[], 200);
                let points: Vec<Point> =
                    trials.iter().map(|trial| Point { score: trial.score, cost: trial.cost }).collect();
                hypervolume(&points, reference)
            })
            .sum()
    };
    let (evolution, random) = (volume("evolution"), volume("random"));
    assert!(evolution > 1.1 * random, "evolution {evolution}, random {random}");
}
