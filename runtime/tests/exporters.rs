//! Files that other people's programs wrote, against ONNX Runtime's answers.
//!
//! `make exporters` makes the folder that `MASKTAS_EXPORTED` names (`scripts/exporters.py`) and runs this; without the folder
//! it says so and does nothing. Networks of 32-bit floats must agree in every number; of those in 16 bits and of quantised ones the class
//! must agree, over 200 images. ONNX Runtime's answers are those without optimisation; beside ours stands for how many images its
//! optimised answers name the same class, and how many classes it names at all: one for all images would prove nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::tensor::{f32_to_half, half_to_f64};
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Data, Dtype, Tensor, Tolerance, Verdict};
use serde_json::Value;

/// Least share of images whose class must be the same in 16 bits and under quantisation, where ONNX Runtime itself keeps as many when
/// the images are shaken in their last bits.
const SAME_CLASS: f64 = 0.98;
/// Fewest classes that ONNX Runtime must name over 200 images.
const NAMED: usize = 4;

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
}

#[test]
fn files_by_other_exporters() {
    let Some(folder) = std::env::var_os("MASKTAS_EXPORTED").map(PathBuf::from) else {
        eprintln!("skipped: MASKTAS_EXPORTED names no folder of model files; run `make exporters`");
        return;
    };
    assert!(!Adapters::list().is_empty(), "there is no adapter; `make setup` installs a software driver");
    let mut images = BTreeMap::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
    files.sort();
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match compare(path, &mut images) {
            Ok(line) => println!("{name:<28}{line}"),
            Err(why) => {
                println!("{name:<28}{why}");
                wrong.push(format!("{name}: {why}"));
            }
        }
    }
    assert!(files.len() >= 20, "only {} files were made", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(path: &Path, images: &mut BTreeMap<usize, Vec<f32>>) -> Result<String, String> {
    let about: Value =
        serde_json::from_str(&std::fs::read_to_string(path.with_extension("json")).unwrap()).unwrap();
    let number = |key: &str| usize::try_from(about[key].as_u64().unwrap()).unwrap();
    let (count, side, classes) = (number("images"), number("side"), number("classes"));
    let images =
        images.entry(side).or_insert_with(|| floats(&path.with_file_name(format!("images-{side}.bin"))));
    let want = floats(&path.with_extension("bin"));
    let bytes = std::fs::read(path).unwrap();
    let session = Session::load(&bytes, &Options::default()).map_err(|error| error.to_string())?;
    let input = session.info().inputs[0].clone();
    let mut got = Vec::with_capacity(want.len());
    for image in images.chunks_exact(3 * side * side).take(count) {
        let image = given(image, input.dtype, side);
        let outputs = session.run(&[(&input.name, image)]).map_err(|error| error.to_string())?;
        got.extend(taken(&outputs[0].1));
    }
    let difference = relative_difference(&want, &got);
    let dispatches = session.info().dispatches.len();
    if about["kind"] == "f32" {
        let verdict = Tolerance::F32.judge(difference);
        let line = format!("{verdict}, {difference:.1e} of the largest score, {dispatches} dispatches");
        return if verdict == Verdict::Fail { Err(line) } else { Ok(line) };
    }
    let pairs = want.chunks_exact(classes).zip(got.chunks_exact(classes));
    let same = pairs.filter(|(want, got)| best(want) == best(got)).count();
    let (own, steady, named) = (number("own"), number("steady"), number("named"));
    let line = format!(
        "{same} of {count} classes (ONNX Runtime optimised: {own}, with noise of 1e-6 in the images: {steady}; it names {named}), {difference:.1e} of the largest score, \
         {dispatches} dispatches"
    );
    // What does not survive a last bit in ONNX Runtime need not survive another order of sums.
    let needed = (SAME_CLASS * count as f64).min(steady as f64);
    if (same as f64) < needed || named < NAMED { Err(line) } else { Ok(line) }
}

/// An image as the file wants it.
fn given(image: &[f32], dtype: Dtype, side: usize) -> Tensor {
    let shape = vec![1, 3, side, side];
    match dtype {
        Dtype::F16 => {
            let bytes: Vec<u8> = image.iter().flat_map(|value| f32_to_half(*value).to_le_bytes()).collect();
            Tensor::new(shape, Data::Other(Dtype::F16, bytes.into())).unwrap()
        }
        _ => Tensor::f32(shape, image.to_vec()).unwrap(),
    }
}

/// Scores as 32-bit floats.
fn taken(scores: &Tensor) -> Vec<f32> {
    match scores.data() {
        Data::Other(Dtype::F16, bytes) => {
            bytes.as_chunks::<2>().0.iter().map(|b| half_to_f64(u16::from_le_bytes(*b)) as f32).collect()
        }
        _ => scores.as_f32().unwrap().to_vec(),
    }
}
