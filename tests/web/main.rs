//! The page of `masktas export --web` in a headless Chromium, on its software WebGPU: beside ONNX Runtime and the native player.
//!
//! `MASKTAS_CHROMIUM` names the browser; without it these tests say that they skip. `make test-web` installs one and sets it.

mod chromium;
mod peer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chromium::{Chromium, base64, serve};
use masktas_devices::{Engine, EngineOptions, LoadOptions, engine};
use masktas_export::package::describe;
use masktas_export::{
    Arch, Batch, Head, Labels, LowerOptions, Provenance, VitArch, VitBlock, Weights, lower, web,
};
use masktas_runtime::plan::{AdapterClass, Passes, Plan, PlanOptions, Target, plan_with};
use masktas_runtime::session::{Options, Session};
use masktas_runtime::tolerance::relative_difference;
use masktas_runtime::{Graph, Interpolation, Preprocess, Tensor, Tolerance, onnx};
use masktas_search::images::{Geometry, decode_for};
use serde_json::{Value, json};

/// The browser, or why there is none.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("MASKTAS_CHROMIUM").filter(|name| !name.is_empty());
    if named.is_none() {
        println!("skipped: MASKTAS_CHROMIUM names no browser; `make test-web` installs one");
    }
    named.map(PathBuf::from)
}

/// ONNX Runtime, whose answers the browser's are compared with.
fn ort() -> Box<dyn Engine> {
    let engine = engine("ort", &EngineOptions::default()).unwrap();
    engine.check().expect("`make test-web` puts ONNX Runtime in place");
    engine
}

fn masktas(folder: &Path, words: &[&str]) -> Value {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let output = Command::new(env!("CARGO_BIN_EXE_masktas"))
        .args(words)
        .args(["--json", "--quiet"])
        .current_dir(folder)
        .env("MASKTAS_CACHE", cache)
        .env("XDG_DATA_HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Some of the built-in photographs as files, one folder a class.
fn photos(folder: &Path, most: usize) -> Vec<PathBuf> {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("search/assets/clothing/clothing.pack");
    let pack = fs::read(pack).expect("the pack is there");
    let end = pack.windows(2).position(|pair| pair == b"\n\n").expect("a head") + 2;
    let head = String::from_utf8_lossy(&pack[..end]).into_owned();
    let lines: Vec<&str> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let step = lines.len().div_ceil(most);
    let (mut at, mut written) = (end, Vec::new());
    for (number, line) in lines.iter().enumerate() {
        let (length, path) = line.split_once(' ').expect("length and path");
        let length: usize = length.parse().expect("a length");
        if number % step == 0 {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &pack[at..at + length]).unwrap();
            written.push(path);
        }
        at += length;
    }
    written
}

/// What `masktas run` gives the model of a photo.
fn prepared(how: &Preprocess, photo: &Path) -> Tensor {
    let geometry = Geometry { resize: how.resize as u32, crop: how.crop as u32 };
    how.apply(&decode_for(photo, geometry).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn top(values: &[f32]) -> usize {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap()
}

/// A vision transformer for 32 px with random weights, as a classifier.
pub fn vit(embed: usize, head_dim: usize, heads: usize, depth: usize) -> VitArch {
    let blocks = vec![VitBlock { heads, hidden: 4 * embed }; depth];
    VitArch { image: 32, patch: 4, embed, head_dim, blocks, relative: None }
}

/// That architecture's graph with random weights, described as an exported classifier is.
pub fn classifier(arch: VitArch, opset: i64) -> Graph {
    let side = arch.image;
    let arch = Arch::Vit(arch);
    let weights = Weights::random(&arch, Some(10), 3).unwrap();
    let options = LowerOptions { batch: Batch::Fixed(1), head: Head::Classifier { classes: 10 }, opset };
    let mut graph = lower(&arch, Some(&weights), &options).unwrap();
    let how = Preprocess {
        resize: side + side.div_ceil(7),
        crop: side,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        interpolation: Interpolation::Lanczos3,
        labels: Some((0..10).map(|class| format!("class {class}")).collect()),
    };
    let from = Provenance { labels: Labels::Unknown, run: None, recipe: None, teacher: None };
    describe(&mut graph, &arch, &how, &from).unwrap();
    graph
}

/// JavaScript that loads the model as `model` and makes three helpers.
const PAGE: &str = "(async () => {
  const { load } = await import('/player.js');
  const { pixels, square } = await import('/pixels.js');
  Object.assign(globalThis, {
    model: await load(''), pixels, square,
    photo: async (name) => (await fetch(name)).blob(),
    answer: async (input) => [...Object.values(await model.run({ [model.inputs[0].name]: input }))[0]],
  });
  return model.adapter;
})()";

#[test]
fn a_found_and_trained_model_classifies_three_photos_as_onnx_runtime_does() {
    let Some(program) = browser() else { return };
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let all = photos(&folder.join("photos"), 200);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (from, to) in [("tiny.toml", "masktas.toml"), ("tiny-space.toml", "tiny-space.toml")] {
        fs::copy(tests.join(from), folder.join(to)).unwrap();
    }
    masktas(folder, &["search", "--data", "photos", "--out", "run"]);
    masktas(folder, &["finetune", "run", "--pick", "knee", "--epochs", "3"]);
    let told = masktas(folder, &["export", "run", "--head", "classifier", "--web", "page"]);
    assert_eq!(told["web"]["parity"]["verdict"], "pass", "{}", told["web"]);

    let page = folder.join("page");
    let model = fs::read(folder.join(told["files"]["model"].as_str().unwrap())).unwrap();
    let graph = onnx::read(&model).unwrap();
    let how = Preprocess::read_from(&graph.metadata).unwrap();
    let labels = how.labels.clone().expect("a classifier");
    let mut engine = ort().load(&model, &LoadOptions::default()).unwrap();
    let input = engine.inputs()[0].name.clone();
    let plan = fs::read(page.join("plan.json")).unwrap();
    let plan = Plan::read(&plan, fs::read(page.join(web::WEIGHTS)).unwrap()).unwrap();
    let native = Session::from_plan(plan, &Options::default()).unwrap();

    // One photo of each third of the classes, which are in order.
    let chosen: Vec<PathBuf> = [0, 1, 2].iter().map(|third| all[all.len() * third / 3 + 5].clone()).collect();
    for (number, photo) in chosen.iter().enumerate() {
        fs::copy(photo, page.join(format!("{number}.jpg"))).unwrap();
    }
    let address = serve(page);
    let mut chromium = Chromium::start(&program, &[]);

    // As a person does it: the page, three photos into its field, three cards.
    chromium.open(&address);
    chromium.wait_for("document.getElementById('status').textContent === 'Ready.'");
    chromium.choose("#files", &chosen);
    chromium.wait_for("[...document.querySelectorAll('article p')].filter((p) => /median of/.test(p.textContent)).length === 3");
    let shown = chromium
        .evaluate("[...document.querySelectorAll('article td:first-child')].map((cell) => cell.textContent)");
    let about = chromium.evaluate("document.getElementById('about').textContent");
    println!("{}", about.as_str().unwrap());
    assert!(about.as_str().unwrap().contains("(software: there is no graphics processor)"), "{about}");
    let times = chromium.evaluate("[...document.querySelectorAll('article p')].map((p) => p.textContent)");
    println!("{times}");
    assert_eq!(chromium.evaluate("document.querySelectorAll('.bad').length"), 0);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page.png");
    fs::write(&kept, chromium.screenshot()).unwrap();
    println!("screenshot: {}", kept.display());

    // As a program does it: the numbers behind the cards.
    let adapter = chromium.evaluate(PAGE);
    println!("adapter: {adapter}");
    let shown: Vec<&str> = shown.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let rows = shown.len() / 3;
    for (number, photo) in chosen.iter().enumerate() {
        let ours = prepared(&how, photo);
        let want = engine.run(&[(input.clone(), ours.clone())]).unwrap();
        let want = want[0].1.as_f32().unwrap().to_vec();
        let alone = native.run(&[(input.as_str(), ours.clone())]).unwrap();
        let alone = alone[0].1.as_f32().unwrap().to_vec();

        // The same input gives the same answer.
        let values = json!(ours.as_f32().unwrap());
        let got = numbers(&chromium.evaluate(&format!("answer(new Float32Array({values}))")));
        for (whose, reference) in [("ONNX Runtime", &want), ("the native player", &alone)] {
            let difference = relative_difference(reference, &got);
            println!("photo {number}: {difference:.1e} from {whose}");
            assert!(difference <= Tolerance::F32.pass, "photo {number}: {difference:e} from {whose}");
        }

        // The same file gives nearly the same input: browsers decode JPEG a little differently.
        let seen = numbers(&chromium.evaluate(&format!(
            "photo('{number}.jpg').then((p) => pixels(p, model.info.preprocess)).then((v) => [...v])"
        )));
        let levels = levels(ours.as_f32().unwrap(), &seen, &how);
        println!("photo {number}: the decoders differ by {levels} of 255 levels at most");
        assert!(levels <= 8.0, "photo {number}: {levels} levels");

        // Newest first. The card says what ONNX Runtime says.
        let card = 2 - number;
        assert_eq!(shown[card * rows], labels[top(&want)], "photo {number}");
        assert_eq!(top(&got), top(&want));
        assert_eq!(top(&alone), top(&want));
    }
}

/// Largest difference of two inputs in levels of 255.
fn levels(ours: &[f32], theirs: &[f32], how: &Preprocess) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let of = |channel: usize, value: f32| (value * how.std[channel] + how.mean[channel]) * 255.0;
    let plane = how.crop * how.crop;
    let each = ours.iter().zip(theirs).enumerate();
    each.map(|(at, (a, b))| (of(at / plane, *a) - of(at / plane, *b)).abs()).fold(0.0, f32::max)
}

#[test]
fn pixels_become_the_same_numbers_as_natively_bit_for_bit() {
    let Some(program) = browser() else { return };
    let home = tempfile::tempdir().unwrap();
    let page = home.path().join("page");
    let graph = classifier(vit(96, 32, 2, 1), 17);
    web::write(&page, "small", &graph).unwrap();
    let mut chromium = Chromium::start(&program, &[]);
    chromium.open(&serve(page));
    chromium.evaluate(PAGE);
    // Noise is the hardest picture for a filter; a PNG holds it exactly.
    let noise = "async (width, height) => {
      const canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d');
      const picture = context.createImageData(width, height);
      let state = 12345;
      for (let at = 0; at < picture.data.length; at++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        picture.data[at] = at % 4 === 3 ? 255 : (state >>> 24 > 127 ? state >>> 16 & 255 : state >>> 30 & 1 ? 255 : 0);
      }
      context.putImageData(picture, 0, 0);
      globalThis.png = await canvas.convertToBlob({ type: 'image/png' });
      const bytes = new Uint8Array(await png.arrayBuffer());
      return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''));
    }";
    // Much larger, wide, tall, the resized side itself, smaller, one line, one pixel.
    for (width, height) in [(517, 301), (640, 97), (61, 400), (37, 37), (33, 41), (19, 12), (50, 1), (1, 1)] {
        let png = chromium.evaluate(&format!("({noise})({width}, {height})"));
        let file = home.path().join("noise.png");
        fs::write(&file, base64(png.as_str().unwrap())).unwrap();
        for (resize, crop) in [(37, 32), (64, 64), (9, 4)] {
            let mut how = Preprocess::read_from(&graph.metadata).unwrap();
            (how.resize, how.crop, how.labels) = (resize, crop, None);
            let ours = prepared(&how, &file);
            let told = serde_json::to_string(&how).unwrap();
            let seen = numbers(&chromium.evaluate(&format!("pixels(png, {told}).then((v) => [...v])")));
            let same = ours.as_f32().unwrap().iter().zip(&seen).all(|(a, b)| a.to_bits() == b.to_bits());
            let differ = levels(ours.as_f32().unwrap(), &seen, &how);
            assert!(
                same && seen.len() == 3 * crop * crop,
                "{width} x {height} to {resize}, {crop}: {differ} levels"
            );
        }
    }
}

/// Every built-in style of network, planned every way: the browser's compiler takes all of their kernels.
#[test]
fn kernels_pass_the_browsers_compiler() {
    let Some(program) = browser() else { return };
    let home = tempfile::tempdir().unwrap();
    web::write(home.path(), "small", &classifier(vit(96, 32, 2, 1), 17)).unwrap();
    let mut chromium = Chromium::start(&program, &[]);
    chromium.open(&serve(home.path().to_owned()));
    let relative = VitArch { relative: Some(7), ..vit(128, 32, 3, 2) };
    let deit = VitArch { image: 224, patch: 16, ..vit(192, 64, 3, 1) };
    let odd = VitArch { image: 20, patch: 5, ..vit(33, 7, 1, 1) };
    let mut texts = std::collections::BTreeSet::new();
    for arch in [vit(160, 32, 4, 1), vit(192, 64, 3, 1), relative, deit, odd] {
        for opset in [17, 20, 23] {
            let graph = classifier(arch.clone(), opset);
            for class in [AdapterClass::Gpu, AdapterClass::Software] {
                for passes in [Passes::ALL, Passes::NONE] {
                    let target = Target { class, ..Target::webgpu_minimum() };
                    let options = PlanOptions { passes, ..PlanOptions::default() };
                    texts.extend(plan_with(&graph, &target, &options).unwrap().kernels);
                }
            }
        }
    }
    let compile = "async (texts) => {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const wrong = [];
      for (const code of texts) {
        const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
        wrong.push(...messages.filter(({ type }) => type === 'error').map(({ message, lineNum }) => `${lineNum}: ${message}\\n${code}`));
      }
      return wrong;
    }";
    let one = |texts: &Value| format!("({compile})({texts})");
    let broken = chromium.evaluate(&one(&json!(["fn main() { let x: f32 = 1i; }"])));
    assert_eq!(broken.as_array().unwrap().len(), 1, "the compiler finds what is wrong: {broken}");
    println!("{} kernels", texts.len());
    assert!(texts.len() > 50);
    let wrong = chromium.evaluate(&one(&json!(texts)));
    assert_eq!(wrong, json!([]));
}

#[test]
fn what_is_wrong_is_said_on_the_page() {
    let Some(program) = browser() else { return };
    let home = tempfile::tempdir().unwrap();
    let page = |name: &str| {
        let folder = home.path().join(name);
        web::write(&folder, "small", &classifier(vit(96, 32, 2, 1), 17)).unwrap();
        folder
    };
    // What the page says when it has given up, after `before` was run in it.
    let status_after = |before: &str, flags: &[&str], address: &str| {
        let mut chromium = Chromium::start(&program, flags);
        chromium.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": before }));
        chromium.open(address);
        chromium.wait_for(
            "document.querySelector('#status').classList.contains('bad') || !!document.querySelector('#unserved')",
        );
        chromium.evaluate("document.querySelector('#status').textContent").as_str().unwrap().to_owned()
    };
    let status = |address: &str| status_after("", &[], address);

    let folder = page("whole");
    let address = serve(folder.clone());
    let none = "Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined })";
    let none = status_after(none, &[], &address);
    assert!(none.contains("This browser has no WebGPU. Open the page in a current Chrome"), "{none}");
    let adapter = status_after("GPU.prototype.requestAdapter = async () => null", &[], &address);
    assert!(
        adapter.contains("no graphics adapter") && adapter.contains("hardware acceleration"),
        "{adapter}"
    );
    let elsewhere = address.replace("127.0.0.1", "photos.test");
    let insecure = status_after("", &["--host-resolver-rules=MAP photos.test 127.0.0.1"], &elsewhere);
    assert!(insecure.contains("https://") && insecure.contains("http://photos.test"), "{insecure}");
    let unserved = status(&format!("file://{}/index.html", folder.display()));
    assert!(unserved.contains("python3 -m http.server"), "{unserved}");

    let folder = page("damaged");
    let mut weights = fs::read(folder.join(web::WEIGHTS)).unwrap();
    weights[1000] ^= 1;
    fs::write(folder.join(web::WEIGHTS), weights).unwrap();
    let damaged = status(&serve(folder));
    assert!(damaged.contains("weights.bin does not belong to this model"), "{damaged}");

    let folder = page("incomplete");
    fs::remove_file(folder.join(web::WEIGHTS)).unwrap();
    let missing = status(&serve(folder));
    assert!(missing.contains("weights.bin cannot be fetched: the server says 404"), "{missing}");

    let folder = page("newer");
    let model =
        fs::read_to_string(folder.join("model.json")).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(folder.join("model.json"), model).unwrap();
    let newer = status(&serve(folder));
    assert!(newer.contains("model.json has version 2, this script plays 1"), "{newer}");

    // A file that is no picture leaves the page usable.
    let folder = page("used");
    let text = home.path().join("text.jpg");
    fs::write(&text, "no picture").unwrap();
    let photo = photos(&home.path().join("photos"), 1).remove(0);
    let mut chromium = Chromium::start(&program, &[]);
    chromium.open(&serve(folder));
    chromium.wait_for("document.getElementById('status').textContent === 'Ready.'");
    chromium.choose("#files", &[text, photo]);
    chromium.wait_for("document.querySelectorAll('article table').length === 1");
    let said = chromium.evaluate("document.querySelector('article .bad').textContent");
    assert_eq!(
        said,
        "text.jpg: This is not a picture that the browser can read. Give a JPEG, PNG or WebP file."
    );
    // Dropped and pasted photos are taken too, and the keyboard reaches the field.
    let focus = "(document.getElementById('files').focus(), document.activeElement.id)";
    assert_eq!(chromium.evaluate(focus), "files");
    let give = "(async () => {
      const canvas = new OffscreenCanvas(40, 30);
      canvas.getContext('2d').fillRect(0, 0, 9, 9);
      const data = new DataTransfer();
      data.items.add(new File([await canvas.convertToBlob()], 'made.png', { type: 'image/png' }));
      dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
      dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }));
    })()";
    chromium.evaluate(give);
    chromium.wait_for("document.querySelectorAll('article table').length === 3");
}
