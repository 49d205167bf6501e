//! The session: adapters, inputs, threads, errors.

use crate::common::vit::Vit;
use crate::common::{adapter, random, unchecked};
use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::session::{AdapterKind, Adapters, Options, Session};
use masktas_runtime::{Data, Dim, Dtype, Error, Graph, Tensor};

const SMALL: Vit = Vit { image: 12, patch: 4, width: 24, heads: 2, head: 8, hidden: 36, depth: 1 };

fn doubled() -> Graph {
    let mut b = GraphBuilder::new("doubled", 20);
    let x = b.input("x", Dtype::F32, [Dim::Symbol("n".into()), Dim::Fixed(3)]);
    b.node("Add", "y", &[&x, &x], []);
    b.output("y", Dtype::F32, [Dim::Symbol("n".into()), Dim::Fixed(3)]);
    b.finish().unwrap()
}

#[test]
fn adapters_are_listed_in_a_steady_order() {
    let list = Adapters::list();
    assert_eq!(list, Adapters::list());
    for (index, adapter) in list.iter().enumerate() {
        assert_eq!(adapter.index, index);
        assert!(!adapter.name.is_empty() && adapter.target.max_buffer_size > 0);
    }
    assert!(list.is_sorted_by_key(|a| a.kind));
}

#[test]
fn a_missing_adapter_is_an_error_with_a_next_step() {
    let wanted = Options { adapter: Some("no such thing".into()), ..Options::default() };
    let mut graph = doubled();
    graph.inputs[0].shape[0] = Dim::Fixed(2);
    let error = Session::load(&graph, &wanted).unwrap_err();
    assert!(matches!(&error, Error::UnknownAdapter { .. } | Error::NoAdapter { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("no such thing")
            && (text.contains("choose one of") || text.contains("apt-get install"))
    );
    if Adapters::list().iter().all(|a| a.kind == AdapterKind::Software) {
        let hardware = Options { allow_software: false, ..Options::default() };
        assert!(matches!(Session::load(&graph, &hardware), Err(Error::NoAdapter { .. })));
    }
}

#[test]
fn sizes_of_symbols_that_are_not_there_are_refused() {
    use masktas_runtime::plan::{PlanOptions, Target, plan_with};
    let refused = |graph: &Graph, symbols: &[(&str, usize)]| {
        let symbols = symbols.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        let options = PlanOptions { symbols, ..PlanOptions::default() };
        plan_with(graph, &Target::software(), &options).err().map(|error| error.to_string())
    };
    let mut graph = doubled();
    assert_eq!(refused(&graph, &[("n", 2)]), None);
    let text = refused(&graph, &[("n", 2), ("batch", 7)]).unwrap();
    assert!(text.contains("'batch' the size 7") && text.contains("symbols are 'n'"), "{text}");
    graph.inputs[0].shape[0] = Dim::Fixed(2);
    graph.outputs[0].shape[0] = Dim::Fixed(2);
    let text = refused(&graph, &[("n", 2)]).unwrap();
    assert!(text.contains("no symbolic extents; leave 'n' out"), "{text}");
}

#[test]
fn what_a_file_is_not_is_said_with_its_name() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cut.onnx");
    std::fs::write(&path, [10, 200]).unwrap();
    let error = masktas_runtime::onnx::read_file(&path).unwrap_err();
    assert!(matches!(&error, Error::InFile { source, .. } if matches!(**source, Error::NotOnnx { .. })));
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: not an ONNX file: ", path.display())), "{text}");
}

#[test]
fn inputs_are_checked_by_name_type_and_shape() {
    if !adapter() {
        return;
    }
    let graph = doubled();
    let unbound = Session::load(&graph, &Options::default()).unwrap_err();
    assert!(matches!(unbound, Error::UnboundSymbol { .. }));
    assert!(unbound.to_string().contains("'n'; give it a size by `Options::symbols`"), "{unbound}");
    let options = Options { symbols: [("n".to_owned(), 2)].into(), ..Options::default() };
    let session = Session::load(&graph, &options).unwrap();
    let good = Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let got = session.run(&[("x", good.clone())]).unwrap();
    assert_eq!(got, [("y".to_owned(), Tensor::f32([2, 3], vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.0]).unwrap())]);
    let bad: [&[(&str, Tensor)]; 5] = [
        &[],
        &[("z", good.clone())],
        &[("x", good.clone()), ("x", good.clone())],
        &[("x", random(&[3, 2], 1))],
        &[("x", Tensor::new(vec![2, 3], Data::I32([0; 6].into())).unwrap())],
    ];
    for inputs in bad {
        let error = session.run(inputs).unwrap_err();
        assert!(matches!(&error, Error::InputMismatch { .. }), "{error}");
    }
    let unset = session.run(&[("x", Tensor::unset([2, 3], Dtype::F32))]).unwrap_err();
    assert!(matches!(unset, Error::Unset { .. }));
    // The session still works after refused runs.
    assert_eq!(session.run(&[("x", good)]).unwrap(), got);
}

#[test]
fn threads_share_a_session_and_sessions_share_an_adapter() {
    if !adapter() {
        return;
    }
    let (graph, _) = SMALL.build();
    let shared = Session::load(&graph, &Options::default()).unwrap();
    let image = |seed| random(&[1, 3, 12, 12], seed);
    let want: Vec<_> = (0..4).map(|s| shared.run(&[("image", image(s))]).unwrap()).collect();
    assert_ne!(want[0], want[1]);
    std::thread::scope(|scope| {
        for (seed, want) in want.iter().enumerate() {
            let (graph, shared) = (&graph, &shared);
            scope.spawn(move || {
                let own = Session::load(graph, &Options::default()).unwrap();
                for _ in 0..3 {
                    assert_eq!(&shared.run(&[("image", image(seed as u64))]).unwrap(), want);
                    assert_eq!(&own.run(&[("image", image(seed as u64))]).unwrap(), want);
                }
            });
        }
    });
}

#[test]
fn info_tells_where_and_what() {
    if !adapter() {
        return;
    }
    let (mut graph, _) = SMALL.build();
    graph.metadata.insert("classes".into(), "one,two".into());
    let session = Session::load(&graph, &Options::default()).unwrap();
    let info = session.info();
    assert_eq!((info.inputs[0].name.as_str(), info.outputs[0].name.as_str()), ("image", "features"));
    assert_eq!(info.outputs[0].shape, [1, 24]);
    assert_eq!(info.metadata["classes"], "one,two");
    assert!(
        info.dispatches
            .iter()
            .any(|d| d.family == "attention" && d.nodes.contains(&"block0.softmax".to_owned()))
    );
    assert!(info.pipelines <= info.dispatches.len() && info.memory.total() > 0);
}

/// More than any adapter has: refused by plan or by driver, never a crash.
#[test]
fn too_large_a_model_is_an_error() {
    if !adapter() {
        return;
    }
    let mut b = GraphBuilder::new("huge", 20);
    let x = b.input("x", Dtype::F32, [1 << 20, 1 << 16].map(Dim::Fixed));
    let y = b.node("Exp", "y", &[&x], []);
    let graph = unchecked(b, &[&y]);
    let error = Session::load(&graph, &Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::Limit { .. } | Error::AdapterMemory { .. } | Error::Unsupported { .. }),
        "{error}"
    );
}
