//! How well a few measurements of a profile predict the rest, beside how well a second profile of the same models repeats them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use masktas_devices::latency::{DEFAULT_MODEL, HeldOut, Prediction, Sample, active, diverse, latency_model};
use masktas_devices::profile::EngineProfile;
use masktas_devices::stats::{Rng, spearman};
use masktas_devices::{ProfileFile, Row, Steadiness};
use masktas_runtime::Features;

/// Fit the latency model to some rows of a profile and judge it on the others, which it has not seen.
///
/// The repeated profile bounds what any model can reach: it says how often the same models, timed again, lie within 10 % and 5 %.
#[derive(Parser)]
#[command(after_help = "Examples:
  masktas profile --space vit-micro --samples 1000 --export once.json
  masktas profile --space vit-micro --samples 200 --export again.json
  latency_profile once.json --again again.json --samples 100
  latency_profile once.json --beside tract.json --samples 100")]
struct Args {
    /// The profile, as `masktas profile --export` wrote it.
    profile: PathBuf,
    /// A profile of the same models, or of some of them, measured once more.
    #[arg(long, value_name = "FILE")]
    again: Option<PathBuf>,
    /// A profile of the same models by another device or engine: how alike the two order them.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// Rows that are fitted to.
    #[arg(long, default_value_t = 100, value_name = "N")]
    samples: usize,
    /// Draws of rows, numbered from 0.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seeds: u64,
}

/// How the rows to fit to are chosen.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    /// The first ones, as the profile chose them.
    First,
    Random,
    Diverse,
    /// Half diverse, half random.
    Mixed,
    /// The same, and the last eighth where the interval is widest.
    Active,
}

impl Choice {
    fn name(self) -> &'static str {
        match self {
            Choice::First => "first",
            Choice::Random => "random",
            Choice::Diverse => "diverse",
            Choice::Active => "half diverse, then active",
            Choice::Mixed => "half diverse, half random",
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let once = ProfileFile::read(&args.profile)?;
    let again = args.again.as_deref().map(ProfileFile::read).transpose()?;
    let beside = args.beside.as_deref().map(ProfileFile::read).transpose()?;
    for engine in &once.engines {
        let rows = measured(engine);
        if rows.len() < 2 * args.samples {
            let (found, needed) = (rows.len(), 2 * args.samples);
            return Err(format!(
                "{} has {found} measured rows and {needed} are needed; lower --samples",
                args.profile.display()
            )
            .into());
        }
        println!(
            "{} under {}: {} rows, {} of them steady",
            once.device,
            engine.engine,
            rows.len(),
            steady(engine)
        );
        println!(
            "  {:<40} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "", "MAPE %", "<= 10 %", "<= 5 %", "covered", "width %"
        );
        for choice in [Choice::First, Choice::Random, Choice::Diverse, Choice::Mixed, Choice::Active] {
            let draws = if choice == Choice::First { 1 } else { args.seeds };
            let results = (0..draws).map(|seed| judge(&rows, choice, args.samples, seed));
            let results = results.collect::<masktas_devices::Result<Vec<_>>>()?;
            show(&format!("{} {}, {draws} draws", args.samples, choice.name()), &results);
        }
        let same = again.iter().flat_map(|file| &file.engines).find(|other| other.engine == engine.engine);
        if let Some(other) = same {
            let (second, first) = shared(&measured(other), &rows);
            let point = |&ms: &f64| Prediction { ms, low: ms, high: ms, extrapolated: false };
            let repeated: Vec<Prediction> = second.iter().map(point).collect();
            let floor =
                HeldOut::of(&repeated, &first).ok_or("the second profile has none of these models")?;
            show(&format!("measured twice, {} models", first.len()), &[floor]);
        }
        for (file, other) in
            beside.iter().flat_map(|file| file.engines.iter().map(move |other| (file, other)))
        {
            let (theirs, ours) = shared(&measured(other), &rows);
            let alike = spearman(&theirs, &ours).ok_or("the other profile has too few of these models")?;
            println!(
                "  beside {} under {}: {} models, rank correlation {alike:.3}",
                file.device,
                other.engine,
                ours.len()
            );
        }
    }
    Ok(())
}

fn measured(engine: &EngineProfile) -> Vec<(String, Sample)> {
    engine.rows.iter().filter_map(|row| Some((row.id.clone(), row.sample()?))).collect()
}

/// Milliseconds of the models that both measured, in one order.
fn shared(left: &[(String, Sample)], right: &[(String, Sample)]) -> (Vec<f64>, Vec<f64>) {
    let of = |id: &String| right.iter().find(|(known, _)| known == id);
    left.iter().filter_map(|(id, one)| Some((one.ms, of(id)?.1.ms))).unzip()
}

fn steady(engine: &EngineProfile) -> usize {
    engine.rows.iter().filter_map(Row::measurement).filter(|m| m.verdict == Steadiness::Steady).count()
}

/// The error on all rows that are not fitted to.
fn judge(rows: &[(String, Sample)], choice: Choice, n: usize, seed: u64) -> masktas_devices::Result<HeldOut> {
    let costs: Vec<_> = rows.iter().map(|(_, sample)| sample.features.clone()).collect();
    let pick = |at: &[usize]| -> Vec<Sample> {
        at.iter().filter_map(|i| rows.get(*i)).map(|(_, s)| s.clone()).collect()
    };
    let chosen = match choice {
        Choice::First => (0..n).collect(),
        Choice::Random => {
            let mut all: Vec<usize> = (0..rows.len()).collect();
            Rng::new(seed).shuffle(&mut all);
            all.truncate(n);
            all
        }
        Choice::Diverse => diverse(&costs, n, seed)?,
        Choice::Mixed => mixed(&costs, n, seed)?,
        Choice::Active => {
            // As masktas profile: an eighth waits for a model that says where it knows least.
            let mut chosen = mixed(&costs, n - n / 8, seed)?;
            let mut model = latency_model(DEFAULT_MODEL)?;
            model.fit(&pick(&chosen))?;
            let left: Vec<usize> = (0..rows.len()).filter(|at| !chosen.contains(at)).collect();
            let known: Vec<_> = pick(&chosen).into_iter().map(|sample| sample.features).collect();
            let open: Vec<_> = pick(&left).into_iter().map(|sample| sample.features).collect();
            let next = active(model.as_ref(), &known, &open, n / 8)?;
            chosen.extend(next.into_iter().filter_map(|at| left.get(at)));
            chosen
        }
    };
    let mut model = latency_model(DEFAULT_MODEL)?;
    model.fit(&pick(&chosen))?;
    let unseen: Vec<usize> = (0..rows.len()).filter(|at| !chosen.contains(at)).collect();
    let unseen = pick(&unseen);
    let predictions = unseen
        .iter()
        .map(|sample| model.predict(&sample.features))
        .collect::<masktas_devices::Result<Vec<_>>>()?;
    let truth: Vec<f64> = unseen.iter().map(|sample| sample.ms).collect();
    HeldOut::of(&predictions, &truth)
        .ok_or_else(|| masktas_devices::Error::Caller("there is no row left to predict".to_owned()))
}

/// Half unlike each other, half at random.
fn mixed(costs: &[Features], n: usize, seed: u64) -> masktas_devices::Result<Vec<usize>> {
    let mut chosen = diverse(costs, n / 2, seed)?;
    let mut left: Vec<usize> = (0..costs.len()).filter(|at| !chosen.contains(at)).collect();
    Rng::new(seed).shuffle(&mut left);
    chosen.extend(left.into_iter().take(n - n / 2));
    Ok(chosen)
}

/// One line: means over draws.
fn show(label: &str, results: &[HeldOut]) {
    let mean = |get: fn(&HeldOut) -> f64| 100.0 * results.iter().map(get).sum::<f64>() / results.len() as f64;
    let interval = if results.iter().all(|r| r.width > 0.0) {
        format!("{:>9.1} {:>9.1}", mean(|r| r.coverage), mean(|r| r.width))
    } else {
        format!("{:>9} {:>9}", "-", "-")
    };
    println!(
        "  {label:<40} {:>7.2} {:>9.1} {:>9.1} {interval}",
        mean(|r| r.mape),
        mean(|r| r.within_10),
        mean(|r| r.within_5)
    );
}
