//! Time to rate one candidate: relation consistency on the built-in photographs, with the default recipe's list.

use std::sync::Arc;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use masktas_export::{VitArch, VitBlock};
use masktas_search::images::{self, Images};
use masktas_search::pipeline;
use masktas_search::rand::stream;
use masktas_search::recipe::{Labels, Recipe};
use masktas_search::score::Score;
use masktas_search::score::relation::RelationConsistency;
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::extract::Network;
use masktas_search::supernet::{DecoderShape, Supernet};
use masktas_search::teacher::frozen::Frozen;
use masktas_search::train::Lanes;

fn score(criterion: &mut Criterion) {
    let recipe = Recipe::load(None, None, &[]).unwrap();
    let space = VitSpace::load("vit-micro").unwrap();
    let largest = space.largest_arch();
    let side = space.definition().image as u32;
    let source = images::open(None).unwrap();
    let options = images::Options::new(side, recipe.seed);
    let (images, _) = Images::open(source.as_ref(), &options, &images::Progress::none()).unwrap();

    // Weights are freshly drawn: they change the score and not its time.
    let device = pipeline::device("flex").unwrap();
    let settings = &recipe.teacher;
    let block = VitBlock { heads: settings.heads, hidden: (settings.embed as f64 * settings.ratio) as usize };
    let arch = VitArch {
        embed: settings.embed,
        head_dim: settings.embed / settings.heads,
        blocks: vec![block; settings.depth],
        ..largest.clone()
    };
    let teacher = Frozen::new("mae", Network::new(&arch, None, 2, &device), &settings.layers, Labels::None);
    let shape = &recipe.supernet.decoder;
    let decoder = DecoderShape { width: shape.embed, depth: shape.depth, heads: shape.heads };

    let mut group = criterion.benchmark_group("score");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for lanes in [1, 2] {
        let supernet = Supernet::new(&largest, decoder, &[], 0, 1, &device);
        let lanes_used = Arc::new(Lanes::new(lanes).unwrap());
        let seed = recipe.seed;
        let mut rater = RelationConsistency::new(
            supernet,
            &teacher,
            space.clone(),
            &images,
            &recipe.score,
            seed,
            lanes_used,
        )
        .unwrap();
        let random = space.sample(&mut stream(0, "bench/subnet", 0));
        let rows = recipe.score.images.min(images.split().val.len()) * recipe.score.masks;
        for (name, genes) in
            [("smallest", space.smallest()), ("random", random), ("largest", space.largest())]
        {
            let batch = [genes];
            let label = format!("{name} candidate, {rows} masked images, lanes {lanes}");
            group.bench_function(label, |bencher| bencher.iter(|| rater.rate(&batch).unwrap()));
        }
    }
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
