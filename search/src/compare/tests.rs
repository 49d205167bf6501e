use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::rand::{Draw as _, stream};
use crate::table::{Definition, Rows, TableSpace};

/// Every registered sampler, and one that guesses by others too.
fn all() -> impl Iterator<Item = &'static str> {
    sampler::NAMES.iter().copied().chain(["npenas/ridge", "npenas/gin+ged"])
}

/// Cells of six edges with four operations, as a table; `score` says what each is worth.
fn cells(folder: &Path, score: &mut dyn FnMut(usize, &[usize; 6]) -> f64) -> TableSpace {
    let mut text = "ops,accuracy,test\n".to_owned();
    for number in 0..4096usize {
        let ops: [usize; 6] = std::array::from_fn(|at| number >> (2 * at) & 3);
        let words: Vec<String> = ops.iter().map(ToString::to_string).collect();
        writeln!(text, "{},{},0", words.join("-"), score(number, &ops)).expect("text");
    }
    let path = folder.join("cells.csv");
    std::fs::write(&path, text).expect("written");
    let definition = "name = 'cells'\nkind = 'edges'\nops = 'ops'\nedges = [[0,1],[0,2],[1,2],[0,3],[1,3],[2,3]]\nnone = '0'\n\
                      skip = '1'\nscores = ['accuracy']\nreports = ['test']\n";
    TableSpace::new(Definition::parse("cells", definition).expect("reads"), Rows::read(&path).expect("rows"))
        .expect("a space")
}

/// Some operations are good, and better together.
fn worth(ops: &[usize; 6]) -> f64 {
    let good = ops.iter().enumerate().map(|(at, op)| (op * (at + 1)) as f64).sum::<f64>();
    good + 4.0 * f64::from(u8::from(ops[0] == 3 && ops[5] == 2)) + 0.1 * ((ops[1] * ops[4]) % 3) as f64
}

/// The trials of a search of `queries`, and how often a score was read.
fn trials(space: &TableSpace, name: &str, queries: usize) -> (Vec<Trial>, usize) {
    let entrant = Entrant::parse(name, &[]).expect("an entrant");
    let scores = space.column("accuracy").expect("a column");
    let budget = crate::table::TableBudget::new(space, None, 0.0).expect("no limit");
    let mut reads = 0;
    let mut rate = |genes: &Genes| {
        reads += 1;
        Ok(scores[space.member_at(genes).expect("a member")])
    };
    let (trials, _) = search(&entrant, space, &budget, queries, 3, &mut rate).expect("searches");
    (trials, reads)
}

/// A sampler knows the scores that it was told and nothing else of the table: with every other score changed, it proposes the same.
#[test]
fn scores_that_were_not_told_change_no_proposal() {
    let folder = tempfile::tempdir().expect("a folder");
    let space = cells(folder.path(), &mut |_, ops| worth(ops));
    let top = space.column("accuracy").expect("a column").into_iter().fold(0.0, f64::max);
    for name in all() {
        let (first, reads) = trials(&space, name, 50);
        assert_eq!((first.len(), reads), (50, 50), "{name}: one score is read for each trial");
        let told: Vec<Option<usize>> = first.iter().map(|trial| space.member_at(&trial.genes)).collect();
        let mut rng = stream(0, "test", 0);
        // The others become better than all that was told, in no order.
        let changed = cells(folder.path(), &mut |number, ops| {
            if told.contains(&Some(number)) { worth(ops) } else { top + rng.unit() }
        });
        let (second, _) = trials(&changed, name, 50);
        assert_eq!(first, second, "{name}");
    }
}

/// The same on a published table, where the numbers of the documents are from.
#[test]
fn scores_of_nasbench201_that_were_not_told_change_no_proposal() {
    let Some(data) = std::env::var_os("MASKTAS_DATA") else {
        println!("skipped: MASKTAS_DATA does not say where the tables are");
        return;
    };
    let table = Path::new(&data).join("nas").join("nasbench201.csv");
    let space = TableSpace::load(&table, None).expect("the table");
    let scores = space.column("cifar10_valid_12").expect("a column");
    let entrant = Entrant::parse("npenas/gin+ccl", &[]).expect("an entrant");
    let budget = crate::table::TableBudget::new(&space, None, 0.0).expect("no limit");
    let run = |scores: &[f64]| {
        let mut rate = |genes: &Genes| Ok(scores[space.member_at(genes).expect("a member")]);
        search(&entrant, &space, &budget, 50, 1, &mut rate).expect("searches").0
    };
    let first = run(&scores);
    let told: Vec<Option<usize>> = first.iter().map(|trial| space.member_at(&trial.genes)).collect();
    let mut rng = stream(1, "test", 0);
    let mut others: Vec<f64> =
        (0..scores.len()).filter(|at| !told.contains(&Some(*at))).map(|at| scores[at]).collect();
    rng.shuffle(&mut others);
    let changed: Vec<f64> = (0..scores.len())
        .map(|at| if told.contains(&Some(at)) { scores[at] } else { others.pop().expect("one each") })
        .collect();
    assert_eq!(first, run(&changed));
}

/// Where scores have no structure, nothing can be foreseen: who finds the best then has read it.
#[test]
fn nobody_foresees_scores_without_structure() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = stream(2, "test", 0);
    let space = cells(folder.path(), &mut |_, _| rng.unit());
    let task = Task {
        space: &space,
        score: "accuracy".to_owned(),
        report: "test".to_owned(),
        limit: None,
        queries: 60,
        seeds: 8,
    };
    let entrants: Vec<Entrant> = ["npenas/ridge", "npenas/gin+ccl", "seminas", "tpe"]
        .iter()
        .map(|name| Entrant::parse(name, &[]).expect("an entrant"))
        .collect();
    for row in samplers(&task, &entrants, 0, &Kept::default(), &mut |_| false).expect("compares") {
        // The best of 60 uniform draws misses the best of all by 1/61 on average; of 8 searches, none comes near 0.
        assert!(row.regret.mean > 0.005, "{}: {}", row.sampler, row.regret.mean);
    }
}

#[test]
fn a_comparison_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let space = cells(folder.path(), &mut |_, ops| worth(ops));
    let task = Task {
        space: &space,
        score: "accuracy".to_owned(),
        report: "test".to_owned(),
        limit: None,
        queries: 20,
        seeds: 12,
    };
    let entrants: Vec<Entrant> =
        ["random", "tpe"].iter().map(|name| Entrant::parse(name, &[]).expect("an entrant")).collect();
    let whole = samplers(&task, &entrants, 0, &Kept::default(), &mut |_| false).expect("compares");
    let out = folder.path().join("out");
    let open = || Kept::open(&out).expect("opens");
    let stopped = samplers(&task, &entrants, 0, &open(), &mut |done| done > 12);
    assert!(matches!(stopped, Err(crate::error::Error::Interrupted)));
    let before = open().count();
    assert!((13..24).contains(&before), "{before}");
    let rows = samplers(&task, &entrants, 0, &open(), &mut |_| false).expect("goes on");
    assert_eq!(open().count(), 24);
    for (one, two) in whole.iter().zip(&rows) {
        assert_eq!((&one.standing.curves, one.standing.wins), (&two.standing.curves, two.standing.wins));
    }
    // Another number of queries is another search.
    let other = Task { queries: 21, ..task };
    samplers(&other, &entrants[..1], 0, &open(), &mut |_| false).expect("compares");
    assert_eq!(open().count(), 36);
}

#[test]
fn pairs_count_ties_half() {
    let (difference, below) = paired(&[1.0, 2.0, 3.0, 4.0], &[2.0, 2.0, 2.0, 2.0]);
    assert_eq!((difference.mean, below), (0.5, (1.0 + 0.5) / 4.0));
}
