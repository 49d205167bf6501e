//! What a proposal costs: asking and telling at 1,000 trials, and one fit of a predictor to 100.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use masktas_search::budget::SearchBudget;
use masktas_search::predictor;
use masktas_search::rand::{Draw as _, stream};
use masktas_search::recipe::{Predictor, Recipe};
use masktas_search::sampler::{self, Trial, proposal_rng};
use masktas_search::space::{Genes, Space as _, VitSpace};

/// Random members with a score that grows with the genes.
fn trials(space: &VitSpace, count: usize) -> Vec<Trial> {
    let mut rng = stream(0, "bench", 0);
    let score = |genes: &Genes| genes.values.iter().map(|value| f64::from(*value)).sum::<f64>();
    (0..count)
        .map(|_| {
            let genes = space.sample(&mut rng);
            Trial { score: score(&genes) + rng.unit(), cost: score(&genes), genes }
        })
        .collect()
}

fn samplers(criterion: &mut Criterion) {
    let space = VitSpace::load("vit-micro").unwrap();
    let budget = SearchBudget::new(&space, vec![], None).unwrap();
    let told = trials(&space, 1000);

    let mut group = criterion.benchmark_group("samplers/ask and tell at 1,000 trials of vit-micro");
    group.sample_size(20);
    for name in ["random", "evolution", "regularised-evolution", "tpe"] {
        let recipe = Recipe::load(None, None, &[format!("sampler.name={name}")]).unwrap();
        let ready = || {
            let mut sampler = sampler::by_name(&recipe.sampler, &recipe.predictor).unwrap();
            told.iter().for_each(|trial| sampler.tell(trial.clone()));
            sampler
        };
        group.bench_function(name, |b| {
            b.iter_batched(
                ready,
                |mut sampler| {
                    let genes = sampler.ask(&space, &budget, &mut proposal_rng(0, 1000)).unwrap().unwrap();
                    sampler.tell(Trial { genes, score: 0.0, cost: 0.0 });
                    sampler
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();

    let rated: Vec<(Genes, f64)> =
        told.iter().take(100).map(|trial| (trial.genes.clone(), trial.score)).collect();
    let mut group = criterion.benchmark_group("samplers/fit to 100 of vit-micro");
    group.sample_size(10);
    for name in ["ridge", "mlp", "gin", "encoder-decoder"] {
        let settings = Predictor { name: name.to_owned(), pretrain: "none".to_owned() };
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut predictor = predictor::by_name(&settings).unwrap().unwrap();
                predictor.fit(&space, &rated).unwrap();
                predictor
            });
        });
    }
    group.finish();
}

criterion_group!(benches, samplers);
criterion_main!(benches);
