//! `masktas init`: a commented masktas.toml to edit.

use std::path::PathBuf;

use clap::Args;
use masktas_search::recipe::DEFAULT;
use serde_json::json;

use crate::console::{Answer, Outcome};
use crate::exit::Failure;

const HEAD: &str = "\
# Overrides of a recipe. Every value below is the default and commented out: take the `#` away from
# what you want to change. `masktas search` reads this file from the folder it is started in.

";

/// Options of `masktas init`.
#[derive(Args)]
pub struct Options {
    /// Folder to write it into
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub fn run(options: &Options) -> Outcome {
    let path = options.folder.join("masktas.toml");
    if path.exists() && !options.force {
        return Err(Failure::usage(format!("{} is there already; --force replaces it", path.display())));
    }
    std::fs::create_dir_all(&options.folder).map_err(|error| Failure::io(&options.folder, error))?;
    std::fs::write(&path, format!("{HEAD}{}", commented(DEFAULT)))
        .map_err(|error| Failure::io(&path, error))?;
    let file = path.display();
    let text = format!("wrote {file}\nnext: edit it, then masktas search --config {file} --dry-run\n");
    Ok(Answer::new(text, json!({ "file": path })))
}

/// The default recipe with every value but the recipe's name commented out.
fn commented(recipe: &str) -> String {
    let mut out = String::new();
    // The recipe's own head speaks of the built-in file.
    let lines = recipe.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
    for line in lines {
        let value = line.contains('=') && !line.starts_with('#') && !line.starts_with("recipe");
        out.push_str(if value { "# " } else { "" });
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use masktas_search::recipe::Recipe;

    use super::*;

    #[test]
    fn the_file_changes_nothing_and_with_every_comment_sign_gone_neither() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("masktas.toml");
        let text = commented(DEFAULT);
        let default = Recipe::load(None, None, &[]).expect("the default");
        let load = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Recipe::load(None, Some(&path), &[]).expect("it is a recipe")
        };
        assert_eq!(load(&format!("{HEAD}{text}")), default);
        let optional = ["# path", "# latency =", "# params", "# flops", "# provider"];
        let bare: Vec<String> = text
            .lines()
            .filter(|line| !optional.iter().any(|start| line.starts_with(start)))
            .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned())
            .collect();
        assert!(bare.iter().any(|line| line.starts_with("epochs =")));
        assert_eq!(load(&bare.join("\n")), default);
    }
}
