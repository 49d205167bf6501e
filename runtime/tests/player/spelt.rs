//! Normalisations that a file spells out: they become the same kernels as those by name, and nothing else does.

use crate::common::{adapter, compare, random, unchecked, validate};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::plan::{Passes, Plan, PlanOptions, Target, plan_with};
use masktas_runtime::session::{Options, Session};
use masktas_runtime::{Attribute, Dim, Dtype, Graph, Tensor, ValueInfo};

/// How a normalisation is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// By its name.
    Named,
    /// ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, as PyTorch's exporter writes it.
    Powers,
    /// Mul for Pow, the epsilon first, Pow for Sqrt, and the difference computed twice.
    Products,
    /// Means over another axis.
    OtherAxis,
    /// The mean of cubes.
    Cubes,
    /// The deviation of something else than what it divides.
    OtherDeviation,
    /// The epsilon added to the root, not under it.
    EpsilonOutside,
    /// The mean over one axis, the mean of squares over another.
    TwoAxes,
}

/// Two normalisations, each before a product with a bias and a residual: `[2, 9, 16]` in and out.
fn graph(form: Form, centred: bool) -> Graph {
    let mut b = GraphBuilder::new("spelt", 17);
    let mut x = b.input("x", Dtype::F32, [2, 9, 16].map(Dim::Fixed));
    let other = b.input("other", Dtype::F32, [2, 9, 16].map(Dim::Fixed));
    let scalar = |b: &mut GraphBuilder, name: &str, value: f32| {
        b.constant(name, Tensor::f32([], vec![value]).unwrap())
    };
    let exponent = scalar(&mut b, "exponent", if form == Form::Cubes { 3.0 } else { 2.0 });
    let (half, tiny) = (scalar(&mut b, "half", 0.5), scalar(&mut b, "tiny", 1e-3));
    for at in 0..2 {
        let name = |what: &str| format!("{what}{at}");
        let gain = b.constant(&name("gain"), random(&[16], 10 + at));
        let shift = b.constant(&name("shift"), random(&[16], 20 + at));
        let normal = if form == Form::Named {
            let op = if centred { "LayerNormalization" } else { "RMSNormalization" };
            let epsilon = ("epsilon", Attribute::Float(1e-3));
            let inputs = if centred { vec![x.as_str(), &gain, &shift] } else { vec![x.as_str(), &gain] };
            b.node(op, &name("normal"), &inputs, [epsilon])
        } else {
            let along = Attribute::Ints(vec![if form == Form::OtherAxis { 1 } else { -1 }]);
            let axes = || [("axes", along.clone())];
            let others = match form {
                Form::TwoAxes => [("axes", Attribute::Ints(vec![1]))],
                _ => axes(),
            };
            let (mut c, mut again) = (x.clone(), x.clone());
            if centred {
                let mean = b.node("ReduceMean", &name("mean"), &[&x], axes());
                c = b.node("Sub", &name("centred"), &[&x, &mean], []);
                again = match form {
                    Form::Products => b.node("Sub", &name("again"), &[&x, &mean], []),
                    _ => c.clone(),
                };
            }
            if form == Form::OtherDeviation {
                again = other.clone();
            }
            let square = match form {
                Form::Products => b.node("Mul", &name("square"), &[&again, &again], []),
                _ => b.node("Pow", &name("square"), &[&again, &exponent], []),
            };
            let variance = b.node("ReduceMean", &name("variance"), &[&square], others);
            let stable = match form {
                Form::EpsilonOutside => variance,
                Form::Products => b.node("Add", &name("stable"), &[&tiny, &variance], []),
                _ => b.node("Add", &name("stable"), &[&variance, &tiny], []),
            };
            let deviation = match form {
                Form::Products => b.node("Pow", &name("deviation"), &[&stable, &half], []),
                _ => b.node("Sqrt", &name("deviation"), &[&stable], []),
            };
            let deviation = match form {
                Form::EpsilonOutside => b.node("Add", &name("outside"), &[&deviation, &tiny], []),
                _ => deviation,
            };
            let plain = b.node("Div", &name("plain"), &[&c, &deviation], []);
            let gained = b.node("Mul", &name("gained"), &[&plain, &gain], []);
            if centred { b.node("Add", &name("shifted"), &[&gained, &shift], []) } else { gained }
        };
        let weights = b.constant(&name("weights"), random(&[16, 16], 30 + at));
        let bias = b.constant(&name("bias"), random(&[16], 40 + at));
        let product = b.node("MatMul", &name("product"), &[&normal, &weights], []);
        let biased = b.node("Add", &name("biased"), &[&product, &bias], []);
        x = b.node("Add", &name("residual"), &[&biased, &x], []);
    }
    unchecked(b, &[&x])
}

fn planned(graph: &Graph, passes: Passes) -> Plan {
    let plan = plan_with(graph, &Target::software(), &PlanOptions { passes, ..Default::default() }).unwrap();
    validate(&plan);
    plan
}

fn run(plan: Plan) -> Tensor {
    let session = Session::from_plan(plan, &Options::default()).unwrap();
    // Far from zero, so that mean and deviation matter.
    let shifted = random(&[2, 9, 16], 2).as_f32().unwrap().iter().map(|v| v + 3.0).collect::<Vec<_>>();
    let x = Tensor::f32([2, 9, 16], shifted).unwrap();
    session.run(&[("x", x), ("other", random(&[2, 9, 16], 3))]).unwrap().remove(0).1
}

#[test]
fn normalisations_spelt_out_are_those_by_name() {
    for centred in [true, false] {
        let named = planned(&graph(Form::Named, centred), Passes::ALL);
        assert_eq!(named.dispatches.len(), 2, "each is inside its product");
        for form in [Form::Powers, Form::Products] {
            let graph = graph(form, centred);
            let plan = planned(&graph, Passes::ALL);
            let families = |plan: &Plan| plan.dispatches.iter().map(|d| d.family.clone()).collect::<Vec<_>>();
            assert_eq!(families(&plan), families(&named), "centred {centred}");
            let without = planned(&graph, Passes { recompose: false, ..Passes::ALL });
            assert!(without.dispatches.len() > plan.dispatches.len());
            // The nodes it stands for are named.
            let nodes = &plan.dispatches[0].nodes;
            assert!(
                nodes.iter().any(|n| n.contains("variance")) && nodes.iter().any(|n| n.contains("plain"))
            );
            if adapter() {
                let got = run(plan);
                compare("spelt", &got, &run(named.clone()), 1e-5);
                compare("spelt, pass off", &got, &run(without), 1e-5);
            }
        }
    }
}

#[test]
fn what_is_no_normalisation_stays_what_it_is() {
    let forms = [Form::OtherAxis, Form::Cubes, Form::OtherDeviation, Form::EpsilonOutside, Form::TwoAxes];
    for form in forms {
        for centred in [true, false] {
            let graph = graph(form, centred);
            let plan = planned(&graph, Passes::ALL);
            let normal = |plan: &Plan| plan.dispatches.iter().any(|d| d.family.contains("norm"));
            assert!(!normal(&plan));
            if adapter() {
                let plain = run(planned(&graph, Passes::NONE));
                // Roots of negative means of cubes are no numbers in either.
                compare("no normalisation", &run(plan), &plain, 1e-5);
            }
        }
    }
}

/// What a normalisation is spelt with can be asked for: it is computed still, whatever becomes of the normalisation.
#[test]
fn what_a_normalisation_is_spelt_with_stays_an_output() {
    let mut graph = graph(Form::Powers, true);
    for (name, last) in [("centred0", 16), ("variance0", 1), ("deviation0", 1), ("plain1", 16)] {
        let shape = [2, 9, last].map(Dim::Fixed).to_vec();
        graph.outputs.push(ValueInfo { name: name.to_owned(), dtype: Dtype::F32, shape });
    }
    let (all, none) = (planned(&graph, Passes::ALL), planned(&graph, Passes::NONE));
    assert_eq!(all.outputs.len(), 5);
    if !adapter() {
        return;
    }
    let inputs = [("x", random(&[2, 9, 16], 2)), ("other", random(&[2, 9, 16], 3))];
    let answers = |plan| Session::from_plan(plan, &Options::default()).unwrap().run(&inputs).unwrap();
    for ((name, got), (_, want)) in answers(all).iter().zip(&answers(none)) {
        compare(name, got, want, 1e-5);
    }
}
