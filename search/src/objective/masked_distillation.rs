//! Masked image modelling while distilling from a frozen teacher (MaskTAS, ICLR 2024), with the
//! token-relation term of TinyMIM and in-place distillation from the largest subnet (NASViT, POA).

use burn::tensor::Tensor;

use super::scale::Scale;
use super::{Objective, Pass, Term, TermWeights, terms};
use crate::error::{Error, Result};

/// The default objective.
#[derive(Clone, Debug)]
pub struct MaskedDistillation {
    weights: TermWeights,
    tau: f64,
    scale: Scale,
}

impl MaskedDistillation {
    /// An objective with these weights and this relation temperature.
    pub fn new(weights: TermWeights, tau: f64, scale_steps: u64) -> Self {
        Self { weights, tau, scale: Scale::new(scale_steps) }
    }
}

impl Objective for MaskedDistillation {
    fn name(&self) -> &'static str {
        "masked-distillation"
    }

    fn terms(&self, pass: &Pass<'_>) -> Result<(Vec<Term>, Tensor<3>)> {
        let weights = self.weights;
        let project = weights.feature > 0.0 && pass.teacher.is_some();
        let encoded = pass.supernet.encode(pass.leaves, pass.arch, &pass.batch.visible, project);
        let features = encoded.patches();
        let mut parts = Vec::new();
        if weights.pixel > 0.0 {
            let guess = pass.supernet.decode(pass.leaves, &encoded, pass.batch);
            parts.push(Term {
                name: "pixel",
                weight: weights.pixel,
                loss: terms::pixel(guess, pass.batch.target.clone()),
            });
        }
        if let Some(teacher) = pass.teacher {
            if project {
                let layers = encoded.projected.iter().zip(&teacher.layers);
                let layers =
                    layers.map(|(student, teacher)| terms::smooth_l1(student.clone(), teacher.clone()));
                let count = teacher.layers.len() as f64;
                let term = layers.reduce(|a, b| a + b).ok_or(Error::NoProjector)? * (1.0 / count);
                parts.push(Term { name: "feature", weight: weights.feature, loss: term });
            }
            if weights.relation > 0.0 {
                let term = terms::relation(features.clone(), teacher.last.clone(), self.tau);
                parts.push(Term { name: "relation", weight: weights.relation, loss: term });
            }
        }
        if let Some(largest) = pass.largest.filter(|_| weights.in_place > 0.0) {
            let term = terms::relation(features.clone(), largest.clone(), self.tau);
            parts.push(Term { name: "in_place", weight: weights.in_place, loss: term });
        }
        Ok((parts, features.inner()))
    }

    fn scaled(&self) -> bool {
        self.scale.known()
    }

    fn factor(&self, term: &str) -> f64 {
        self.scale.factor(term)
    }

    fn wants(&self, term: &str) -> bool {
        self.scale.wants(term)
    }

    fn note(&mut self, term: &str, value: f64) {
        self.scale.note(term, value);
    }

    fn end_step(&mut self) {
        self.scale.end_step();
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.scale).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<()> {
        self.scale = serde_json::from_value(state.clone())
            .map_err(|error| Error::Checkpoint(format!("state of the objective: {error}")))?;
        Ok(())
    }
}
