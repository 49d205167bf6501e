//! An encoder, a predictor and a decoder that learn together, with pseudo-labels (SemiNAS, Luo et al., NeurIPS 2020).
//!
//! An architecture's one-hot genes become a point on a sphere; one head guesses the score from it, another says the genes back.
//! Several networks are fitted to what was rated; their mean guess labels architectures drawn from the space, and one of them learns on
//! from both. Labels that were made up count no more than those that were given, and nothing that was rated is labelled again. Steps up
//! the guessed score's slope on the sphere, said back, are candidates.
//!
//! The published model reads genes one after the other with LSTMs. Here every gene has a place of its own, which fixed cells, cells with
//! chosen edges and layered networks of a largest depth all have; dense layers then do, and fit in a fraction of the time.

use std::collections::BTreeSet;

use super::heads::{Labels, left_out};
use super::net::{Adam, Dense, cosine, length, rectify, unit, unit_slope, unrectify};
use super::scale::Normal;
use super::{Guess, Predictor, unfitted};
use crate::error::Result;
use crate::rand::{Draw, Rng, stream};
use crate::space::{Genes, Space};

/// Width of inner layers, and of the point on the sphere.
const WIDTH: usize = 64;
const LATENT: usize = 32;
/// Half of the steps on what was rated alone, and again on both, for each that was rated; and the most.
const STEPS_EACH: usize = 8;
const MOST_STEPS: usize = 400;
/// Rated and pseudo-labelled architectures of a step.
const BATCH: usize = 32;
/// Architectures that are pseudo-labelled.
const PSEUDO: usize = 1000;
/// Networks whose mean guess is the pseudo-label: what one made up by itself would teach it nothing.
const TEACHERS: usize = 5;
/// What a made-up label counts beside a given one; at most 1.
const TRUST: f32 = 1.0;
/// Shares of the score and of saying back in the loss.
const SCORE: f32 = 0.8;
const BACK: f32 = 0.2;

/// The predictor; with or without pseudo-labels.
#[derive(Debug)]
pub struct EncoderDecoder {
    pseudo: bool,
    interval: bool,
    fitted: Option<(Model, Vec<Normal>)>,
}

/// The network.
#[derive(Clone, Debug)]
struct Model {
    encoder: [Dense; 2],
    guesser: [Dense; 2],
    decoder: [Dense; 2],
    parameters: Vec<f32>,
    /// First place of each gene in the code, and the end.
    genes: Vec<usize>,
    heads: usize,
}

/// Codes, their labels and what each label counts.
struct Lesson<'a> {
    codes: Vec<&'a [f32]>,
    /// One row a code, one label a head; NaN where there is none.
    labels: Vec<Vec<f32>>,
    weights: Vec<f32>,
}

impl EncoderDecoder {
    /// Learns from pseudo-labels too, or from what was rated alone.
    pub fn new(pseudo: bool) -> Self {
        Self { pseudo, interval: true, fitted: None }
    }

    /// With pseudo-labels, its interval unbounded: a search that only ranks need not fit six times.
    pub fn ranking() -> Self {
        Self { interval: false, ..Self::new(true) }
    }

    /// Members that lie `steps` steps up the slope from `genes`, each once, nearest first; those that say themselves back are left out.
    ///
    /// # Errors
    /// Before the first fit.
    pub fn climb(&self, space: &dyn Space, genes: &Genes, steps: usize, rng: &mut Rng) -> Result<Vec<Genes>> {
        let Some((model, _)) = &self.fitted else { return Err(unfitted("encoder-decoder")) };
        let mut point = model.encode(&space.encode(genes));
        let mut found: Vec<Genes> = Vec::new();
        for _ in 0..steps {
            let mut slope = model.slope(&point);
            let length = length(&slope);
            slope.iter_mut().zip(&point).for_each(|(slope, at)| *slope = at + STEP * *slope / length);
            point = unit(&slope, LATENT);
            let member = space.member(model.say(space, &point), rng);
            if member != *genes && !found.contains(&member) {
                found.push(member);
            }
        }
        Ok(found)
    }
}

/// Length of a step on the sphere of radius 1.
const STEP: f32 = 0.15;

impl Model {
    fn new(space: &dyn Space, heads: usize, rng: &mut Rng) -> Self {
        let mut genes = vec![0];
        for gene in space.genes() {
            genes.push(genes[genes.len() - 1] + gene.options.len());
        }
        let code = genes[genes.len() - 1];
        let mut parameters = Vec::new();
        let mut dense = |inputs, outputs| Dense::new(&mut parameters, inputs, outputs, rng);
        let encoder = [dense(code, WIDTH), dense(WIDTH, LATENT)];
        let guesser = [dense(LATENT, WIDTH), dense(WIDTH, heads)];
        let decoder = [dense(LATENT, WIDTH), dense(WIDTH, code)];
        Self { encoder, guesser, decoder, parameters, genes, heads }
    }

    fn encode(&self, code: &[f32]) -> Vec<f32> {
        let mut inner = self.encoder[0].forward(&self.parameters, code);
        rectify(&mut inner);
        unit(&self.encoder[1].forward(&self.parameters, &inner), LATENT)
    }

    /// One score a head.
    fn guess(&self, point: &[f32]) -> Vec<f32> {
        let mut inner = self.guesser[0].forward(&self.parameters, point);
        rectify(&mut inner);
        self.guesser[1].forward(&self.parameters, &inner)
    }

    /// The gradient of the first head's guess by the point.
    fn slope(&self, point: &[f32]) -> Vec<f32> {
        let mut inner = self.guesser[0].forward(&self.parameters, point);
        rectify(&mut inner);
        let mut unused = vec![0.0; self.parameters.len()];
        let first: Vec<f32> = (0..self.heads).map(|head| f32::from(head == 0)).collect();
        let mut d = self.guesser[1].backward(&self.parameters, &mut unused, &inner, &first);
        unrectify(&mut d, &inner);
        self.guesser[0].backward(&self.parameters, &mut unused, point, &d)
    }

    /// The most likely option of every gene that the genes before it leave active.
    fn say(&self, space: &dyn Space, point: &[f32]) -> Vec<u16> {
        let mut inner = self.decoder[0].forward(&self.parameters, point);
        rectify(&mut inner);
        let words = self.decoder[1].forward(&self.parameters, &inner);
        let mut values = vec![0; self.genes.len() - 1];
        for at in 0..values.len() {
            if space.active(&values).get(at) == Some(&true) {
                let words = &words[self.genes[at]..self.genes[at + 1]];
                let best = (0..words.len()).max_by(|a, b| words[*a].total_cmp(&words[*b]).then(b.cmp(a)));
                values[at] = best.unwrap_or(0) as u16;
            }
        }
        values
    }

    /// Steps of Adam on batches of the lesson.
    fn learn(&mut self, lesson: &Lesson<'_>, steps: usize, rate: f32, rng: &mut Rng) {
        let mut gradients = vec![0.0; self.parameters.len()];
        let mut adam = Adam::new(self.parameters.len(), 1e-2);
        for step in 0..steps {
            let part: Vec<usize> = (0..BATCH).map(|_| rng.below(lesson.codes.len())).collect();
            self.gradients(lesson, &part, &mut gradients);
            adam.step(&mut self.parameters, &mut gradients, rate * cosine(step, steps));
        }
    }

    /// Adds the gradients of the loss on a part of the lesson, and gives the loss.
    fn gradients(&self, lesson: &Lesson<'_>, part: &[usize], gradients: &mut [f32]) -> f64 {
        let p = &self.parameters;
        let codes: Vec<f32> = part.iter().flat_map(|at| lesson.codes[*at].to_vec()).collect();
        let mut inner = self.encoder[0].forward(p, &codes);
        rectify(&mut inner);
        let raw = self.encoder[1].forward(p, &inner);
        let points = unit(&raw, LATENT);
        let mut guess_inner = self.guesser[0].forward(p, &points);
        rectify(&mut guess_inner);
        let guesses = self.guesser[1].forward(p, &guess_inner);
        let mut say_inner = self.decoder[0].forward(p, &points);
        rectify(&mut say_inner);
        let words = self.decoder[1].forward(p, &say_inner);

        let each = 1.0 / part.len() as f32;
        let mut loss = 0.0;
        let mut d_guesses = Vec::with_capacity(guesses.len());
        for (guesses, at) in guesses.chunks_exact(self.heads).zip(part) {
            let weight = SCORE * lesson.weights[*at] * each;
            for (guess, label) in guesses.iter().zip(&lesson.labels[*at]) {
                let off = if label.is_nan() { 0.0 } else { guess - label };
                loss += f64::from(weight * off * off);
                d_guesses.push(2.0 * weight * off);
            }
        }
        let width = self.genes[self.genes.len() - 1];
        let mut d_words = vec![0.0; words.len()];
        for ((words, code), d) in
            words.chunks_exact(width).zip(codes.chunks_exact(width)).zip(d_words.chunks_exact_mut(width))
        {
            loss += f64::from(BACK * each) * self.surprise(words, code, d, BACK * each);
        }

        let mut d_inner = self.guesser[1].backward(p, gradients, &guess_inner, &d_guesses);
        unrectify(&mut d_inner, &guess_inner);
        let mut d_points = self.guesser[0].backward(p, gradients, &points, &d_inner);
        let mut d_inner = self.decoder[1].backward(p, gradients, &say_inner, &d_words);
        unrectify(&mut d_inner, &say_inner);
        let more = self.decoder[0].backward(p, gradients, &points, &d_inner);
        d_points.iter_mut().zip(more).for_each(|(sum, d)| *sum += d);
        let d_raw = unit_slope(&raw, &points, &d_points, LATENT);
        let mut d_inner = self.encoder[1].backward(p, gradients, &inner, &d_raw);
        unrectify(&mut d_inner, &inner);
        self.encoder[0].backward(p, gradients, &codes, &d_inner);
        loss
    }

    /// Cross-entropy of the genes that are active, averaged over genes; its gradient times `weight` goes to `d`.
    fn surprise(&self, words: &[f32], code: &[f32], d: &mut [f32], weight: f32) -> f64 {
        let each = 1.0 / (self.genes.len() - 1) as f32;
        let mut loss = 0.0;
        for span in self.genes.windows(2) {
            let (words, code, d) =
                (&words[span[0]..span[1]], &code[span[0]..span[1]], &mut d[span[0]..span[1]]);
            let Some(said) = code.iter().position(|bit| *bit > 0.5) else { continue };
            let most = words.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = words.iter().map(|word| (word - most).exp()).sum();
            loss += f64::from(each * (sum.ln() + most - words[said]));
            for (at, (word, d)) in words.iter().zip(d).enumerate() {
                let share = (word - most).exp() / sum - f32::from(at == said);
                *d = weight * each * share;
            }
        }
        loss
    }

    /// Fits to normal scores, with pseudo-labels where asked.
    fn fit(
        space: &dyn Space,
        codes: &[&[f32]],
        wanted: &[&[f64]],
        known: &BTreeSet<&Genes>,
        pseudo: bool,
        rng: &mut Rng,
    ) -> Self {
        let steps = (STEPS_EACH * codes.len()).min(MOST_STEPS);
        let heads = wanted.first().map_or(1, |row| row.len());
        let row = |row: &&[f64]| row.iter().map(|score| *score as f32).collect();
        let labels: Vec<Vec<f32>> = wanted.iter().map(row).collect();
        let mut lesson = Lesson { codes: codes.to_vec(), weights: vec![1.0; labels.len()], labels };
        let taught = |rng: &mut Rng| {
            let mut model = Self::new(space, heads, rng);
            model.learn(&lesson, 2 * steps, 3e-3, rng);
            model
        };
        let mut model = taught(rng);
        if !pseudo {
            return model;
        }
        let teachers: Vec<Self> = (1..TEACHERS).map(|_| taught(rng)).chain([model.clone()]).collect();
        let drawn: BTreeSet<Genes> =
            (0..PSEUDO).map(|_| space.sample(rng)).filter(|genes| !known.contains(genes)).collect();
        let drawn: Vec<Vec<f32>> = drawn.iter().map(|genes| space.encode(genes)).collect();
        let made_up = |code: &Vec<f32>| -> Vec<f32> {
            let mut sums = vec![0.0; heads];
            for one in &teachers {
                sums.iter_mut().zip(one.guess(&one.encode(code))).for_each(|(sum, guess)| *sum += guess);
            }
            sums.into_iter().map(|sum| sum / TEACHERS as f32).collect()
        };
        let made_up: Vec<Vec<f32>> = drawn.iter().map(made_up).collect();
        // As many places for what was rated as for what was not, however few were.
        let copies = drawn.len().div_ceil(codes.len().max(1)).max(1);
        let (codes, labels) = (lesson.codes.clone(), lesson.labels.clone());
        for _ in 1..copies {
            lesson.codes.extend(&codes);
            lesson.labels.extend(labels.iter().cloned());
        }
        lesson.weights.resize(lesson.codes.len(), 1.0);
        lesson.codes.extend(drawn.iter().map(Vec::as_slice));
        lesson.labels.extend(made_up);
        lesson.weights.resize(lesson.codes.len(), TRUST);
        model.learn(&lesson, 2 * steps, 2e-3, rng);
        model
    }
}

impl Predictor for EncoderDecoder {
    fn name(&self) -> &'static str {
        if self.pseudo { "encoder-decoder" } else { "encoder-decoder-supervised" }
    }

    fn fit_heads(&mut self, space: &dyn Space, rated: &[(Genes, Vec<f64>)]) -> Result<()> {
        let mut labels = Labels::of(self.name(), rated)?;
        let codes: Vec<Vec<f32>> = rated.iter().map(|(genes, _)| space.encode(genes)).collect();
        let known: BTreeSet<&Genes> = rated.iter().map(|(genes, _)| genes).collect();
        let mut rng = stream(0, "predictor/encoder-decoder", rated.len() as u64);
        let row = |at: &usize| (codes[*at].as_slice(), labels.rows[*at].as_slice());
        let mut fit = |at: &[usize]| {
            let (codes, wanted): (Vec<&[f32]>, Vec<&[f64]>) = at.iter().map(row).unzip();
            Model::fit(space, &codes, &wanted, &known, self.pseudo, &mut rng)
        };
        let model = fit(&(0..codes.len()).collect::<Vec<_>>());
        if self.interval {
            let mut folds = stream(0, "predictor/encoder-decoder/folds", rated.len() as u64);
            let errors = left_out(&labels, &mut folds, |kept, left| {
                let trial = fit(kept);
                let guess = |at: &usize| trial.guess(&trial.encode(&codes[*at]));
                left.iter().map(|at| guess(at).into_iter().map(f64::from).collect()).collect()
            });
            labels
                .scales
                .iter_mut()
                .zip(errors)
                .for_each(|(scale, errors)| scale.left_out(errors.into_iter()));
        }
        self.fitted = Some((model, labels.scales));
        Ok(())
    }

    fn predict_heads(&self, space: &dyn Space, batch: &[Genes]) -> Result<Vec<Vec<Guess>>> {
        let Some((model, scales)) = &self.fitted else { return Err(unfitted(self.name())) };
        let guess = |genes: &Genes| {
            let scores = model.guess(&model.encode(&space.encode(genes)));
            scales.iter().zip(scores).map(|(scale, score)| scale.guess(f64::from(score))).collect()
        };
        Ok(batch.iter().map(guess).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::VitSpace;

    #[test]
    fn gradients_match_differences() {
        let space = VitSpace::load("vit-micro").expect("space");
        let mut rng = stream(6, "test", 0);
        let codes: Vec<Vec<f32>> = (0..4).map(|_| space.encode(&space.sample(&mut rng))).collect();
        let lesson = Lesson {
            codes: codes.iter().map(Vec::as_slice).collect(),
            labels: vec![vec![1.0, 0.3], vec![-0.5, f32::NAN], vec![f32::NAN, 1.5], vec![2.0, -1.0]],
            weights: vec![1.0, 0.5, 1.0, 0.5],
        };
        let mut model = Model::new(&space, 2, &mut rng);
        let mut gradients = vec![0.0; model.parameters.len()];
        model.gradients(&lesson, &[0, 1, 2, 3], &mut gradients);
        let (mut wrong, mut asked) = (0, 0);
        for at in (0..model.parameters.len()).step_by(7) {
            let before = model.parameters[at];
            let mut loss = |by: f32| {
                model.parameters[at] = before + by;
                model.gradients(&lesson, &[0, 1, 2, 3], &mut vec![0.0; gradients.len()])
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            model.parameters[at] = before;
            wrong += usize::from((slope - f64::from(gradients[at])).abs() > 2e-3 + 0.05 * slope.abs());
            asked += 1;
        }
        assert!(wrong * 50 <= asked, "{wrong} of {asked} gradients differ");
        assert!(gradients.iter().filter(|gradient| **gradient != 0.0).count() * 4 > gradients.len());
    }

    /// What the network says back is a member, and steps lead to members that it guesses higher.
    #[test]
    fn steps_climb() {
        let space = VitSpace::load("vit-micro").expect("space");
        let mut rng = stream(7, "test", 0);
        let rated: Vec<(Genes, f64)> = (0..60)
            .map(|_| {
                let genes = space.sample(&mut rng);
                let score = genes.values.iter().map(|value| f64::from(*value)).sum();
                (genes, score)
            })
            .collect();
        let mut model = EncoderDecoder::new(true);
        model.fit(&space, &rated).expect("fits");
        let (mut higher, mut all) = (0, 0);
        for (genes, _) in rated.iter().take(20) {
            let here = model.predict(&space, std::slice::from_ref(genes)).expect("guesses")[0].value;
            for member in model.climb(&space, genes, 8, &mut rng).expect("climbs") {
                assert_eq!(space.parse(&space.id(&member)).as_ref(), Some(&member));
                let there = model.predict(&space, std::slice::from_ref(&member)).expect("guesses")[0].value;
                higher += usize::from(there > here);
                all += 1;
            }
        }
        assert!(all >= 20 && higher * 4 > all * 3, "{higher} of {all}");
    }
}
