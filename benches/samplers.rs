//! What a proposal costs: asking and telling at 1,000 trials, one fit of a predictor to 100, and the front of all rated blocks.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use masktas_search::budget::SearchBudget;
use masktas_search::combine::{Choice, Combination, combine, join};
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
    for name in ["random", "evolution", "regularised-evolution", "tpe", "block-dp"] {
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
    // What pre-training makes is kept on disk: fits after the first find it.
    for (name, pretrain) in
        [("ridge", "none"), ("mlp", "none"), ("gin", "none"), ("gin", "ccl"), ("encoder-decoder", "none")]
    {
        let settings = Predictor { name: name.to_owned(), pretrain: pretrain.to_owned() };
        group.bench_function(format!("{name}, pre-training {pretrain}"), |b| {
            b.iter(|| {
                let mut predictor = predictor::by_name(&settings).unwrap().unwrap();
                predictor.fit(&space, &rated).unwrap();
                predictor
            });
        });
    }
    group.finish();

    criterion.bench_function("samplers/combine the blocks of vit-tiny", |b| {
        b.iter_batched(blocks, |widths| join(fronts(widths)), BatchSize::LargeInput);
    });
}

/// Blocks of `vit-tiny` for each width, with their operations as costs and made-up losses.
fn blocks() -> Vec<Vec<Vec<Choice>>> {
    let space = VitSpace::load("vit-tiny").unwrap();
    let d = space.definition();
    let mut rng = stream(2, "combine", 0);
    let mut block = |at: usize, embed: usize| -> Vec<Choice> {
        // Blocks that may be left out cost nothing then, and lose what nothing gains.
        let mut choices = Vec::new();
        if at >= d.depth[0] {
            choices.push(Choice { loss: 1.0, cost: 0.0 });
        }
        for (heads, ratio) in
            d.heads.iter().flat_map(|heads| d.ratio.iter().map(move |ratio| (*heads, *ratio)))
        {
            let (width, embed) = ((heads * d.head_dim) as f64, embed as f64);
            let cost = 64.0 * embed * (8.0 * width + 4.0 * embed * ratio) / 1e6;
            choices.push(Choice { loss: (40.0 / cost).exp() - 1.0 + 0.1 * rng.unit(), cost });
        }
        choices
    };
    d.embed.iter().map(|embed| (0..space.max_depth()).map(|at| block(at, *embed)).collect()).collect()
}

fn fronts(widths: Vec<Vec<Vec<Choice>>>) -> Vec<Vec<Combination>> {
    widths.iter().map(|blocks| combine(blocks, 0.0, 1e9, 0.01).unwrap()).collect()
}

criterion_group!(benches, samplers);
criterion_main!(benches);
