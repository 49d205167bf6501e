//! What a TOML file says about a space of vision transformers, and whether it makes sense.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::hidden;
use crate::error::{Error, Result};
use crate::keys;

/// The choices of a space of vision transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitDefinition {
    /// Always `vit`.
    pub family: String,
    /// Name shown to people; not part of the hash.
    pub name: String,
    /// Side of the square input image, in pixels.
    pub image: usize,
    /// Side of a square patch, in pixels; divides `image`.
    pub patch: usize,
    /// Width of one attention head.
    pub head_dim: usize,
    /// Widths, ascending.
    pub embed: Vec<usize>,
    /// Depths, ascending.
    pub depth: Vec<usize>,
    /// Heads of a block, ascending.
    pub heads: Vec<usize>,
    /// Hidden width of a block's feed-forward part over the width, ascending.
    pub ratio: Vec<f64>,
    /// Relative position tables, clipped at this distance in patches; absent: no tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<usize>,
}

/// The next step after a definition that cannot be read.
const HELP: &str = "compare with search/spaces/vit-micro.toml";

impl VitDefinition {
    /// Reads a definition; `place` is how errors call the text.
    pub(super) fn parse(place: &str, text: &str) -> Result<Self> {
        let table = keys::parse(place, text, HELP)?;
        let integers = || Value::Array(vec![Value::Integer(1), Value::Integer(2)]);
        let mut schema = Table::new();
        for (key, value) in [
            ("family", Value::String("vit".to_owned())),
            ("name", Value::String("mine".to_owned())),
            ("image", Value::Integer(32)),
            ("patch", Value::Integer(4)),
            ("head_dim", Value::Integer(32)),
            ("embed", integers()),
            ("depth", integers()),
            ("heads", integers()),
            ("ratio", integers()),
            ("relative", Value::Integer(14)),
        ] {
            schema.insert(key.to_owned(), value);
        }
        keys::check(place, text, &table, &schema)?;
        toml::from_str(text).map_err(|error| Error::Config {
            place: place.to_owned(),
            problem: error.message().replace('\n', ", "),
            next: HELP.to_owned(),
        })
    }

    /// Largest depth.
    pub fn max_depth(&self) -> usize {
        self.depth.last().copied().unwrap_or(0)
    }

    /// Number of members: widths x sum over depths of (heads x ratios)^depth; `None` beyond `u128`.
    pub fn count(&self) -> Option<u128> {
        let block = (self.heads.len() * self.ratio.len()) as u128;
        let mut sum: u128 = 0;
        for &depth in &self.depth {
            sum = sum.checked_add(block.checked_pow(u32::try_from(depth).ok()?)?)?;
        }
        sum.checked_mul(self.embed.len() as u128)
    }

    /// SHA-256 of everything but the name, in hexadecimal.
    pub fn hash(&self) -> String {
        let nameless = Self { name: String::new(), ..self.clone() };
        let mut hash = Sha256::new();
        hash.update(b"masktas vit space 1\n");
        hash.update(format!("{nameless:?}").as_bytes());
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the definition makes sense.
    pub(super) fn check(&self) -> Result<()> {
        if self.family != "vit" {
            let hint = crate::suggest::hint(&self.family, ["vit"]);
            return Err(Error::UnknownName { what: "family of spaces", name: self.family.clone(), hint });
        }
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(word) {
            let problem = format!("{:?} is not 1 to 64 letters, digits, `-`, `_` or `.`", self.name);
            return self.fail("name", problem, "rename the space");
        }
        self.range("image", self.image, 1, 4096)?;
        self.range("patch", self.patch, 1, self.image)?;
        if !self.image.is_multiple_of(self.patch) {
            let problem = format!("{} pixels do not divide into patches of {}", self.image, self.patch);
            return self.fail("patch", problem, "choose a patch that divides the image");
        }
        let patches = (self.image / self.patch).pow(2);
        if patches < 4 {
            let problem = format!("{patches} patch an image, at least 4: some are hidden and some are seen");
            return self.fail("patch", problem, "choose a smaller patch");
        }
        if patches > 16_384 {
            let problem = format!("{patches} patches an image, at most 16384");
            return self.fail("patch", problem, "choose a larger patch");
        }
        self.range("head_dim", self.head_dim, 1, 1024)?;
        self.choices("embed", &self.embed, 16_384)?;
        self.choices("depth", &self.depth, 128)?;
        // Ids write heads as one base-36 digit and ratios as one letter.
        self.choices("heads", &self.heads, 35)?;
        if self.ratio.is_empty() || self.ratio.len() > 26 {
            let problem = format!("{} options, not 1 to 26", self.ratio.len());
            return self.fail("ratio", problem, "list fewer ratios");
        }
        for pair in self.ratio.windows(2) {
            if pair[0] >= pair[1] {
                return self.fail("ratio", format!("{} before {}", pair[0], pair[1]), "list them ascending");
            }
        }
        for &ratio in &self.ratio {
            if !(ratio > 0.0 && ratio <= 64.0) {
                return self.fail("ratio", format!("{ratio} is not in (0, 64]"), "choose another");
            }
        }
        for &embed in &self.embed {
            let widths: Vec<usize> = self.ratio.iter().map(|ratio| hidden(embed, *ratio)).collect();
            if widths.first() == Some(&0) || widths.windows(2).any(|pair| pair[0] == pair[1]) {
                let problem = format!("at width {embed} the hidden widths are {widths:?}");
                return self.fail("ratio", problem, "choose ratios that give different widths above 0");
            }
        }
        if let Some(clip) = self.relative {
            self.range("relative", clip, 1, 1024)?;
        }
        if self.count().is_none() {
            let problem = format!("more than {} architectures", u128::MAX);
            return self.fail("depth", problem, "choose fewer options or a smaller depth");
        }
        let widest = self.heads.last().copied().unwrap_or(0) * self.head_dim;
        let largest = widest
            .max(hidden(self.embed.last().copied().unwrap_or(0), self.ratio.last().copied().unwrap_or(0.0)));
        if largest > 1 << 20 {
            let problem = format!("a layer is {largest} wide, at most {}", 1 << 20);
            return self.fail("heads", problem, "choose fewer or narrower heads, or a smaller ratio");
        }
        Ok(())
    }

    fn choices(&self, key: &str, options: &[usize], most: usize) -> Result<()> {
        if options.is_empty() || options.len() > 1024 {
            let problem = format!("{} options, not 1 to 1024", options.len());
            return self.fail(key, problem, "list the choices");
        }
        for pair in options.windows(2) {
            if pair[0] >= pair[1] {
                return self.fail(key, format!("{} before {}", pair[0], pair[1]), "list them ascending");
            }
        }
        options.iter().try_for_each(|&option| self.range(key, option, 1, most))
    }

    fn range(&self, key: &str, value: usize, least: usize, most: usize) -> Result<()> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        self.fail(key, format!("{value} is not in {least} to {most}"), "choose another")
    }

    fn fail(&self, key: &str, problem: String, next: &str) -> Result<()> {
        Err(Error::Invalid {
            thing: format!("space {}, {key}", self.name),
            problem,
            next: format!("{next} in its definition"),
        })
    }
}
