//! A profile as one file that people share.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{IMPORTED, Outcome, Row};
use crate::catalogue::check_name;
use crate::error::{Error, Result};
use crate::latency::{HeldOut, LatencyModel, from_json};
use crate::protocol::short_hash;

/// Version of the file.
pub const FORMAT: u32 = 1;

/// Largest file that is read, in bytes.
const MOST: u64 = 256 << 20;

/// What was measured on one device, and the latency models fitted to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// [`FORMAT`].
    pub masktas_profile: u32,
    /// The device's name in the catalogue.
    pub device: String,
    /// Version of the program that made it.
    pub version: String,
    /// The space whose members were measured; `None`: other models.
    pub space: Option<SpaceId>,
    /// Hash of the measuring protocol.
    pub protocol: String,
    /// Threads inside one operation.
    pub threads: usize,
    /// One entry an engine, in the order they were measured.
    pub engines: Vec<EngineProfile>,
}

/// A search space, by name and by the hash of its definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceId {
    /// Its name.
    pub name: String,
    /// Hash of its definition.
    pub hash: String,
}

/// One engine's part of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineProfile {
    /// The engine.
    pub engine: String,
    /// The fitted model, as [`LatencyModel::to_json`] writes it.
    pub model: serde_json::Value,
    /// Its error on measurements left out of the fit.
    pub held_out: HeldOut,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl EngineProfile {
    /// The fitted model.
    ///
    /// # Errors
    /// [`Error::InvalidLatencyModel`].
    pub fn latency_model(&self) -> Result<Box<dyn LatencyModel>> {
        from_json(&self.model.to_string())
    }
}

impl ProfileFile {
    /// Reads a profile and everything in it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotAProfile`] for another file; [`Error::InvalidProfile`] with what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let fail = |reason: String| Error::InvalidProfile { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > MOST {
            return Err(fail(format!("it has {length} bytes and at most {MOST} are read")));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        // The version first: a newer file may differ everywhere else.
        let version = serde_json::from_slice::<Head>(&bytes)
            .map_err(|error| Error::NotAProfile { path: path.to_owned(), reason: error.to_string() })?;
        if version.masktas_profile != FORMAT {
            let found = version.masktas_profile;
            return Err(fail(format!("its version is {found} and this program reads {FORMAT}")));
        }
        let file: Self = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
        file.check_names().map_err(fail)?;
        for engine in &file.engines {
            engine.latency_model().map_err(|error| fail(error.to_string()))?;
        }
        Ok(file)
    }

    /// What becomes a part of a path is what this program writes, and no path.
    fn check_names(&self) -> std::result::Result<(), String> {
        check_name(&self.device)?;
        let is_hash =
            |text: &str| (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(space) = self.space.as_ref().filter(|space| !is_hash(&space.hash)) {
            return Err(format!("the space's hash `{}` is no hash", space.hash.escape_default()));
        }
        if self.protocol != IMPORTED && !is_hash(&self.protocol) {
            return Err(format!("the protocol `{}` is no hash", self.protocol.escape_default()));
        }
        Ok(())
    }

    /// Identity of how it was measured beyond the protocol: engines with their versions and providers, machine (with its
    /// power mode), threads; of imported measurements the models. 8 hexadecimal digits.
    pub fn kind(&self) -> String {
        let rows = || self.engines.iter().flat_map(|engine| engine.rows.iter().map(move |row| (engine, row)));
        let mut facts: Vec<String> =
            rows().filter_map(|(_, row)| row.measurement()).map(|m| format!("{:?}", m.key())).collect();
        if facts.is_empty() {
            facts = rows().map(|(engine, row)| format!("{} {}", engine.engine, row.id)).collect();
        }
        facts.sort();
        facts.dedup();
        let hash = short_hash(facts.join("\n").as_bytes());
        hash.get(..8).unwrap_or(&hash).to_owned()
    }

    /// Writes the profile beside `path` and moves it there, so that a reader never meets half of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        serde_json::to_writer(&mut file, self).map_err(|error| io(error.into()))?;
        file.write_all(b"\n").and_then(|()| file.as_file().sync_all()).map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is its owner's alone; this one is to be shared.
            let _ = file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644));
        }
        file.persist(path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// Whether its milliseconds were measured by masktas, and not taken over from another tool.
    pub fn measured_here(&self) -> bool {
        self.engines
            .iter()
            .flat_map(|engine| &engine.rows)
            .all(|row| !matches!(row.outcome, Outcome::Imported { .. }))
    }
}

#[derive(Deserialize)]
struct Head {
    masktas_profile: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_another_version_or_with_unknown_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ProfileFile::read(&path).unwrap_err().to_string()
        };
        let text = read(r#"{"masktas_profile":9,"anything":1}"#);
        assert!(text.contains('9') && text.contains("reads 1") && text.contains("p.json"), "{text}");
        assert!(read("{}").contains("masktas_profile"));
        let text = read("model,ms\n");
        assert!(
            text.contains("p.json is not a profile file") && !text.contains("profile the device again"),
            "{text}"
        );
        let empty =
            r#""device":"host","version":"0","space":null,"protocol":"imported","threads":1,"engines":[]"#;
        assert!(read(&format!(r#"{{"masktas_profile":1,{empty},"more":1}}"#)).contains("more"));
        std::fs::write(&path, format!(r#"{{"masktas_profile":1,{empty}}}"#)).unwrap();
        let file = ProfileFile::read(&path).unwrap();
        let other = folder.path().join("sub").join("q.json");
        file.write(&other).unwrap();
        assert_eq!(ProfileFile::read(&other).unwrap(), file);
    }
}
