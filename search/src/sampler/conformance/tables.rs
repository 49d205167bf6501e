//! The same on tables, whose rows are a part of what their genes can say.

use std::fmt::Write as _;

use super::*;
use crate::table::{Definition, Rows, TableBudget, TableSpace};

/// Searches of tables that are soon used up.
const PREDICTED: usize = 60;

fn table(definition: &str, text: &str) -> TableSpace {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made.csv");
    std::fs::write(&path, text).expect("written");
    TableSpace::new(Definition::parse("made", definition).expect("reads"), Rows::read(&path).expect("rows"))
        .expect("a space")
}

/// Every third cell of three inner vertices: some edges, two operations.
fn dag() -> TableSpace {
    let mut text = "matrix,ops,accuracy,cost\n".to_owned();
    for number in (0..1usize << 12).step_by(3) {
        let bit = |at: usize| number >> at & 1;
        let (rows, ops) = (
            format!(
                "0{}{}{}{}/00{}{}{}/000{}{}/00001/00000",
                bit(0),
                bit(1),
                bit(2),
                bit(3),
                bit(4),
                bit(5),
                bit(6),
                bit(7),
                bit(8)
            ),
            (9..12).map(|at| ["conv", "pool"][bit(at)]).collect::<Vec<_>>().join("-"),
        );
        let (accuracy, cost) = (number.count_ones() + 3 * bit(9) as u32, number.count_zeros());
        writeln!(text, "{rows},in-{ops}-out,{accuracy},{cost}").expect("text");
    }
    let definition = "name = 'made'\nkind = 'dag'\nadjacency = 'matrix'\nops = 'ops'\nscores = ['accuracy']\nreports = ['accuracy']\n";
    table(definition, &text)
}

/// Some cells of four edges with three operations.
fn edges() -> TableSpace {
    let mut text = "ops,accuracy,cost\n".to_owned();
    for number in (0..81usize).filter(|number| number % 4 != 1) {
        let ops: Vec<usize> = (0..4).map(|at| number / 3usize.pow(at) % 3).collect();
        let words: Vec<String> = ops.iter().map(ToString::to_string).collect();
        let sum: usize = ops.iter().enumerate().map(|(at, op)| op * (at + 1)).sum();
        writeln!(text, "{},{sum},{}", words.join("-"), ops.iter().sum::<usize>()).expect("text");
    }
    let definition = "name = 'made'\nkind = 'edges'\nops = 'ops'\nedges = [[0,1],[0,2],[1,2],[2,3]]\nnone = '0'\nskip = '1'\n\
                      scores = ['accuracy']\nreports = ['accuracy']\n";
    table(definition, &text)
}

/// Some chains of two to four layers.
fn chain() -> TableSpace {
    let mut text = "width,heads,accuracy,cost\n".to_owned();
    for number in 0..96usize {
        let layers: Vec<usize> = (0..2 + number % 3).map(|at| 1 + (number >> at & 3) % 3).collect();
        let words: Vec<String> = layers.iter().map(ToString::to_string).collect();
        let sum: usize = layers.iter().sum();
        writeln!(
            text,
            "{},{},{},{}",
            32 * (1 + number % 2),
            words.join("-"),
            sum * (1 + number % 2),
            layers.len()
        )
        .expect("text");
    }
    let definition = "name = 'made'\nkind = 'chain'\nscalars = ['width']\nlayers = ['heads']\n\
                      scores = ['accuracy']\nreports = ['accuracy']\n";
    table(definition, &text)
}

/// `count` trials after those of `told`.
fn searched(
    name: &str,
    space: &TableSpace,
    budget: &TableBudget<'_>,
    seed: u64,
    told: &[Trial],
    count: usize,
) -> Vec<Trial> {
    let scores = space.column("accuracy").expect("a column");
    driven(name, space, budget, seed, told, count, &|genes| scores[space.member_at(genes).expect("a member")])
}

/// Members of the table alone, within the limit, each once, until there are no more; one seed, one search, also from any place on.
#[test]
fn tables_are_searched_like_spaces() {
    for space in [dag(), edges(), chain()] {
        assert!(!space.complete, "{}", space.count());
        let costs = space.column("cost").expect("a column");
        let mut sorted = costs.clone();
        sorted.sort_by(f64::total_cmp);
        let most = sorted[sorted.len() / 3];
        let fitting = costs.iter().filter(|cost| **cost <= most).count();
        let budget = TableBudget::new(&space, Some("cost"), most).expect("budget");
        for name in NAMES {
            let count = fitting.min(PREDICTED);
            let whole = searched(name, &space, &budget, 1, &[], count);
            assert_eq!(whole.len(), count, "{name}");
            assert!(whole.iter().all(|trial| trial.cost <= most), "{name}");
            let distinct: BTreeSet<&Genes> = whole.iter().map(|trial| &trial.genes).collect();
            assert_eq!(distinct.len(), whole.len(), "{name}");
            for stop in [0, 1, 13, count / 2, count - 1] {
                let rest = searched(name, &space, &budget, 1, &whole[..stop], 3.min(count - stop));
                assert_eq!(rest, whole[..rest.len()], "{name} after {stop}");
            }
            assert_ne!(whole, searched(name, &space, &budget, 2, &[], count), "{name}");
            if fitting <= PREDICTED {
                assert_eq!(searched(name, &space, &budget, 1, &whole, 1), whole, "{name}: nothing is left");
            }
            let none = TableBudget::new(&space, Some("cost"), -1.0).expect("budget");
            let error = sampler(name).ask(&space, &none, &mut proposal_rng(1, 0)).expect_err("infeasible");
            assert_eq!(error.to_string(), none.infeasible().to_string(), "{name}");
        }
    }
}
