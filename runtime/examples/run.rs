//! Runs a model file on a square RGB image, given as its bytes: `run MODEL.onnx IMAGE.rgb`.

use masktas_runtime::session::{Options, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: run MODEL.onnx IMAGE.rgb".into());
    };
    let session = Session::load(model.as_str(), &Options::default())?;
    let labels = session.info().preprocess()?.labels.unwrap_or_default();
    println!("on {}", session.info().adapter);
    for (name, tensor) in session.run_images(&[&std::fs::read(image)?])?.concat() {
        let values = tensor.as_f32().unwrap_or_default().iter().enumerate();
        let best = values.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place);
        println!("{name}: {}", labels.get(best).cloned().unwrap_or(format!("largest at {best}")));
    }
    Ok(())
}
