//! How a table of measured architectures is read: a short TOML file.

use std::path::Path;

use serde::Deserialize;

use crate::error::{At, Error, Result};

/// The definitions that come with the program, and the files that they are taken for without being asked.
pub(super) const EMBEDDED: [(&str, &str, &str); 4] = [
    ("nasbench201", "nasbench201.csv", include_str!("../../tables/nasbench201.toml")),
    ("nasbench101", "nasbench101_subset.csv", include_str!("../../tables/nasbench101.toml")),
    ("nasbench-macro", "nasbench_macro.csv", include_str!("../../tables/nasbench-macro.toml")),
    ("autoformer-vit", "vit_autoformer.csv", include_str!("../../tables/autoformer-vit.toml")),
];

/// What the architectures of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Operations on the edges of one fixed graph.
    Edges,
    /// Operations on vertices, edges chosen freely.
    Dag,
    /// One choice, or several, a layer; layers in a row.
    Chain,
}

/// Which columns of a table say what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name of the space.
    pub name: String,
    /// What its architectures are.
    pub kind: Kind,
    /// Kinds `edges` and `dag`: the column of operations.
    #[serde(default)]
    pub ops: String,
    /// Kind `edges`: vertices from and to, edge by edge; vertex 0 is the input, the highest the output.
    #[serde(default)]
    pub edges: Vec<(usize, usize)>,
    /// Kind `edges`: the operation that cuts an edge.
    #[serde(default)]
    pub none: Option<String>,
    /// Kind `edges`: the operation that changes nothing.
    #[serde(default)]
    pub skip: Option<String>,
    /// Kind `dag`: the column of adjacency rows.
    #[serde(default)]
    pub adjacency: String,
    /// Kind `chain`: columns of one value for the whole network.
    #[serde(default)]
    pub scalars: Vec<String>,
    /// Kind `chain`: columns of one value a layer.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Columns that may be searched by; higher is better.
    pub scores: Vec<String>,
    /// For each score, the column that is shown beside it and that no search sees.
    pub reports: Vec<String>,
    /// A column that is equal for equal architectures, in the place of a key of our own.
    #[serde(default)]
    pub group: Option<String>,
    /// The column of parameters.
    #[serde(default)]
    pub params: Option<String>,
    /// What its values are multiples of.
    #[serde(default = "one")]
    pub params_unit: f64,
    /// The column of floating-point operations.
    #[serde(default)]
    pub flops: Option<String>,
    /// What its values are multiples of.
    #[serde(default = "one")]
    pub flops_unit: f64,
}

fn one() -> f64 {
    1.0
}

impl Definition {
    /// The definition for a table: `reading` names one that comes with the program or a TOML file; without it, the table's file
    /// name says which, or a TOML file of its name beside it.
    ///
    /// # Errors
    /// [`Error::UnknownName`] when there is none; [`Error::Config`] for a definition that makes no sense.
    pub fn find(table: &Path, reading: Option<&str>) -> Result<Self> {
        let file = table.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (wanted, known) = match reading {
            Some(name) => (name.to_owned(), EMBEDDED.iter().find(|(known, ..)| *known == name)),
            None => (file.clone(), EMBEDDED.iter().find(|(_, known, _)| *known == file)),
        };
        if let Some((name, _, text)) = known {
            return Self::parse(name, text);
        }
        let path = reading.map_or_else(|| table.with_extension("toml"), std::path::PathBuf::from);
        if path.is_file() {
            let text = std::fs::read_to_string(&path).at(&path)?;
            return Self::parse(&path.display().to_string(), &text);
        }
        let hint = crate::suggest::hint(&wanted, EMBEDDED.iter().map(|(name, ..)| *name));
        let hint = format!("{hint}; give --read NAME, or --read FILE.toml that says which columns there are");
        Err(Error::UnknownName { what: "kind of table", name: wanted, hint })
    }

    /// Reads a definition; `place` is how errors call the text.
    ///
    /// # Errors
    /// [`Error::Config`] for what is not TOML, for unknown keys and for parts that do not fit.
    pub fn parse(place: &str, text: &str) -> Result<Self> {
        let refuse = |problem: String| Error::Config {
            place: place.to_owned(),
            problem,
            next: "compare with search/tables/nasbench201.toml".to_owned(),
        };
        let definition: Self = toml::from_str(text)
            .map_err(|error: toml::de::Error| refuse(error.to_string().trim().replace('\n', " ")))?;
        let d = &definition;
        if d.scores.is_empty() || d.scores.len() != d.reports.len() {
            let (scores, reports) = (d.scores.len(), d.reports.len());
            return Err(refuse(format!(
                "{scores} scores and {reports} reports; each score needs one report"
            )));
        }
        let missing = match d.kind {
            Kind::Edges if d.ops.is_empty() || d.edges.is_empty() => "kind \"edges\" needs ops and edges",
            Kind::Dag if d.ops.is_empty() || d.adjacency.is_empty() => "kind \"dag\" needs ops and adjacency",
            Kind::Chain if d.layers.is_empty() => "kind \"chain\" needs layers",
            _ => "",
        };
        if !missing.is_empty() {
            return Err(refuse(missing.to_owned()));
        }
        let backward = d.edges.iter().find(|(from, to)| from >= to || *to > MOST_VERTICES);
        let sorted = d.edges.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        match backward {
            None if !sorted => {
                Err(refuse("edges are not in the order of the vertices they lead to".to_owned()))
            }
            Some((from, to)) => Err(refuse(format!(
                "edge [{from}, {to}] does not lead from a lower to a higher vertex of at most {MOST_VERTICES}"
            ))),
            None => Ok(definition),
        }
    }
}

/// Vertices of a cell, at most: the paths between them stay countable.
pub(super) const MOST_VERTICES: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_reads() {
        for (name, _, text) in EMBEDDED {
            assert_eq!(Definition::parse(name, text).unwrap().name, name);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Definition::parse("mine.toml", text).unwrap_err().to_string();
        let head = "name = 'x'\nkind = 'edges'\nscores = ['a']\nreports = ['a']\n";
        assert!(error(head).contains("needs ops and edges"));
        assert!(error(&format!("{head}ops = 'o'\nedges = [[1, 1]]\n")).contains("edge [1, 1]"));
        assert!(error(&format!("{head}op = 'o'\n")).contains("op"));
        assert!(
            error("name = 'x'\nkind = 'chain'\nlayers = ['l']\nscores = ['a']\nreports = []\n")
                .contains("1 scores and 0")
        );
        let none = Definition::find(Path::new("/nowhere/nasbench20.csv"), Some("nasbench202")).unwrap_err();
        assert!(none.to_string().contains("did you mean `nasbench201`"), "{none}");
    }
}
