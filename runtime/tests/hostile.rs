//! Files and graphs from nobody in particular: reader and planner give an error or an answer, never a panic, and never more
//! memory than a small multiple of what they were given.
//!
//! Small sane models are changed at random, as bytes for the reader and as graphs for the planner. A fixed number of
//! changes is tried by default; `MASKTAS_FUZZ_SECONDS` goes on for that long from another seed, which is printed.

mod models;

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use masktas_runtime::onnx;
use masktas_runtime::plan::{PlanOptions, Target, plan_with};
use masktas_runtime::{Attribute, Data, Dim, Graph, Tensor};

/// Changes tried on each model without `MASKTAS_FUZZ_SECONDS`.
const ROUNDS: usize = 2000;
/// Most memory that one small model may take while it is read and planned, in bytes.
const MEMORY_MAX: usize = 1 << 30;
/// Longest that it may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Counts what is allocated, and the most of it.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A number at which arithmetic is likely to go wrong.
    fn awkward(&mut self) -> i64 {
        let small = self.below(9) as i64 - 3;
        *self.pick(&[
            0,
            1,
            -1,
            2,
            small,
            small,
            255,
            1 << 16,
            1 << 31,
            (1 << 31) - 1,
            1 << 40,
            i64::MAX,
            i64::MIN,
        ])
    }
}

/// Held while memory is counted, which is the whole program's.
static TURN: Mutex<()> = Mutex::new(());

/// Reads and plans what is given; an error is fine, a panic, much memory or much time is not. The most memory it took.
fn survive(what: impl Fn() -> String, work: impl FnOnce()) -> usize {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    MOST.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
    let (before, start) = (NOW.load(Ordering::Relaxed), Instant::now());
    let result = catch_unwind(AssertUnwindSafe(work));
    let (took, memory) = (start.elapsed(), MOST.load(Ordering::Relaxed).saturating_sub(before));
    assert!(result.is_ok(), "{}: it panicked", what());
    assert!(memory < MEMORY_MAX, "{}: it took {memory} bytes", what());
    assert!(took < TIME_MAX, "{}: it took {took:?}", what());
    memory
}

fn plan(graph: &Graph) {
    for target in [Target::webgpu_minimum(), Target::software()] {
        // A size for a symbol that is not there would be refused before anything is planned.
        let symbols = graph.symbols().contains("n").then(|| ("n".to_owned(), 2)).into_iter().collect();
        let options = PlanOptions { symbols, ..PlanOptions::default() };
        drop(plan_with(graph, &target, &options));
    }
}

fn changed_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.next() as u8),
            _ => {
                let end = (at + random.below(12)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

fn changed_graph(graph: &Graph, ops: &[String], random: &mut Random) -> Graph {
    let mut graph = graph.clone();
    for _ in 0..=random.below(3) {
        let count = graph.nodes.len();
        let node = random.below(count);
        match random.below(8) {
            0 => graph.nodes[node].op = random.pick(ops).clone(),
            1 => {
                let names: Vec<String> = graph.nodes[node].attributes.keys().cloned().collect();
                let name = if names.is_empty() { "axis".to_owned() } else { random.pick(&names).clone() };
                let value = match graph.nodes[node].attributes.get(&name) {
                    Some(Attribute::Ints(list)) => {
                        let mut list = list.clone();
                        let at = random.below(list.len() + 1);
                        if at < list.len() {
                            list[at] = random.awkward()
                        } else {
                            list.push(random.awkward())
                        }
                        Attribute::Ints(list)
                    }
                    Some(Attribute::Float(_)) => {
                        Attribute::Float(*random.pick(&[0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30, f32::MAX]))
                    }
                    Some(Attribute::Text(_)) => Attribute::Text("none".to_owned()),
                    _ => Attribute::Int(random.awkward()),
                };
                graph.nodes[node].attributes.insert(name, value);
            }
            2 => {
                let inputs = graph.nodes[node].inputs.len();
                if inputs > 0 {
                    let at = random.below(inputs);
                    let all: Vec<String> = graph
                        .inputs
                        .iter()
                        .map(|i| i.name.clone())
                        .chain(graph.constants.keys().cloned())
                        .collect();
                    graph.nodes[node].inputs[at] =
                        if random.below(3) == 0 { String::new() } else { random.pick(&all).clone() };
                }
            }
            3 => drop(graph.nodes[node].inputs.pop()),
            4 => {
                let input = random.below(graph.inputs.len());
                let shape = &mut graph.inputs[input].shape;
                let extent = Dim::Fixed(usize::try_from(random.awkward()).unwrap_or(3));
                let at = random.below(shape.len() + 1);
                if at < shape.len() { shape[at] = extent } else { shape.push(extent) }
            }
            5 => {
                let names: Vec<String> = graph.constants.keys().cloned().collect();
                if let Some(name) = names.get(random.below(names.len().max(1))) {
                    let tensor = graph.constants[name].clone();
                    let changed = match tensor.data() {
                        Data::I64(list) if !list.is_empty() => {
                            let mut list = list.to_vec();
                            let at = random.below(list.len());
                            list[at] = random.awkward();
                            Tensor::i64(tensor.shape().to_vec(), list).unwrap()
                        }
                        Data::F32(list) if !list.is_empty() => {
                            let mut list = list.to_vec();
                            let at = random.below(list.len());
                            list[at] = *random.pick(&[0.0, -1.0, f32::NAN, 1e30, 1e-30, 1e9]);
                            Tensor::f32(tensor.shape().to_vec(), list).unwrap()
                        }
                        _ => tensor.clone(),
                    };
                    graph.constants.insert(name.clone(), changed);
                }
            }
            6 => graph.opset = *random.pick(&[13, 17, 18, 20, 21, 23]),
            _ => {
                let node = &mut graph.nodes[node];
                let names: Vec<String> = node.attributes.keys().cloned().collect();
                if !names.is_empty() {
                    node.attributes.remove(random.pick(&names));
                }
            }
        }
    }
    graph
}

#[test]
fn nothing_panics() {
    let corpus = models::all();
    let ops: Vec<String> = corpus.iter().flat_map(|g| g.nodes.iter().map(|n| n.op.clone())).collect();
    let limit =
        std::env::var("MASKTAS_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).map(Duration::from_secs);
    let seed = match limit {
        Some(_) => std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
        None => 0x9e37_79b9_7f4a_7c15,
    };
    eprintln!("seed {seed}, {} models", corpus.len());
    let mut random = Random(seed);
    let start = Instant::now();
    let mut rounds = 0usize;
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    for graph in &corpus {
        survive(|| graph.name.clone(), || plan(graph));
        // Unchanged they are sane, or the changes would try nothing but the first check.
        let plan = plan_with(graph, &Target::software(), &PlanOptions::default());
        assert!(plan.is_ok(), "{}: {}", graph.name, plan.unwrap_err());
        assert_eq!(onnx::read(&models::bytes(graph)).unwrap().nodes, graph.nodes);
    }
    while limit.map_or(rounds < ROUNDS, |limit| start.elapsed() < limit) {
        for graph in &corpus {
            let bytes = changed_bytes(&models::bytes(graph), &mut random);
            survive(
                || format!("{} as bytes {bytes:?}", graph.name),
                || {
                    if let Ok(graph) = onnx::read(&bytes) {
                        plan(&graph);
                    }
                    drop(onnx::admit(&bytes));
                },
            );
            let other = changed_graph(graph, &ops, &mut random);
            survive(|| format!("{other:#?}"), || plan(&other));
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds in {:?}", start.elapsed());
}

/// A constant of one byte that `Expand` makes a matrix of, which a product of bytes would pack: the adapter's work, or more than it
/// holds.
#[test]
fn a_byte_expanded_is_not_packed_on_the_host() {
    use masktas_runtime::{Dtype, graph::GraphBuilder};
    for extent in [2048, 8192, 65_536] {
        let mut b = GraphBuilder::new("expanded", 20);
        let x = b.input("x", Dtype::U8, [1, extent].map(Dim::Fixed));
        let one = b.constant("one", Tensor::new(vec![1, 1], Data::I8([3].into())).unwrap());
        let zero = b.constant("zero", Tensor::new(vec![1, 1], Data::I8([2].into())).unwrap());
        let shape = b.constant("shape", Tensor::i64([2], vec![extent as i64; 2]).unwrap());
        let wide = b.node("Expand", "wide", &[&one, &shape], []);
        let points = b.node("Expand", "points", &[&zero, &shape], []);
        let y = b.node("MatMulInteger", "y", &[&x, &wide, "", &points], []);
        b.output(&y, Dtype::I32, [1, extent].map(Dim::Fixed));
        let bytes = models::bytes(&b.finish().unwrap());
        assert!(bytes.len() < 400);
        let most = survive(|| format!("{extent}"), || plan(&onnx::read(&bytes).unwrap()));
        assert!(most < 32 << 20, "{extent}: it took {most} bytes");
    }
}

/// An empty Constant in a graph made by a program is refused where it is read.
#[test]
fn an_empty_constant_is_refused() {
    use masktas_runtime::{Dtype, graph::GraphBuilder};
    for data in [Data::I8([].into()), Data::F32([].into())] {
        let mut b = GraphBuilder::new("empty", 20);
        let kind = data.dtype();
        let bytes = kind == Dtype::I8;
        let x = b.input("x", if bytes { Dtype::U8 } else { kind }, [3, 0].map(Dim::Fixed));
        let value = Attribute::Tensor(Tensor::new(vec![0, 4], data).unwrap());
        let w = b.node("Constant", "w", &[], [("value", value)]);
        let y = b.node(if bytes { "MatMulInteger" } else { "MatMul" }, "y", &[&x, &w], []);
        b.output(&y, if bytes { Dtype::I32 } else { kind }, [3, 4].map(Dim::Fixed));
        let graph = b.finish().unwrap();
        survive(|| "empty".to_owned(), || plan(&graph));
        assert!(plan_with(&graph, &Target::software(), &PlanOptions::default()).is_err());
    }
}

/// Files that libFuzzer starts from (`make fuzz`): the small models, and what it found.
fn seeds() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn no_file_of_the_corpus_panics() {
    if std::env::var_os("MASKTAS_WRITE_CORPUS").is_some() {
        for (at, graph) in models::all().iter().enumerate() {
            std::fs::write(seeds().join(format!("{at:02}-{}.onnx", graph.name)), models::bytes(graph))
                .unwrap();
        }
    }
    let mut files: Vec<_> = std::fs::read_dir(seeds()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= models::all().len(), "{} files; MASKTAS_WRITE_CORPUS=1 writes them", files.len());
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let work = || {
            drop(onnx::admit(&bytes));
            if let Ok(graph) = onnx::read(&bytes) {
                plan(&graph);
            }
        };
        survive(|| path.display().to_string(), work);
    }
}
