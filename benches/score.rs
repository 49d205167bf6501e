//! Time to rate candidates by relation consistency.
//!
//! Run by criterion: one candidate on the default recipe's list from the built-in photographs. Or, with `--run RUN`, on
//! a run's trained supernet: whether a short list ranks subnets as a long one does, and how long each takes
//! (`make bench-score`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use masktas_export::{VitArch, VitBlock};
use masktas_search::images::{self, Images};
use masktas_search::progress::Silent;
use masktas_search::rand::stream;
use masktas_search::recipe::{self, Labels, Recipe};
use masktas_search::run::Run;
use masktas_search::score::relation::RelationConsistency;
use masktas_search::score::{Component, Fusion, Score};
use masktas_search::space::{Genes, Space, VitSpace};
use masktas_search::supernet::extract::Network;
use masktas_search::supernet::{DecoderShape, Supernet};
use masktas_search::teacher::frozen::Frozen;
use masktas_search::train::{Lanes, keep_pages};
use masktas_search::{device, pipeline};

/// Subnets that candidates are placed among.
const REFERENCES: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().unwrap());
    match value("--run") {
        Some(run) => {
            let images = value("--images").unwrap_or("64,96,128").split(',');
            let short: Vec<[usize; 2]> =
                images.map(|images| [images.parse().unwrap(), number("--masks", 1)]).collect();
            let long = [number("--long-images", 1000), number("--long-masks", 4)];
            lists(Path::new(run), &short, long, number("--subnets", 100), number("--candidates", 1000));
        }
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            score(&mut criterion);
            criterion.final_summary();
        }
    }
}

/// A list of a run: the score on it, and places among the references.
struct List {
    score: Box<dyn Score>,
    space: VitSpace,
    fusion: Fusion,
}

impl List {
    fn new(folder: &Path, settings: &recipe::Score, [images, masks]: [usize; 2]) -> Self {
        let settings = recipe::Score { images, masks, ..settings.clone() };
        let (mut score, space) = pipeline::rater(folder, &settings, &mut Silent).unwrap();
        let references = subnets(&space, "references", REFERENCES);
        let fusion = Fusion::fit(&score.rate(&references).unwrap()).unwrap();
        Self { score, space, fusion }
    }

    /// Components and fused score of each, and the seconds it took.
    fn rate(&mut self, genes: &[Genes]) -> (Vec<Vec<Component>>, Vec<f64>, f64) {
        let begun = Instant::now();
        // One at a time, as a search asks.
        let rate = |one: &Genes| self.score.rate(std::slice::from_ref(one)).unwrap().remove(0);
        let components: Vec<_> = genes.iter().map(rate).collect();
        let fused = components.iter().map(|components| self.fusion.fuse(components).unwrap()).collect();
        (components, fused, begun.elapsed().as_secs_f64())
    }
}

fn subnets(space: &VitSpace, name: &str, count: usize) -> Vec<Genes> {
    (0..count).map(|i| space.sample(&mut stream(7, &format!("bench/{name}"), i as u64))).collect()
}

fn lists(folder: &Path, short: &[[usize; 2]], long: [usize; 2], ranked: usize, candidates: usize) {
    keep_pages();
    let recipe = Run::open_read_only(folder).unwrap().manifest().recipe.clone();
    let decoder = &recipe.supernet.decoder;
    println!(
        "{} of {}, decoder {} wide and {} deep",
        folder.display(),
        recipe.space.name,
        decoder.embed,
        decoder.depth
    );
    // One list at a time: a run has one writer.
    let (components, long_parts, long_fused, all) = {
        let mut list = List::new(folder, &recipe.score, long);
        let genes = subnets(&list.space, "ranked", ranked);
        let (parts, fused, seconds) = list.rate(&genes);
        (list.score.components(), parts, fused, seconds * candidates as f64 / ranked as f64)
    };
    println!(
        "{} images, {} masks: {candidates} candidates take {all:.0} s (timed over {ranked})",
        long[0], long[1]
    );
    println!(
        "\n| images | masks | {candidates} candidates, s | tau of the score | tau of {} |",
        components.join(" | tau of ")
    );
    println!("| --- | --- | --- | --- |{}", " --- |".repeat(components.len()));
    for [images, masks] in short {
        let mut list = List::new(folder, &recipe.score, [*images, *masks]);
        let (parts, fused, _) = list.rate(&subnets(&list.space, "ranked", ranked));
        let (.., seconds) = list.rate(&subnets(&list.space, "candidates", candidates));
        let values =
            |parts: &[Vec<Component>], i: usize| parts.iter().map(|part| part[i].value).collect::<Vec<_>>();
        let taus = (0..components.len())
            .map(|i| format!("{:.3}", kendall(&values(&parts, i), &values(&long_parts, i))))
            .collect::<Vec<_>>();
        let score = kendall(&fused, &long_fused);
        println!("| {images} | {masks} | {seconds:.1} | {score:.3} | {} |", taus.join(" | "));
    }
    println!("\ntau: Kendall's tau-b over {ranked} subnets between that list and the long one");
}

/// Kendall's tau-b: agreement of two rankings, ties taken out of both.
fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let (mut agreed, mut ties) = (0.0, [0.0f64; 2]);
    let mut pairs = 0.0;
    for i in 0..a.len() {
        for j in 0..i {
            let (x, y) = (a[i].total_cmp(&a[j]) as i32, b[i].total_cmp(&b[j]) as i32);
            agreed += f64::from(x * y);
            pairs += 1.0;
            ties[0] += f64::from(u8::from(x == 0));
            ties[1] += f64::from(u8::from(y == 0));
        }
    }
    agreed / ((pairs - ties[0]) * (pairs - ties[1])).sqrt()
}

fn score(criterion: &mut Criterion) {
    let recipe = Recipe::load(None, None, &[]).unwrap();
    let space = VitSpace::load("vit-micro").unwrap();
    let largest = space.largest_arch();
    let side = space.definition().image as u32;
    let source = images::open(None).unwrap();
    let options = images::Options::new(side, recipe.seed);
    let (images, _) = Images::open(source.as_ref(), &options, &images::Progress::none()).unwrap();

    // Weights are freshly drawn: they change the score and not its time.
    let device = device::by_name("flex").unwrap();
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
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(10));
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
