//! `masktas export --web`: the model as a folder for a static host, checked as a browser would read it.

use std::path::Path;

use masktas_devices::{Parity, ParityRow};
use masktas_export::{Golden, WebPage, package, web};
use masktas_runtime::Verdict;
use masktas_runtime::plan::Plan;
use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::tolerance::relative_difference;

use crate::commands::run::{read_graph, read_model};
use crate::exit::Failure;

/// A page, and what its plans answer to the model's golden pair; or why there is no answer.
pub struct Written {
    pub page: WebPage,
    pub replayed: Result<Parity, String>,
}

/// Writes the page of an ONNX file into `folder`, reads the plans back, and replays the golden pair beside the model.
pub fn write(model: &Path, folder: &Path, adapter: Option<&str>) -> Result<Written, Failure> {
    let bytes = read_model(model)?;
    let graph = read_graph(model, &bytes)?;
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let page = web::write(folder, &name, &graph)?;
    let pair = package::golden_path(model);
    if !pair.exists() {
        let why = format!("there is no golden pair {} to replay", pair.display());
        return Ok(Written { page, replayed: Err(why) });
    }
    if Adapters::list().is_empty() {
        let why =
            "there is no GPU adapter here to replay the golden pair on; see `masktas doctor`".to_owned();
        return Ok(Written { page, replayed: Err(why) });
    }
    let golden = Golden::load(&pair)?;
    golden.check_model(&bytes)?;
    let mut rows = Vec::new();
    for (_, class, file) in web::PLANS {
        rows.push(replay(&format!("page ({class})"), folder, file, &golden, adapter)?);
    }
    let verdict = rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Fail);
    Ok(Written { page, replayed: Ok(Parity { rows, verdict }) })
}

/// The answer of one of the plans in `folder`, played here by wgpu.
fn replay(
    engine: &str,
    folder: &Path,
    file: &str,
    golden: &Golden,
    adapter: Option<&str>,
) -> Result<ParityRow, Failure> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| Failure::io(&path, error))
    };
    let plan = Plan::read(&read(file)?, read(web::WEIGHTS)?)?;
    let options = Options { adapter: adapter.map(str::to_owned), ..Options::default() };
    let session = Session::from_plan(plan, &options)?;
    let outputs = session.run(&[(golden.input_name.as_str(), golden.input.clone())])?;
    let output = outputs.iter().find(|(name, _)| *name == golden.output_name).map(|(_, tensor)| tensor);
    let values = output.and_then(masktas_runtime::Tensor::as_f32).unwrap_or_default();
    let difference = relative_difference(golden.output.as_f32().unwrap_or_default(), values);
    Ok(ParityRow {
        engine: engine.to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        provider: Some(session.info().adapter.to_string()),
        difference: difference.is_finite().then_some(difference),
        tolerance: golden.tolerance,
        verdict: golden.tolerance.judge(difference),
        error: None,
    })
}
