//! What is tried, what is found wrong, what choices are kept under.

use super::*;
use crate::graph::GraphBuilder;
use crate::plan::CooperativeSizes;
use crate::session::Adapters;
use crate::tensor::Dtype;

/// A product by weights that are all `weight`.
fn product(weight: f32) -> Graph {
    let mut b = GraphBuilder::new("product", 20);
    let x = b.input("x", Dtype::F32, [16, 24].map(crate::graph::Dim::Fixed));
    let w = b.constant("w", Tensor::f32([24, 8], vec![weight; 192]).unwrap());
    let y = b.node("MatMul", "y", &[&x, &w], []);
    b.output(&y, Dtype::F32, [16, 8].map(crate::graph::Dim::Fixed));
    b.finish().unwrap()
}

fn on_an_adapter() -> bool {
    let found = !Adapters::list().is_empty();
    let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
    assert!(found || !required, "MASKTAS_REQUIRE_ENGINES is 1, but there is no adapter; run `make setup`");
    found
}

const PLAIN: Variant = Variant { class: AdapterClass::Gpu, subgroups: false, cooperative: false };
const COOPERATIVE: Variant = Variant { class: AdapterClass::Gpu, subgroups: true, cooperative: true };

/// A variant that gives another answer is told as wrong and not taken, though it is the only other one; one that does
/// not load is told as refused where it is experimental, and is an error where it is not.
#[test]
fn a_wrong_variant_is_not_chosen() {
    if !on_an_adapter() {
        return;
    }
    let options = Options::default();
    let (right, wrong) = (product(0.5), product(0.5002));
    let with = |variant: Variant| Session::load(if variant.cooperative { &wrong } else { &right }, &options);
    let mut told = Vec::new();
    let tell = |variant, tried| told.push((variant, tried));
    let (best, tried) = choose(vec![PLAIN, COOPERATIVE], with, Tolerance::F32, tell).unwrap();
    assert_eq!(best.unwrap().1, PLAIN);
    assert_eq!(told, tried);
    let Tried::Wrong { difference, allowed } = &tried[1].1 else { panic!("{tried:?}") };
    assert!((3e-4..5e-4).contains(difference) && *allowed == 1e-4, "{tried:?}");
    assert!(tried[1].1.to_string().contains("wrong by 4.0e-4"), "{}", tried[1].1);
    // Within the tolerance of 16 bits it is right.
    let (_, tried) = choose(vec![PLAIN, COOPERATIVE], with, Tolerance::F16, |_, _| ()).unwrap();
    assert!(matches!(tried[1].1, Tried::Time(_)), "{tried:?}");

    let missing = Options { adapter: Some("no such thing".into()), ..Options::default() };
    let with =
        |variant: Variant| Session::load(&right, if variant.cooperative { &missing } else { &options });
    let (best, tried) = choose(vec![PLAIN, COOPERATIVE], with, Tolerance::F32, |_, _| ()).unwrap();
    assert!(best.is_some() && matches!(tried[1].1, Tried::Refused(_)), "{tried:?}");
    let failing = |_| Session::load(&right, &missing);
    assert!(choose(vec![PLAIN], failing, Tolerance::F32, |_, _| ()).is_err());
}

#[test]
fn answers_that_are_not_finite_in_the_same_places_agree() {
    let answer = |values: [f32; 3]| vec![("y".to_owned(), Tensor::f32([3], values.to_vec()).unwrap())];
    let first = answer([1.0, f32::NAN, 2.0]);
    assert_eq!(differ(&first, &answer([1.0, f32::INFINITY, 2.0])), 0.0);
    assert_eq!(differ(&first, &answer([1.0, f32::NAN, 1.0])), 0.5);
    assert!(differ(&first, &answer([f32::NAN, f32::NAN, 2.0])).is_nan());
    assert!(differ(&first, &answer([1.0, 7.0, 2.0])).is_nan());
    // The worst is kept whatever comes after it.
    assert!(worst([0.1, f64::NAN, 0.2]).is_nan());
    assert_eq!(worst([0.1, 0.3, 0.2]), 0.3);
}

/// Cooperative matrices are among the variants where an adapter reports some and nothing is said against them, and a choice
/// among more variants is kept under another name.
#[test]
fn cooperative_matrices_are_offered_where_they_are_reported() {
    let Some(plain) = Adapters::list().into_iter().next() else {
        assert!(!on_an_adapter());
        return;
    };
    let plain = Adapter { cooperative: CooperativeSizes::NONE, backend: "metal".to_owned(), ..plain };
    let reporting = Adapter { cooperative: CooperativeSizes { f32: 8, f16: 0 }, ..plain.clone() };
    let on_vulkan = Adapter { backend: "vulkan".to_owned(), ..reporting.clone() };
    let options = |cooperative| Options { cooperative, ..Options::default() };
    let offered = |adapter: &Adapter, options: &Options| variants(adapter, options).contains(&COOPERATIVE);
    assert!(offered(&reporting, &Options::default()) && !offered(&plain, &Options::default()));
    assert!(!offered(&on_vulkan, &Options::default()), "by name alone");
    assert!(offered(&on_vulkan, &options(Cooperative::Always)));
    assert!(!offered(&reporting, &options(Cooperative::Never)));
    assert_eq!(variants(&reporting, &options(Cooperative::Always)), [COOPERATIVE]);
    assert!(!offered(&reporting, &Options { subgroups: false, ..Options::default() }));
    assert!(!offered(&reporting, &Options { class: Some(AdapterClass::Software), ..Options::default() }));
    let graph = product(1.0);
    let key = |adapter: &Adapter, options: &Options| super::key(adapter, &graph, options).unwrap();
    let (all, known) = (key(&reporting, &Options::default()), key(&plain, &Options::default()));
    assert_ne!(all, known);
    assert_ne!(all, key(&reporting, &options(Cooperative::Always)));
    assert_eq!(key(&reporting, &options(Cooperative::Never)), known);
    assert_eq!(COOPERATIVE.to_string(), "workgroup tiles with cooperative matrices");
}
