//! What the members of a table cost, where it says so.

use super::TableSpace;
use crate::error::{Error, Result};
use crate::sampler::Budget;
use crate::space::{Genes, Space as _};

/// A limit on one column of a table, or none.
#[derive(Clone, Debug)]
pub struct TableBudget<'a> {
    space: &'a TableSpace,
    costs: Vec<f64>,
    most: f64,
    column: String,
}

impl<'a> TableBudget<'a> {
    /// Costs from `column`, at most `most`. Without a column everything costs 0.
    ///
    /// # Errors
    /// As [`TableSpace::column`].
    pub fn new(space: &'a TableSpace, column: Option<&str>, most: f64) -> Result<Self> {
        let costs = match column {
            Some(column) => space.column(column)?,
            None => vec![0.0; space.members().len()],
        };
        Ok(Self { space, costs, most, column: column.unwrap_or("cost").to_owned() })
    }
}

impl Budget for TableBudget<'_> {
    fn cost(&self, genes: &Genes) -> Result<f64> {
        let cost = self.space.member_at(genes).and_then(|at| self.costs.get(at)).copied();
        cost.filter(|cost| cost.is_finite()).ok_or_else(|| Error::Unusable {
            thing: format!("{} of {}", self.column, self.space.id(genes)),
            problem: "the table has no number for it".to_owned(),
            next: "limit something else".to_owned(),
        })
    }

    fn allows(&self, genes: &Genes) -> Result<bool> {
        Ok(self.cost(genes)? <= self.most)
    }

    fn excess(&self, genes: &Genes) -> Result<f64> {
        let cost = self.cost(genes)?;
        Ok(if cost <= self.most { 0.0 } else { cost / self.most.max(f64::MIN_POSITIVE) - 1.0 })
    }

    fn known(&self) -> Result<Option<Genes>> {
        for genes in self.space.members() {
            if self.allows(genes)? {
                return Ok(Some(genes.clone()));
            }
        }
        Ok(None)
    }

    fn infeasible(&self) -> Error {
        let low = self.costs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.costs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Error::Infeasible {
            space: self.space.name().into(),
            limit: format!("{} = {}", self.column, self.most),
            low: low.to_string(),
            high: high.to_string(),
            next: format!("allow at least {low}"),
        }
    }
}
