//! Many samples through a model of any batch, and images as their bytes.

use super::Session;
use crate::error::{Error, Result};
use crate::tensor::{Data, Tensor};

impl Session {
    /// Runs any number of samples through a model with one input, as many at a time as the first
    /// extent of that input says; where too few are left, the last one is repeated. Gives the outputs of
    /// each sample, named, in the order of `samples`.
    ///
    /// A sample has the input's shape with a first extent of one, and so have the outputs given back.
    ///
    /// # Errors
    /// [`Error::InputMismatch`] for a model with several inputs, a sample of another type or shape, or an
    /// output whose first extent is not the batch; else as [`Session::run`].
    pub fn run_batch(&self, samples: &[Tensor]) -> Result<Vec<Vec<(String, Tensor)>>> {
        let [port] = self.info.inputs.as_slice() else {
            let count = self.info.inputs.len();
            let name = self.info.inputs.first().map_or("", |port| port.name.as_str());
            return Err(self.mismatch(name, &format!("{count} inputs"), "one for each sample"));
        };
        let batch = port.shape.first().copied().unwrap_or(1).max(1);
        let mut one = port.shape.clone();
        if let Some(first) = one.first_mut() {
            *first = 1;
        }
        for sample in samples {
            if sample.dtype() != port.dtype || sample.shape() != one {
                let want = format!("samples of {:?} of shape {one:?}", port.dtype);
                let got = format!("one of {:?} of shape {:?}", sample.dtype(), sample.shape());
                return Err(self.mismatch(&port.name, &want, &got));
            }
        }
        let mut results = Vec::with_capacity(samples.len());
        for group in samples.chunks(batch) {
            let whole = match group {
                [sample] if batch == 1 => sample.clone(),
                _ => stacked(&port.name, group, batch, &port.shape)?,
            };
            let outputs = self.run(&[(port.name.as_str(), whole)])?;
            for at in 0..group.len() {
                results.push(apart(&outputs, at, batch)?);
            }
        }
        Ok(results)
    }

    /// Runs any number of images, each the bytes of a square RGB image that was resized and cropped as
    /// [`crate::preprocess`] describes, and normalises them as the model's file says. Gives the outputs of
    /// each image.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a file without preprocessing, [`Error::ImageSize`] for an image of another
    /// size; else as [`Session::run_batch`].
    ///
    /// ```no_run
    /// use masktas_runtime::session::{Options, Session};
    ///
    /// # fn main() -> masktas_runtime::Result<()> {
    /// let session = Session::load("model.onnx", &Options::default())?;
    /// let side = session.info().preprocess()?.crop;
    /// let grey = vec![128; side * side * 3];
    /// for (name, tensor) in session.run_images(&[&grey])?.concat() {
    ///     println!("{name}: {:?}", tensor.as_f32());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_images(&self, images: &[&[u8]]) -> Result<Vec<Vec<(String, Tensor)>>> {
        let how = self.info.preprocess()?;
        let samples: Result<Vec<Tensor>> = images.iter().map(|rgb| how.apply(rgb)).collect();
        self.run_batch(&samples?)
    }
}

/// The 32-bit floats of a tensor that is stacked or cut.
fn floats<'a>(name: &str, tensor: &'a Tensor) -> Result<&'a [f32]> {
    tensor.as_f32().ok_or_else(|| Error::InputMismatch {
        name: name.to_owned(),
        want: "32-bit floats for a batch".to_owned(),
        got: format!("{:?}", tensor.dtype()),
        next: "run it with whole batches".to_owned(),
    })
}

/// `group` and then its last sample again, as one tensor of `batch` samples.
fn stacked(name: &str, group: &[Tensor], batch: usize, shape: &[usize]) -> Result<Tensor> {
    let mut values = Vec::with_capacity(shape.iter().product());
    for at in 0..batch {
        if let Some(sample) = group.get(at).or(group.last()) {
            values.extend_from_slice(floats(name, sample)?);
        }
    }
    Tensor::new(shape.to_vec(), Data::F32(values.into()))
}

/// The part of each output that belongs to sample `at`.
fn apart(outputs: &[(String, Tensor)], at: usize, batch: usize) -> Result<Vec<(String, Tensor)>> {
    let part = |(name, tensor): &(String, Tensor)| {
        if batch == 1 {
            return Ok((name.clone(), tensor.clone()));
        }
        let mut shape = tensor.shape().to_vec();
        match shape.first_mut() {
            Some(first) if *first == batch => *first = 1,
            _ => {
                return Err(Error::InputMismatch {
                    name: name.clone(),
                    want: format!("a whole batch of {batch}, as its output has shape {shape:?}"),
                    got: "single samples".to_owned(),
                    next: "run it with whole batches".to_owned(),
                });
            }
        }
        let each: usize = shape.iter().product();
        let values = floats(name, tensor)?.get(at * each..(at + 1) * each).unwrap_or_default();
        Ok((name.clone(), Tensor::f32(shape, values.to_vec())?))
    };
    outputs.iter().map(part).collect()
}
