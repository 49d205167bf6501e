//! Time to turn a member of a space into a graph, with and without weights, to write it as ONNX, to count its features.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use masktas_export::{Arch, LowerOptions, Weights, lower, onnx};
use masktas_search::space::VitSpace;

fn lowering(criterion: &mut Criterion) {
    for name in ["vit-micro", "autoformer-small"] {
        let arch = Arch::Vit(VitSpace::load(name).unwrap().largest_arch());
        let options = LowerOptions::default();
        let weights = Weights::random(&arch, None, 0).unwrap();
        let bare = lower(&arch, None, &options).unwrap();
        let full = lower(&arch, Some(&weights), &options).unwrap();

        let mut group = criterion.benchmark_group(format!("lowering/{name}, largest"));
        group.sample_size(20);
        group.bench_function("lower without weights", |b| {
            b.iter(|| lower(black_box(&arch), None, &options).unwrap());
        });
        group.bench_function("lower with weights", |b| {
            b.iter(|| lower(black_box(&arch), Some(&weights), &options).unwrap());
        });
        group.bench_function("features", |b| b.iter(|| black_box(&bare).features().unwrap()));
        group.bench_function("write ONNX", |b| b.iter(|| onnx::write(black_box(&full)).unwrap()));
        group.finish();
    }
}

criterion_group!(benches, lowering);
criterion_main!(benches);
