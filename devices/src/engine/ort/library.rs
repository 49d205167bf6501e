//! Finding, probing and loading ONNX Runtime's shared library.
//!
//! The library is found by our own search order, probed (is it a file, does it export the API, how old is it) and only
//! then handed to `ort::init_from`; `ort`'s own discovery is never used, because it panics.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::engine::guarded;
use crate::error::{Error, Result};

/// Oldest minor version of ONNX Runtime 1.x that is accepted: what `ort` was built for.
pub const ORT_FLOOR: u32 = ::ort::MINOR_VERSION;

/// Environment variable that names the library.
const VARIABLE: &str = "MASKTAS_ORT_LIB";

/// Where a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The caller named it.
    Explicit,
    /// `MASKTAS_ORT_LIB`.
    Variable,
    /// The folder of the running program.
    BesideBinary,
    /// `$XDG_CACHE_HOME/masktas/ort`, or `~/.cache/masktas/ort`.
    Cache,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Explicit => "--ort-lib",
            Place::Variable => VARIABLE,
            Place::BesideBinary => "beside the program",
            Place::Cache => "the cache folder",
        })
    }
}

/// A library and the place it was found at. It was not opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Where in the search order.
    pub place: Place,
}

/// The places that are searched, in order: the explicit file, the file in `MASKTAS_ORT_LIB`, then the
/// folders beside the program and in the cache, which are listed as folders.
pub fn search_places(explicit: Option<&Path>) -> Vec<(Place, PathBuf)> {
    let file = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut places = Vec::new();
    if let Some(path) = explicit {
        places.push((Place::Explicit, path.to_owned()));
    }
    if let Some(path) = file(VARIABLE) {
        places.push((Place::Variable, path));
    }
    if let Some(folder) = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)) {
        places.push((Place::BesideBinary, folder));
    }
    let cache = file("XDG_CACHE_HOME").or_else(|| file("HOME").map(|home| home.join(".cache")));
    if let Some(cache) = cache {
        places.push((Place::Cache, cache.join("masktas").join("ort")));
    }
    places
}

/// The library to use: the first place of [`search_places`] that names or holds one. A file that was named (explicitly
/// or by the variable) is taken even when it does not exist, so that a typing error is never papered over
/// by a library further down.
///
/// # Errors
/// [`Error::OrtMissing`] with the places looked at.
pub fn find_library(explicit: Option<&Path>) -> Result<Found> {
    let places = search_places(explicit);
    for (place, path) in &places {
        match place {
            Place::Explicit | Place::Variable => return Ok(Found { path: path.clone(), place: *place }),
            Place::BesideBinary | Place::Cache => {
                if let Some(path) = newest_in(path) {
                    return Ok(Found { path, place: *place });
                }
            }
        }
    }
    let searched: Vec<_> = std::iter::once(VARIABLE.to_owned())
        .chain(places.iter().map(|(_, p)| p.display().to_string()))
        .collect();
    Err(Error::OrtMissing { searched: searched.join(", ") })
}

/// The library with the highest version in its file name.
pub(crate) fn newest_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut found: Vec<(Vec<u64>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = library_name_version(name.to_str()?)?;
            entry.path().is_file().then(|| (version, entry.path()))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// The numbers in a library's file name (`libonnxruntime.so.1.23.2`, `libonnxruntime.1.23.2.dylib`, `onnxruntime.dll`),
/// or `None` when it is not ONNX Runtime's main library.
fn library_name_version(name: &str) -> Option<Vec<u64>> {
    let rest = name
        .strip_prefix("libonnxruntime.so")
        .or_else(|| name.strip_prefix("libonnxruntime").and_then(|rest| rest.strip_suffix(".dylib")))
        .or_else(|| (name == "onnxruntime.dll").then_some(""))?;
    let numbers = match rest.strip_prefix('.') {
        Some(numbers) => numbers,
        None if rest.is_empty() => return Some(Vec::new()),
        None => return None,
    };
    numbers.split('.').map(|part| part.parse().ok()).collect()
}

/// Version a library states, after the checks that keep loading from blocking or crashing: it must be a regular
/// file, loadable, and export ONNX Runtime's entry point. The floor is not checked here.
///
/// # Errors
/// [`Error::OrtUnusable`] with the reason.
pub fn library_version(path: &Path) -> Result<String> {
    let unusable = |reason: String| Error::OrtUnusable { path: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|e| unusable(e.to_string()))?;
    if !metadata.is_file() {
        return Err(unusable("it is not a regular file".into()));
    }
    // Safety: loading runs the library's own initialisers; the user named this file as a library to run.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| unusable(loader_words(&e)))?;
    let version = {
        type Base = unsafe extern "C" fn() -> *const ::ort::sys::OrtApiBase;
        // Safety: the symbol has this signature in every ONNX Runtime 1.x.
        let base = unsafe { library.get::<Base>(b"OrtGetApiBase\0") }
            .map_err(|_| unusable("it does not export OrtGetApiBase, so it is some other library".into()))?;
        // Safety: as above; the pointer is checked, and points to a static of the library.
        let base = unsafe { base() };
        if base.is_null() {
            return Err(unusable("OrtGetApiBase returned nothing".into()));
        }
        // Safety: the version text is a static of the library, ended by a zero byte.
        unsafe { std::ffi::CStr::from_ptr(((*base).GetVersionString)()) }.to_string_lossy().into_owned()
    };
    // Never unloaded: ONNX Runtime's thread-local and static destructors must not outlive its code.
    std::mem::forget(library);
    Ok(version)
}

/// The loader's message with its causes.
fn loader_words(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// Refuses a version below the floor or of another major version.
fn check_version(path: &Path, version: &str) -> Result<()> {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(1), Some(minor)) if minor >= ORT_FLOOR => Ok(()),
        _ => Err(Error::OrtVersion { path: path.to_owned(), found: version.to_owned(), floor: ORT_FLOOR }),
    }
}

/// The library in use.
pub(super) struct Loaded {
    path: PathBuf,
    pub(super) version: String,
    pub(super) environment: ::ort::environment::Environment,
}

/// The library of this process. ONNX Runtime allows one environment per process, and it is never torn down.
static LOADED: OnceLock<Loaded> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The library of this process, loaded at the first call.
///
/// # Errors
/// When it is missing, unusable or too old; [`Error::OrtLoadedTwice`].
pub(super) fn loaded(explicit: Option<&Path>) -> Result<&'static Loaded> {
    if let (Some(loaded), None) = (LOADED.get(), explicit) {
        return Ok(loaded);
    }
    let asked = find_library(explicit)?.path;
    let _lock = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(loaded) = LOADED.get() {
        return if same_file(&loaded.path, &asked) {
            Ok(loaded)
        } else {
            Err(Error::OrtLoadedTwice { loaded: loaded.path.clone(), asked })
        };
    }
    let path = std::fs::canonicalize(&asked)
        .map_err(|e| Error::OrtUnusable { path: asked.clone(), reason: e.to_string() })?;
    let version = library_version(&path)?;
    check_version(&path, &version)?;
    let environment = guarded(|| {
        let builder = ::ort::init_from(&path).map_err(|e| e.to_string())?;
        builder.with_name("masktas").with_telemetry(false).build().map_err(|e| e.to_string())
    })
    .map_err(|reason| Error::OrtUnusable { path: path.clone(), reason })?;
    // Below this level is chatter about graphs, which belongs in no user's terminal.
    environment.set_log_level(::ort::logging::LogLevel::Error);
    Ok(LOADED.get_or_init(|| Loaded { path, version, environment }))
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_main_library_counts_and_the_newest_wins() {
        assert_eq!(library_name_version("libonnxruntime.so.1.23.2"), Some(vec![1, 23, 2]));
        assert_eq!(library_name_version("libonnxruntime.so"), Some(vec![]));
        assert_eq!(library_name_version("libonnxruntime.1.23.2.dylib"), Some(vec![1, 23, 2]));
        assert_eq!(library_name_version("libonnxruntime_providers_cuda.so"), None);
        assert_eq!(library_name_version("libonnxruntime.so.1.23.2.tmp"), None);
        let folder = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime.so", "notes"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        std::fs::create_dir(folder.path().join("libonnxruntime.so.2.0.0")).unwrap();
        assert_eq!(newest_in(folder.path()).unwrap().file_name().unwrap(), "libonnxruntime.so.1.31.1");
    }

    #[test]
    fn versions_below_the_floor_are_refused_with_both_numbers() {
        let path = Path::new("/lib/libonnxruntime.so.1.11.0");
        let text = check_version(path, "1.11.0").unwrap_err().to_string();
        assert!(text.contains("1.11.0") && text.contains("1.17") && text.contains("make ort"), "{text}");
        assert!(check_version(path, "1.17.0").is_ok());
        assert!(check_version(path, "1.31.1").is_ok());
        assert!(check_version(path, "2.0.0").is_err());
        assert!(check_version(path, "nonsense").is_err());
    }

    #[test]
    fn a_named_library_is_never_replaced_by_another() {
        let missing = Path::new("/nowhere/libonnxruntime.so");
        let found = find_library(Some(missing)).unwrap();
        assert_eq!((found.path.as_path(), found.place), (missing, Place::Explicit));
        let text = library_version(missing).unwrap_err().to_string();
        assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("make ort"), "{text}");
    }

    #[test]
    fn files_that_are_not_the_library_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(library_version(folder.path()).unwrap_err().to_string().contains("not a regular file"));
        let text = folder.path().join("libonnxruntime.so.1.31.1");
        std::fs::write(&text, "not a library").unwrap();
        assert!(library_version(&text).unwrap_err().to_string().contains("make ort"));
        // Any C library that exists on the test machine will do: it loads and has no OrtGetApiBase.
        let other =
            ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
        if let Some(other) = other.iter().map(Path::new).find(|path| path.exists()) {
            assert!(library_version(other).unwrap_err().to_string().contains("OrtGetApiBase"));
        }
    }
}
