//! Published tables of measured latencies, as graphs' terms by hand and milliseconds by device.

mod fbnet;
mod hat;
mod nasbench;
mod ofa;
mod phones;
mod timm;

use std::collections::BTreeMap;

use crate::csv::Csv;

/// A table.
pub struct Table {
    /// Names and units of the terms that a target's model sees.
    pub terms: Vec<(String, &'static str)>,
    /// Names and units of the terms that models of source devices see, when these are others.
    pub fine: Vec<(String, &'static str)>,
    /// Term that counts FLOP, where there is one.
    pub flops: Option<usize>,
    /// Whether sources are models (of architectures that they can predict) or the table's measurements (of named models).
    pub modelled: bool,
    /// Devices, in the order of the file.
    pub devices: Vec<Device>,
    pub rows: Vec<Row>,
}

/// A column of latencies.
#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    /// What it is: `nvidia`, `server`, `phones`, `fpga`, `asic`, a phone's name.
    pub class: String,
    /// Devices of one machine: never sources of each other.
    pub machine: String,
}

/// An architecture.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub values: Vec<f64>,
    pub fine: Vec<f64>,
    /// Place in the order of measuring, where the table tells it.
    pub order: Option<f64>,
    /// Milliseconds by device's name.
    pub ms: BTreeMap<String, f64>,
}

/// The tables by name, with the file of each below `MASKTAS_DATA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// 10,661 translation transformers on a Raspberry Pi, a Xeon and a Titan Xp.
    Hat,
    /// 69 real vision transformers on phones, by cores used.
    VitPhones,
    /// 5,000 networks of the FBNet space on 24 devices.
    Fbnet,
    /// 15,625 cells of NAS-Bench-201 on 24 devices.
    Nasbench201,
    /// 5,000 networks of the Once-for-All space on 9 devices.
    Ofa,
    /// Vision transformers of timm on GPUs and a workstation CPU.
    Timm,
}

impl Kind {
    pub fn file(self) -> &'static str {
        match self {
            Kind::Hat => "latency/hat/hat_latency.csv",
            Kind::VitPhones => "latency/mobile_ml_benchmark/torch_vit_real.csv",
            Kind::Fbnet => "latency/help/fbnet.csv",
            Kind::Nasbench201 => "latency/help/nasbench201.csv",
            Kind::Ofa => "latency/help/ofa.csv",
            Kind::Timm => "latency/timm/infer_bench.csv",
        }
    }

    /// Reads one or two files into one table; rows of the first come first, and the counts of rows of each are returned.
    pub fn read(self, files: &[Csv]) -> Result<(Table, Vec<usize>), String> {
        let parts = match self {
            Kind::Hat => hat::read(files),
            Kind::VitPhones => phones::read(files),
            Kind::Fbnet => fbnet::read(files),
            Kind::Nasbench201 => nasbench::read(files),
            Kind::Ofa => ofa::read(files),
            Kind::Timm => timm::read(files),
        };
        let (table, counts) = parts?;
        for row in &table.rows {
            assert_eq!(row.values.len(), table.terms.len(), "terms of {}", row.id);
            assert_eq!(row.fine.len(), table.fine.len(), "fine terms of {}", row.id);
        }
        Ok((table, counts))
    }

    /// Devices that the bars of this table speak of.
    pub fn targets(self, table: &Table) -> Vec<String> {
        let names = table.devices.iter().map(|device| device.name.clone());
        match self {
            Kind::VitPhones => names.filter(|name| name.ends_with("|1large|float")).collect(),
            Kind::Timm => names.filter(|name| name.contains("-cpu-")).collect(),
            _ => names.collect(),
        }
    }
}

/// Adds a device when it is new.
fn device(devices: &mut Vec<Device>, name: &str, class: &str, machine: &str) {
    if !devices.iter().any(|own| own.name == name) {
        devices.push(Device { name: name.into(), class: class.into(), machine: machine.into() });
    }
}

/// Class of a device of HELP's tables, by its name.
fn help_class(name: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&[
        "1080", "2080", "titan", "rtx", "gtx", "quadro", "tesla", "jetson", "nano", "tx2", "v100", "t4",
    ]) {
        "nvidia"
    } else if starts(&["gold", "silver", "xeon", "epyc", "core", "i7", "i9"]) {
        "server"
    } else if starts(&["essential", "pixel", "samsung", "iphone", "note", "galaxy", "oneplus"]) {
        "phones"
    } else if starts(&["fpga"]) {
        "fpga"
    } else if starts(&["raspi"]) {
        "raspi"
    } else {
        "asic"
    }
}

/// The latency columns of a HELP table: all but the architecture's. Devices of one chip are measured at several batch sizes, after
/// the last underscore.
fn help_devices(csv: &Csv, architecture: &[&str]) -> Vec<(usize, Device)> {
    let columns = csv.header.iter().enumerate().filter(|(_, name)| !architecture.contains(&name.as_str()));
    columns
        .map(|(column, name)| {
            let machine = match name.rsplit_once('_') {
                Some((chip, batch)) if batch.parse::<u32>().is_ok_and(|b| b <= 512) => chip,
                _ => name,
            };
            (column, Device { name: name.clone(), class: help_class(name).into(), machine: machine.into() })
        })
        .collect()
}

/// Milliseconds of one row of a HELP table. Below `least` ms nothing was measured but the clock.
fn help_ms(
    csv: &Csv,
    row: &[String],
    devices: &[(usize, Device)],
    least: f64,
) -> Result<BTreeMap<String, f64>, String> {
    let mut ms = BTreeMap::new();
    for (column, device) in devices {
        match csv.number(row, *column)? {
            Some(value) if value > 0.0 && value >= least => {
                ms.insert(device.name.clone(), value);
            }
            _ => {}
        }
    }
    Ok(ms)
}

/// Terms and fine terms of one row.
type Values = dyn Fn(&Csv, &[String]) -> Result<(Vec<f64>, Vec<f64>), String>;

/// What both files of a HELP table share: architectures to terms, columns to devices.
fn help(
    files: &[Csv],
    architecture: &[&str],
    least: f64,
    terms: Vec<(String, &'static str)>,
    fine: Vec<(String, &'static str)>,
    flops: Option<usize>,
    values: &Values,
) -> Result<(Table, Vec<usize>), String> {
    let (mut devices, mut rows, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for csv in files {
        for name in architecture {
            csv.column(name)?;
        }
        let columns = help_devices(csv, architecture);
        for (_, own) in &columns {
            device(&mut devices, &own.name, &own.class, &own.machine);
        }
        for row in &csv.rows {
            let (values, fine) = values(csv, row)?;
            let ms = help_ms(csv, row, &columns, least)?;
            let id = architecture.iter().skip(1).map(|name| Ok(row[csv.column(name)?].clone()));
            let id = id.collect::<Result<Vec<_>, String>>()?.join(" ");
            rows.push(Row { id, values, fine, order: None, ms });
        }
        counts.push(csv.rows.len());
    }
    Ok((Table { terms, fine, flops, modelled: true, devices, rows }, counts))
}
