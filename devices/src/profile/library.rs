//! The profiles at hand: one folder, one file a device, space and way of measuring.

use std::path::{Path, PathBuf};

use super::ProfileFile;
use crate::error::{Error, Result};

/// A folder of profiles.
#[derive(Clone, Debug)]
pub struct Library {
    folder: PathBuf,
}

impl Library {
    /// The user's: `$XDG_DATA_HOME/masktas/profiles`, or `~/.local/share/masktas/profiles`. `None` where neither variable is
    /// set.
    pub fn of_user() -> Option<Self> {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data =
            from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local").join("share")))?;
        Some(Self::at(&data.join("masktas").join("profiles")))
    }

    /// The profiles in `folder`, which need not exist.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where a profile is kept: by device, space and protocol, so that one of another kind never takes its place.
    pub fn path(&self, profile: &ProfileFile) -> PathBuf {
        let space =
            profile.space.as_ref().map_or("models", |space| space.hash.get(..12).unwrap_or(&space.hash));
        self.folder.join(format!("{}-{space}-{}.json", profile.device, profile.protocol))
    }

    /// Keeps a profile; one of the same kind is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep(&self, profile: &ProfileFile) -> Result<PathBuf> {
        let path = self.path(profile);
        profile.write(&path)?;
        Ok(path)
    }

    /// Files in the folder, sorted by name.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        files.sort();
        files
    }

    /// Every profile that can be read, and why the others cannot.
    pub fn profiles(&self) -> (Vec<(PathBuf, ProfileFile)>, Vec<Error>) {
        let (mut profiles, mut broken) = (Vec::new(), Vec::new());
        for path in self.files() {
            match ProfileFile::read(&path) {
                Ok(profile) => profiles.push((path, profile)),
                Err(error) => broken.push(error),
            }
        }
        (profiles, broken)
    }

    /// Names of the devices that have a profile here, sorted.
    pub fn devices(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.profiles().0.into_iter().map(|(_, profile)| profile.device).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The profiles of a device on a space (by the hash of its definition).
    pub fn of(&self, device: &str, space: &str) -> Vec<(PathBuf, ProfileFile)> {
        let fits = |profile: &ProfileFile| {
            profile.device == device && profile.space.as_ref().is_some_and(|own| own.hash == space)
        };
        self.profiles().0.into_iter().filter(|(_, profile)| fits(profile)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SpaceId;
    use super::*;

    fn profile(device: &str, hash: &str, protocol: &str) -> ProfileFile {
        ProfileFile {
            masktas_profile: super::super::FORMAT,
            device: device.into(),
            version: "0.1.0".into(),
            space: Some(SpaceId { name: "s".into(), hash: hash.into() }),
            protocol: protocol.into(),
            threads: 1,
            engines: Vec::new(),
        }
    }

    #[test]
    fn profiles_are_found_by_device_and_space() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::at(&folder.path().join("profiles"));
        assert!(library.devices().is_empty());
        library.keep(&profile("pi5", "aaaaaaaaaaaaaaaa", "p")).unwrap();
        library.keep(&profile("pi5", "bbbbbbbbbbbbbbbb", "p")).unwrap();
        library.keep(&profile("pi5", "aaaaaaaaaaaaaaaa", "p")).unwrap();
        let last = library.keep(&profile("jetson-nano", "aaaaaaaaaaaaaaaa", "q")).unwrap();
        assert_eq!(library.devices(), ["jetson-nano", "pi5"]);
        assert_eq!(library.files().len(), 3, "one of the same kind is replaced");
        assert_eq!(library.of("pi5", "aaaaaaaaaaaaaaaa").len(), 1);
        assert!(library.of("pi4", "aaaaaaaaaaaaaaaa").is_empty());
        std::fs::write(&last, "{").unwrap();
        let (profiles, broken) = library.profiles();
        assert_eq!((profiles.len(), broken.len()), (2, 1));
        assert!(broken[0].to_string().contains("jetson-nano"), "{}", broken[0]);
    }
}
