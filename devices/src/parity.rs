//! Does every engine give the same answer to the same file?

use masktas_runtime::{Dtype, Tolerance, Verdict};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineOptions, LoadOptions, engine};
use crate::error::Result;
use crate::measure::{Golden, largest_difference};
use crate::worker::{Worker, model_file};

/// One engine's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParityRow {
    /// Engine.
    pub engine: String,
    /// Its version, when it could be asked.
    pub version: Option<String>,
    /// Provider really used, when the model was loaded.
    pub provider: Option<String>,
    /// Largest absolute difference over largest absolute golden value, over all outputs; `None` when the model did not run
    /// or gave something that cannot be compared (another shape, NaN, an infinity), as `error` says.
    pub difference: Option<f64>,
    /// The bounds it was judged by.
    pub tolerance: Tolerance,
    /// Pass, warn or fail. An engine that is missing or refuses the file fails.
    pub verdict: Verdict,
    /// Why there is no difference.
    pub error: Option<String>,
}

/// All engines' answers and the worst of their verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// One row an engine, in the order asked for.
    pub rows: Vec<ParityRow>,
    /// The worst verdict; fail when no engine was asked.
    pub verdict: Verdict,
}

/// Replays a golden pair in every engine (the bytes of an ONNX file, optimised as in use) and judges the answers by
/// the tolerances of `masktas_runtime::tolerance`: those of 16-bit floats for an engine that was told to keep weights so.
pub fn parity(model: &[u8], golden: &Golden, engines: &[Box<dyn Engine>]) -> Parity {
    Parity::of(engines.iter().map(|engine| row(model, golden, engine.as_ref())).collect())
}

/// The same by names of engines, each in a process of its own where `options` say how to start one: what comes from
/// elsewhere may crash an engine.
///
/// # Errors
/// For an engine that does not exist, and when a process cannot be started. One that dies is a row that fails.
pub fn parity_apart(
    model: &[u8],
    golden: &Golden,
    engines: &[&str],
    options: &EngineOptions,
) -> Result<Parity> {
    let Some(command) = &options.worker else {
        let engines = engines.iter().map(|name| engine(name, options)).collect::<Result<Vec<_>>>()?;
        return Ok(parity(model, golden, &engines));
    };
    let file = model_file(model)?;
    let replay = |name: &&str| {
        engine(name, options)?;
        let row = Worker::start(name, command)?.replay(file.path(), golden, name, options);
        Ok(row.unwrap_or_else(|error| ParityRow { error: Some(error.to_string()), ..ParityRow::of(name) }))
    };
    Ok(Parity::of(engines.iter().map(replay).collect::<Result<_>>()?))
}

impl Parity {
    fn of(rows: Vec<ParityRow>) -> Self {
        let verdict = rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Fail);
        Self { rows, verdict }
    }
}

impl ParityRow {
    /// Of an engine that has not answered.
    fn of(engine: &str) -> Self {
        Self {
            engine: engine.to_owned(),
            version: None,
            provider: None,
            difference: None,
            tolerance: Tolerance::of(Dtype::F32),
            verdict: Verdict::Fail,
            error: None,
        }
    }
}

/// One engine's answer, in this process.
pub(crate) fn row(model: &[u8], golden: &Golden, engine: &dyn Engine) -> ParityRow {
    let mut row = ParityRow::of(engine.name());
    match replay(model, golden, engine, &mut row) {
        Ok(difference) if difference.is_finite() => row.difference = Some(difference),
        Ok(_) => {
            row.error = Some(
                "the outputs cannot be compared: NaN, an infinity, or another type or shape than the golden output; \
                 look at the model's last nodes"
                    .into(),
            );
        }
        Err(error) => row.error = Some(error.to_string()),
    }
    row
}

fn replay(model: &[u8], golden: &Golden, engine: &dyn Engine, row: &mut ParityRow) -> Result<f64> {
    row.version = Some(engine.version()?);
    let shapes = golden.inputs.iter().map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
    let mut loaded = engine.load(model, &LoadOptions { shapes, ..LoadOptions::default() })?;
    row.provider = Some(loaded.provider_used().to_owned());
    let outputs = loaded.run(&golden.inputs)?;
    let difference = largest_difference(engine.name(), &golden.outputs, &outputs)?.0;
    row.tolerance = loaded.tolerance();
    row.verdict = row.tolerance.judge(difference);
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use masktas_runtime::Tensor;

    use super::*;
    use crate::engine::{InputInfo, LoadedModel, Tensors};
    use crate::error::Error;

    /// An engine that answers `1 + error`, whatever the file.
    struct Fake {
        error: f32,
        missing: bool,
    }

    struct FakeModel(f32, Vec<InputInfo>);

    impl Engine for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn version(&self) -> Result<String> {
            Ok("1".into())
        }
        fn check(&self) -> Result<()> {
            Ok(())
        }
        fn load(&self, _: &[u8], _: &LoadOptions) -> Result<Box<dyn LoadedModel>> {
            if self.missing {
                return Err(Error::Load { engine: "fake".into(), reason: "not here".into() });
            }
            Ok(Box::new(FakeModel(1.0 + self.error, Vec::new())))
        }
    }

    impl LoadedModel for FakeModel {
        fn inputs(&self) -> &[InputInfo] {
            &self.1
        }
        fn run(&mut self, _: &[(String, Tensor)]) -> Result<Tensors> {
            Ok(vec![("y".into(), Tensor::f32([1], vec![self.0])?)])
        }
        fn provider_used(&self) -> &str {
            "none"
        }

        fn node_runs(&mut self) -> Result<Vec<crate::engine::NodeRuns>> {
            Ok(Vec::new())
        }
    }

    fn judge(errors: &[f32], missing: bool) -> Parity {
        let golden =
            Golden { inputs: vec![], outputs: vec![("y".into(), Tensor::f32([1], vec![1.0]).unwrap())] };
        let engines: Vec<Box<dyn Engine>> =
            errors.iter().map(|error| Box::new(Fake { error: *error, missing }) as Box<dyn Engine>).collect();
        parity(b"", &golden, &engines)
    }

    #[test]
    fn the_worst_engine_decides() {
        assert_eq!(judge(&[0.0, 5e-6], false).verdict, Verdict::Pass);
        let warn = judge(&[0.0, 5e-5], false);
        assert_eq!((warn.rows[0].verdict, warn.verdict), (Verdict::Pass, Verdict::Warn));
        assert_eq!(judge(&[2e-4, 0.0], false).verdict, Verdict::Fail);
    }

    #[test]
    fn what_cannot_be_compared_or_run_fails_with_a_reason() {
        let nan = judge(&[f32::NAN], false);
        assert_eq!((nan.verdict, nan.rows[0].difference), (Verdict::Fail, None));
        assert!(nan.rows[0].error.as_ref().unwrap().contains("NaN"));
        let missing = judge(&[0.0], true);
        assert_eq!(missing.verdict, Verdict::Fail);
        assert!(missing.rows[0].error.as_ref().unwrap().contains("not here"));
        assert_eq!(judge(&[], false).verdict, Verdict::Fail, "nothing was proved");
    }

    #[test]
    fn rows_survive_storage_even_with_nan() {
        let nan = judge(&[f32::NAN, 0.0], false);
        let text = serde_json::to_string(&nan).unwrap();
        assert_eq!(serde_json::from_str::<Parity>(&text).unwrap(), nan);
    }
}
