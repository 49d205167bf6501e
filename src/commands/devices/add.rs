//! `masktas devices add`.

use clap::Args;
use masktas_devices::catalogue::{NewDevice, add, user_folder};
use serde_json::json;

use crate::console::{Answer, Console, Outcome};
use crate::exit::Failure;

/// Options of `masktas devices add`.
#[derive(Args)]
pub struct Options {
    /// Its name: small letters, digits and hyphens
    #[arg(value_name = "NAME")]
    name: String,
    /// One line for people
    #[arg(long, value_name = "TEXT")]
    description: String,
    /// Its family, such as jetson [default: the name]
    #[arg(long, value_name = "NAME")]
    family: Option<String>,
    /// Its processor's architecture
    #[arg(long, value_name = "NAME", default_value = "aarch64")]
    architecture: String,
    /// How it is reached: ssh, adb, docker, tcp or local
    #[arg(long, value_name = "WAY", default_value = "ssh")]
    transport: String,
    /// Engines that run there; may be repeated [default: ort, tract]
    #[arg(long = "engine", value_name = "NAME")]
    engines: Vec<String>,
    /// ONNX Runtime's execution providers there; may be repeated
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<String>,
    /// A part of the device tree's model text, by which a connected board is known; may be repeated
    #[arg(long = "model", value_name = "TEXT")]
    models: Vec<String>,
    /// Memory in bytes
    #[arg(long, value_name = "BYTES", requires_all = ["bandwidth", "source", "date"])]
    memory: Option<u64>,
    /// Peak bandwidth of the memory in GB/s
    #[arg(long, value_name = "GB/S", requires = "memory")]
    bandwidth: Option<f64>,
    /// Where the numbers come from
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// The month they were looked up, YYYY-MM
    #[arg(long, value_name = "MONTH")]
    date: Option<String>,
    /// Replace a device of this name that you added before
    #[arg(long)]
    replace: bool,
}

pub fn run(options: &Options, _: &mut Console) -> Outcome {
    let Some(folder) = user_folder() else {
        return Err(Failure::failed(
            "there is no folder for your devices: neither XDG_CONFIG_HOME nor HOME is set; set one of them",
        ));
    };
    let usual = || vec!["ort".to_owned(), "tract".to_owned()];
    let new = NewDevice {
        name: options.name.clone(),
        description: options.description.clone(),
        family: options.family.clone(),
        architecture: options.architecture.clone(),
        transport: options.transport.clone(),
        engines: if options.engines.is_empty() { usual() } else { options.engines.clone() },
        providers: options.providers.clone(),
        models: options.models.clone(),
        memory: options.memory.zip(options.bandwidth),
        source: options.source.clone(),
        date: options.date.clone(),
    };
    let path = add(&folder, &new, options.replace)?;
    let text = format!(
        "{} added in {}; peaks and power modes can be written there by hand\nnext: masktas devices test --target {} \
         --connect ADDRESS\n",
        new.name,
        path.display(),
        new.name
    );
    Ok(Answer::new(text, json!({ "device": new.name, "file": path })))
}
