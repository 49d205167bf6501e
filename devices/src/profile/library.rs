//! The profiles at hand: one folder, one file a device, space and way of measuring.

use std::path::{Path, PathBuf};

use super::{IMPORTED, ProfileFile};
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

    /// Where a profile is kept: by device, space, protocol and [`ProfileFile::kind`], so that one of another kind never takes
    /// its place.
    pub fn path(&self, profile: &ProfileFile) -> PathBuf {
        let space =
            profile.space.as_ref().map_or("models", |space| space.hash.get(..12).unwrap_or(&space.hash));
        self.folder.join(format!("{}-{space}-{}-{}.json", profile.device, profile.protocol, profile.kind()))
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

    /// The profiles of a device on a space (by the hash of its definition); what masktas measured before what was imported, and
    /// of those the newest first.
    pub fn of(&self, device: &str, space: &str) -> Vec<(PathBuf, ProfileFile)> {
        let fits = |profile: &ProfileFile| {
            profile.device == device && profile.space.as_ref().is_some_and(|own| own.hash == space)
        };
        let mut found: Vec<_> = self.profiles().0.into_iter().filter(|(_, profile)| fits(profile)).collect();
        found.sort_by_cached_key(|(path, profile)| {
            let written = std::fs::metadata(path).and_then(|data| data.modified()).ok();
            (profile.protocol == IMPORTED, std::cmp::Reverse(written))
        });
        found
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
        library.keep(&profile("pi5", "aaaaaaaaaaaaaaaa", "0123456789abcdef")).unwrap();
        library.keep(&profile("pi5", "bbbbbbbbbbbbbbbb", "0123456789abcdef")).unwrap();
        library.keep(&profile("pi5", "aaaaaaaaaaaaaaaa", "0123456789abcdef")).unwrap();
        let last = library.keep(&profile("jetson-nano", "aaaaaaaaaaaaaaaa", "fedcba9876543210")).unwrap();
        assert_eq!(library.devices(), ["jetson-nano", "pi5"]);
        assert_eq!(library.files().len(), 3, "one of the same kind is replaced");
        assert_eq!(library.of("pi5", "aaaaaaaaaaaaaaaa").len(), 1);
        assert!(library.of("pi4", "aaaaaaaaaaaaaaaa").is_empty());
        let imported = library.keep(&profile("pi5", "aaaaaaaaaaaaaaaa", IMPORTED)).unwrap();
        let of = library.of("pi5", "aaaaaaaaaaaaaaaa");
        assert_eq!(of.len(), 2);
        assert_eq!(of[1].0, imported, "what was measured comes first, though this is newer");
        std::fs::remove_file(imported).unwrap();
        std::fs::write(&last, "{").unwrap();
        let (profiles, broken) = library.profiles();
        assert_eq!((profiles.len(), broken.len()), (2, 1));
        assert!(broken[0].to_string().contains("jetson-nano"), "{}", broken[0]);
    }

    #[test]
    fn a_file_that_would_lead_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let evil = folder.path().join("evil.json");
        let hash = "aaaaaaaaaaaaaaaa";
        for (device, space, protocol) in [
            ("../../etc/x", hash, hash),
            ("/etc/x", hash, hash),
            ("pi5", "../../../x/aaaaaaa", hash),
            ("pi5", hash, "../x"),
        ] {
            profile(device, space, protocol).write(&evil).unwrap();
            let error = ProfileFile::read(&evil).unwrap_err().to_string();
            assert!(
                error.contains("evil.json") && (error.contains("name") || error.contains("hash")),
                "{error}"
            );
        }
        profile("pi5", hash, IMPORTED).write(&evil).unwrap();
        assert!(ProfileFile::read(&evil).is_ok());
    }
}
