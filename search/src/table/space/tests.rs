use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use crate::rand::stream;

/// A published table, where the data are at hand.
pub(crate) fn published(file: &str) -> Option<TableSpace> {
    let Some(data) = std::env::var_os("MASKTAS_DATA") else {
        println!("skipped: MASKTAS_DATA does not say where {file} is");
        return None;
    };
    let path = PathBuf::from(data).join("nas").join(file);
    Some(TableSpace::load(&path, None).expect("table"))
}

fn made(text: &str, definition: &str) -> Result<TableSpace> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("mine.csv");
    std::fs::write(&path, text).expect("written");
    std::fs::write(path.with_extension("toml"), definition).expect("written");
    TableSpace::load(&path, None)
}

const CHAIN: &str = "name = 'mine'\nkind = 'chain'\nscalars = ['width']\nlayers = ['heads']\nscores = ['acc']\nreports = ['acc']\n";

#[test]
fn a_chain_has_conditional_genes_and_operators_stay_among_the_rows() {
    let text = "width,heads,acc\n64,2-2,1\n64,2-4,2\n128,4-4-2,3\n64,2-2,9\n128,2-4,4\n";
    let space = made(text, CHAIN).expect("space");
    let names: Vec<&str> = space.genes().iter().map(|gene| gene.name.as_str()).collect();
    assert_eq!(names, ["width", "depth", "heads.0", "heads.1", "heads.2"]);
    assert_eq!(space.count(), 4, "equal rows are one member");
    assert_eq!(
        space.repeats("acc").expect("numbers"),
        (1, 1),
        "the fourth row says 9 where the first said 1"
    );
    assert_eq!(space.members()[0].active, [true, true, true, true, false]);
    assert_eq!(space.members()[2].active, [true; 5]);
    assert_eq!(space.column("acc").expect("numbers"), [1.0, 2.0, 3.0, 4.0]);
    let distance = |a: usize, b: usize| {
        space.graph(&space.members()[a]).code().distance(&space.graph(&space.members()[b]).code())
    };
    assert_eq!((distance(0, 1), distance(1, 3), distance(1, 2)), (2, 2, 5));
    let mut rng = stream(1, "test", 0);
    for _ in 0..50 {
        let genes = space.sample(&mut rng);
        let mutant = space.mutate(&genes, 0.5, 0.5, &mut rng);
        assert!(space.member_at(&mutant).is_some() && mutant != genes);
        assert!(space.member_at(&space.member(vec![1, 1, 0, 1, 1], &mut rng)).is_some());
        assert_eq!(space.parse(&space.id(&genes)), Some(genes));
    }
    assert_eq!(space.parse("r3"), None, "a repeated row is no member");
    assert_eq!(space.parse("r04"), None);
}

#[test]
fn cells_that_do_not_fit_are_named() {
    let error =
        made("width,heads,acc\n64,2-2,1\n", &CHAIN.replace("'heads'", "'haeds'")).unwrap_err().to_string();
    assert!(error.contains("did you mean `heads`"), "{error}");
    let space = made("width,heads,acc\n64,2-2,one\n", CHAIN).expect("space");
    let error = space.column("acc").unwrap_err().to_string();
    assert!(error.contains("line 2, column acc") && error.contains("`one`"), "{error}");
    let dag = "name = 'mine'\nkind = 'dag'\nadjacency = 'm'\nops = 'o'\nscores = ['a']\nreports = ['a']\n";
    let error =
        made("m,o,a\n01/00,input-output,1\n011/001/000,input-x-output,1\n", dag).unwrap_err().to_string();
    assert!(error.contains("2 rows for 2 operations"), "{error}");
}

#[test]
fn in_a_cell_operations_on_no_path_do_not_matter() {
    let dag = "name = 'mine'\nkind = 'dag'\nadjacency = 'm'\nops = 'o'\nscores = ['a']\nreports = ['a']\n";
    let rows = "m,o,a\n0101/0000/0001/0000,i-x-y-o,1\n0101/0000/0001/0000,i-y-x-o,1\n0101/0001/0000/0000,i-x-y-o,2\n";
    let space = made(rows, dag).expect("space");
    assert_eq!(space.count(), 2, "the first two are one");
    assert_eq!(space.members()[0].active[6..], [false, false]);
    assert_eq!(space.members()[1].active[6..], [true, false]);
}

/// Every one of NAS-Bench-201's cells: what the table says is one function has one key. The table tells 6,466 cells apart, as its authors
/// do, who keep a sum within a sum and an operation on nothing; taken out, 4,930 are left.
#[test]
fn keys_of_nasbench201_agree_with_the_table() {
    let Some(space) = published("nasbench201.csv") else { return };
    assert_eq!((space.count(), space.complete), (15_625, true));
    let mut of_key: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut of_group: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (genes, group) in space.members().iter().zip(space.groups().expect("groups")) {
        let key = space.key(genes);
        of_key.entry(key.clone()).or_default().insert(group.clone());
        of_group.entry(group).or_default().insert(key);
    }
    assert_eq!(of_group.len(), 6466);
    let torn = of_group.values().filter(|keys| keys.len() > 1).count();
    assert_eq!((of_key.len(), torn), (4930, 0));
    let key = |row: &str| space.key(&space.parse(row).expect("a row"));
    // Two orders of one sum: x + c(c(x)) + c(x) + p(c(x)).
    let rows = space.members().iter().filter(|genes| space.key(genes) == key("r1")).count();
    assert!(rows > 1, "{rows}");
}

#[test]
fn published_tables_read() {
    for (file, members) in
        [("nasbench101_subset.csv", 3609), ("nasbench_macro.csv", 6561), ("vit_autoformer.csv", 200)]
    {
        let Some(space) = published(file) else { return };
        assert!(
            space.count() <= members && space.count() as f64 > 0.9 * members as f64,
            "{file}: {}",
            space.count()
        );
        for score in space.definition().scores.iter().chain(&space.definition().reports) {
            assert!(
                space.column(score).expect("a column").iter().any(|value| value.is_finite()),
                "{file} {score}"
            );
        }
        let mut rng = stream(1, "test", 0);
        for _ in 0..20 {
            let genes = space.sample(&mut rng);
            let mutant = space.mutate(&genes, 0.4, 0.2, &mut rng);
            assert!(space.member_at(&mutant).is_some());
            assert_eq!(space.parse(&space.id(&genes)), Some(genes.clone()));
            assert!(
                space
                    .graph(&genes)
                    .labels
                    .iter()
                    .all(|label| usize::from(*label) < space.graph(&genes).vocabulary)
            );
        }
    }
}
