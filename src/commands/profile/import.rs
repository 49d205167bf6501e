//! `masktas profile --import FILE`: what was measured elsewhere.

use std::path::Path;

use masktas_devices::latency::latency_model;
use masktas_devices::profile::{EngineProfile, FORMAT, Imported, SpaceId, import_csv};
use masktas_devices::{Catalogue, Error as Devices, Fingerprint, ProfileFile, Row};
use masktas_runtime::{Features, onnx};
use masktas_search::pipeline::latency_features;
use masktas_search::recipe::HOST;
use masktas_search::space::{Space as _, VitSpace};
use serde_json::json;

use super::{Options, keep};
use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// What runs the models where the person does not say.
const ENGINE: &str = "ort";

pub fn run(from: &Path, options: &Options, console: &mut Console) -> Outcome {
    let profile = if from.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
        of_csv(from, options, console)?
    } else {
        given(from)?;
        let profile = ProfileFile::read(from)?;
        of_this_host(from, &profile)?;
        if let Some(asked) = options.target.target.as_ref().filter(|asked| **asked != profile.device) {
            return Err(Failure::usage(format!(
                "{} is a profile of {}, and --target says {asked}; leave --target out",
                from.display(),
                profile.device
            )));
        }
        profile
    };
    let kept = keep(&profile, options.export.as_deref(), console)?;
    let mut text = String::new();
    for engine in &profile.engines {
        let error = &engine.held_out;
        text.push_str(&format!(
            "{} under {}: {} models, held-out error {:.1} %, {:.0} % within 10 %, 90 % interval covers {:.0} %\n",
            profile.device,
            engine.engine,
            engine.rows.len(),
            100.0 * error.mape,
            100.0 * error.within_10,
            100.0 * error.coverage
        ));
    }
    if !profile.measured_here() {
        text.push_str("measured by another tool: nothing here was timed by masktas\n");
    }
    if Catalogue::open()?.find(&profile.device).is_none() {
        let device = &profile.device;
        text.push_str(&format!(
            "`{device}` is no device of `masktas devices` here; before it is searched for: masktas devices add {device} (see --help)\n"
        ));
    }
    if let Some(space) = &profile.space {
        text.push_str(&format!(
            "next: masktas search --target {} --space {} --data FOLDER --latency TIME\n",
            profile.device, space.name
        ));
    }
    let engines: Vec<&str> = profile.engines.iter().map(|engine| engine.engine.as_str()).collect();
    Ok(Answer::new(text, json!({ "device": profile.device, "engines": engines, "profile": kept })))
}

/// Refuses another machine's profile as this machine's: there, too, `host` was its name.
fn of_this_host(from: &Path, profile: &ProfileFile) -> Result<(), Failure> {
    if profile.device != HOST {
        return Ok(());
    }
    let here = Fingerprint::read(profile.threads);
    let rows = profile.engines.iter().flat_map(|engine| &engine.rows);
    match rows
        .filter_map(Row::measurement)
        .map(|one| &one.fingerprint)
        .find(|there| there.key() != here.key())
    {
        Some(there) => Err(Failure::usage(format!(
            "{} is a profile of `{HOST}`, measured on {}, and this machine is {}; profile that one under a name of its own \
             (`masktas devices add`)",
            from.display(),
            there.line(),
            here.line()
        ))),
        None => Ok(()),
    }
}

fn given(path: &Path) -> Result<(), Failure> {
    std::fs::metadata(path).map(drop).map_err(|error| Failure::given(path, error))
}

fn of_csv(from: &Path, options: &Options, console: &mut Console) -> Result<ProfileFile, Failure> {
    given(from)?;
    let Some(asked) = &options.target.target else {
        return Err(Failure::usage("a CSV file does not say which device it is of; add --target NAME"));
    };
    let device = options.target.device(asked, None, console)?;
    let (recipe, _) = options.recipe.load(&[], console)?;
    let space = VitSpace::load(&recipe.space.name)?;
    let engine = recipe.latency.engines.first().map_or(ENGINE, String::as_str).to_owned();
    let imported = Imported {
        device: device.clone(),
        engine: engine.clone(),
        engine_version: "unknown".to_owned(),
        threads: recipe.latency.threads,
    };
    let folder = from.parent().unwrap_or(Path::new(""));
    let rows = import_csv(from, &imported, &|id| features(id, folder, &space))?;
    let mut model = latency_model(masktas_devices::latency::DEFAULT_MODEL)?;
    model.fit(&rows.iter().filter_map(Row::sample).collect::<Vec<_>>())?;
    let json = serde_json::from_str(&model.to_json()?).map_err(|error| {
        Failure::failed(format!("the fitted model cannot be stored: {error}; report this"))
    })?;
    let held_out = model.held_out()?.clone();
    Ok(ProfileFile {
        masktas_profile: FORMAT,
        device,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        space: Some(SpaceId { name: recipe.space.name.clone(), hash: space.hash() }),
        protocol: masktas_devices::profile::IMPORTED.to_owned(),
        threads: recipe.latency.threads,
        engines: vec![EngineProfile { engine, model: json, held_out, rows }],
    })
}

/// What a model costs that a line names: an ONNX file beside the CSV, or a subnet of the space.
fn features(id: &str, folder: &Path, space: &VitSpace) -> masktas_devices::Result<Features> {
    if id.ends_with(".onnx") {
        let path = folder.join(id);
        return Ok(onnx::read_file(&path)?.features()?);
    }
    let genes = space.parse(id).ok_or_else(|| {
        let space = space.name();
        Devices::Caller(format!(
            "it is neither an ONNX file nor a subnet of {space}; name its space with --space, or see the ids of masktas front"
        ))
    })?;
    latency_features(space, &genes).map_err(|error| Devices::Caller(error.to_string()))
}
