use super::*;
use crate::rand::{Draw, stream};
use crate::space::VitSpace;

const ALL: [(&str, &str, f64); 7] = [
    ("ridge", "none", 0.7),
    ("mlp", "none", 0.5),
    ("gin", "none", 0.4),
    ("gin", "ged", 0.2),
    ("gin", "ccl", 0.3),
    ("encoder-decoder", "none", 0.5),
    ("encoder-decoder-supervised", "none", 0.5),
];

fn predictor(name: &str, pretrain: &str) -> Box<dyn Predictor> {
    let settings = recipe::Predictor { name: name.to_owned(), pretrain: pretrain.to_owned() };
    by_name(&settings).expect("registered").expect("a predictor")
}

/// Members with a score that a person could have: wide and deep is good, later heads more so.
fn rated(space: &VitSpace, count: usize, step: u64) -> Vec<(Genes, f64)> {
    let mut rng = stream(5, "test", step);
    (0..count)
        .map(|_| {
            let genes = space.sample(&mut rng);
            let arch = space.vit(&genes);
            let heads: f64 =
                arch.blocks.iter().enumerate().map(|(at, block)| at as f64 * block.heads as f64).sum();
            let score = (arch.embed as f64 / 32.0) + arch.blocks.len() as f64 + heads / 40.0;
            (genes, score + 0.05 * rng.normal())
        })
        .collect()
}

#[test]
fn every_predictor_ranks_what_it_has_not_seen_and_states_an_interval() {
    let space = VitSpace::load("vit-micro").expect("space");
    let (known, new) = (rated(&space, 100, 0), rated(&space, 200, 1));
    let genes: Vec<Genes> = new.iter().map(|(genes, _)| genes.clone()).collect();
    let wanted: Vec<f64> = new.iter().map(|(_, score)| *score).collect();
    for (name, pretrain, least) in ALL {
        let mut one = predictor(name, pretrain);
        assert_eq!(one.name(), name);
        one.fit(&space, &known).expect("fits");
        let guesses = one.predict(&space, &genes).expect("guesses");
        let values: Vec<f64> = guesses.iter().map(|guess| guess.value).collect();
        let tau = crate::compare::kendall(&values, &wanted);
        assert!(tau > least, "{name} {pretrain}: {tau}");
        let inside = guesses.iter().zip(&wanted).filter(|(g, y)| g.low <= **y && **y <= g.high).count();
        assert!(inside > 150, "{name} {pretrain}: {inside} of 200 inside");
        assert!(guesses.iter().all(|guess| guess.low <= guess.value && guess.value <= guess.high));
        // The same again, to the bit; once for the graph network, which takes longest.
        if name == "gin" && pretrain != "none" {
            continue;
        }
        let mut two = predictor(name, pretrain);
        two.fit(&space, &known).expect("fits");
        assert_eq!(two.predict(&space, &genes).expect("guesses"), guesses, "{name} {pretrain}");
    }
}

/// What many ratings of one thing teach, a head for another thing learns with them: it ranks better than its few values allow.
#[test]
fn heads_learn_from_each_other() {
    let space = VitSpace::load("vit-micro").expect("space");
    let (known, new) = (rated(&space, 100, 0), rated(&space, 200, 1));
    let genes: Vec<Genes> = new.iter().map(|(genes, _)| genes.clone()).collect();
    let wanted: Vec<f64> = new.iter().map(|(_, score)| -3.0 * score).collect();
    let few = 8;
    let both: Vec<(Genes, Vec<f64>)> = (known.iter().enumerate())
        .map(|(at, (genes, score))| {
            (genes.clone(), vec![*score, if at < few { -3.0 * score } else { f64::NAN }])
        })
        .collect();
    let alone: Vec<(Genes, f64)> =
        both[..few].iter().map(|(genes, values)| (genes.clone(), values[1])).collect();
    let tau = |guesses: Vec<f64>| crate::compare::kendall(&guesses, &wanted);
    for (name, pretrain) in
        [("ridge", "none"), ("mlp", "none"), ("gin", "none"), ("gin", "ccl"), ("encoder-decoder", "none")]
    {
        let mut one = predictor(name, pretrain);
        one.fit(&space, &alone).expect("fits");
        let by_itself = tau(one.predict(&space, &genes).expect("guesses").iter().map(|g| g.value).collect());
        one.fit_heads(&space, &both).expect("fits");
        let guesses = one.predict_heads(&space, &genes).expect("guesses");
        assert!(guesses.iter().all(|heads| heads.len() == 2));
        assert!(guesses.iter().flatten().all(|guess| guess.low <= guess.value && guess.value <= guess.high));
        let together = tau(guesses.iter().map(|heads| heads[1].value).collect());
        if name == "ridge" {
            assert_eq!(together, by_itself, "its heads share nothing");
        } else {
            assert!(
                together > by_itself + 0.05,
                "{name} {pretrain}: {together} beside another head, {by_itself} alone"
            );
        }
    }
    let mut odd = both.clone();
    odd[3].1.pop();
    let error = predictor("mlp", "none").fit_heads(&space, &odd).expect_err("uneven").to_string();
    assert!(error.contains("with 2 and with 1 values"), "{error}");
    let mut bare = both;
    bare.iter_mut().skip(4).for_each(|(_, values)| values[1] = f64::NAN);
    let error = predictor("mlp", "none").fit_heads(&space, &bare).expect_err("too few").to_string();
    assert!(error.contains("head 1") && error.contains("4 rated"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let space = VitSpace::load("vit-micro").expect("space");
    for (name, pretrain, _) in ALL {
        let mut one = predictor(name, pretrain);
        assert!(one.predict(&space, &[]).is_err());
        let error = one.fit(&space, &rated(&space, 4, 0)).expect_err("too few").to_string();
        assert!(error.contains("4 rated") && error.contains('5'), "{error}");
    }
    let settings =
        |name: &str, pretrain: &str| recipe::Predictor { name: name.into(), pretrain: pretrain.into() };
    let error = by_name(&settings("gni", "none")).err().expect("unknown").to_string();
    assert!(error.contains("did you mean `gin`"), "{error}");
    let error = by_name(&settings("ridge", "ccl")).err().expect("refused").to_string();
    assert!(error.contains("is not supported"), "{error}");
    let mut odd = predictor("gin", "cll");
    let error = odd.fit(&space, &rated(&space, 10, 0)).expect_err("unknown").to_string();
    assert!(error.contains("did you mean `ccl`"), "{error}");
}
