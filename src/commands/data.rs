//! `masktas data`: what would be used of a source of images.

use std::path::PathBuf;

use clap::Args;
use masktas_search::images::{self, Images, Shares, Summary};
use masktas_search::progress::Progress as _;
use masktas_search::space::VitSpace;
use serde_json::{Value, json};

use super::recipe::RecipeArgs;
use crate::console::{Answer, Console, Outcome};
use crate::signal::nothing_kept;
use crate::style::Paint;
use crate::table::{Table, bytes, count};

/// How many skipped files are listed without `--list`.
const LISTED: usize = 5;

/// Options of `masktas data`.
#[derive(Args)]
pub struct Options {
    /// A folder of images, or the official CIFAR binaries; without it, the built-in photographs
    path: Option<PathBuf>,
    /// The space whose image size is used
    #[arg(long, value_name = "NAME")]
    space: Option<String>,
    /// Seed of the split
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// List every skipped file and every duplicate
    #[arg(long)]
    list: bool,
}

pub fn run(options: &Options, console: &mut Console) -> Outcome {
    let args = RecipeArgs {
        data: options.path.clone(),
        space: options.space.clone(),
        seed: options.seed,
        ..RecipeArgs::default()
    };
    let (recipe, _) = args.load(&[], console)?;
    let space = VitSpace::load(&recipe.space.name)?;
    let source = images::open(recipe.data.path.as_deref())?;
    let side = u32::try_from(space.definition().image).unwrap_or(u32::MAX);
    let shares = Shares { val: recipe.data.val, test: recipe.data.test };
    let how = images::Options { shares, ..images::Options::new(side, recipe.seed) };
    let opened = Images::open(source.as_ref(), &how, &console.reporter.images());
    let (_, summary) = opened.map_err(nothing_kept)?;
    let json = serde_json::to_value(&summary).unwrap_or(Value::Null);
    Ok(Answer::new(text(&summary, options.list, recipe.seed, console), json!({ "images": json })))
}

fn text(summary: &Summary, list: bool, seed: u64, console: &Console) -> String {
    let style = console.style;
    let mut out = format!(
        "{} ({})\n{} images: {} to train, {} to score, {} to test once\n",
        style.paint(Paint::Bold, &summary.origin),
        summary.kind,
        count(summary.images),
        count(summary.train),
        count(summary.val),
        count(summary.test)
    );
    let own = match (summary.own_val, summary.own_test) {
        (true, true) => "the validation and the test part are the source's own".to_owned(),
        (false, true) => format!("the test part is the source's own, the rest is drawn by seed {seed}"),
        (true, false) => format!("the validation part is the source's own, the rest is drawn by seed {seed}"),
        (false, false) => format!("drawn by seed {seed} and content, whatever the files are called"),
    };
    out.push_str(&format!("split    {own}\n"));
    let formats: Vec<String> =
        summary.formats.iter().map(|(name, number)| format!("{} {name}", count(*number))).collect();
    out.push_str(&format!("files    {}\n", formats.join(", ")));
    if let Some(sizes) = summary.sizes {
        let size = |[w, h]: [u32; 2]| format!("{w} x {h}");
        out.push_str(&format!(
            "sizes    {} px (median; from {} to {})\n",
            size(sizes.median),
            size(sizes.smallest),
            size(sizes.largest)
        ));
    }
    let (resize, crop) = (summary.geometry.resize, summary.geometry.crop);
    out.push_str(&format!("input    {crop} x {crop} px, the centre of {resize} x {resize}\n"));
    out.push_str(&format!("cache    {} in {}\n", bytes(summary.cache_bytes), summary.cache.display()));
    for (reason, number) in &summary.ignored {
        out.push_str(&format!("passed over   {} files: {reason}\n", count(*number)));
    }
    if !summary.duplicates.is_empty() {
        let number = count(summary.duplicates.len());
        out.push_str(&format!("duplicates    {number} files have the content of another and are not used\n"));
    }
    if !summary.skipped.is_empty() {
        let line = format!("skipped       {} files cannot be used:", count(summary.skipped.len()));
        out.push_str(&format!("{}\n", style.paint(Paint::Warn, &line)));
        let shown = if list { summary.skipped.len() } else { LISTED };
        let mut table = Table::new(&["file", "why"]);
        for skipped in summary.skipped.iter().take(shown) {
            table.row(vec![skipped.path.as_str().into(), skipped.reason.as_str().into()]);
        }
        out.push_str(&table.show(style));
        if summary.skipped.len() > shown {
            out.push_str("    … --list shows them all\n");
        }
    }
    if list {
        for duplicate in &summary.duplicates {
            out.push_str(&format!("{} = {}\n", duplicate.dropped, duplicate.kept));
        }
    }
    out
}
