//! The folder for what can be made again: `MASKTAS_CACHE`, else `XDG_CACHE_HOME/masktas`, else `HOME/.cache/masktas`.

use std::path::PathBuf;

/// Its folder of this name, which may not exist; `None` when none of the three variables is set.
pub fn folder(name: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("MASKTAS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("masktas")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("masktas")));
    base.map(|base| base.join(name))
}
