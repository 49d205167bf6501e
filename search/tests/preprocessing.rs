//! What another program is told to do to a photo is what training does.

use masktas_search::images::{Geometry, decode_for};
use masktas_search::rand::{Draw, stream};

/// The example of the runtime, which knows nothing of this crate.
#[allow(dead_code)]
#[path = "../../runtime/examples/photo.rs"]
mod photo;

#[test]
fn the_example_gives_the_bytes_of_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.png");
    // Wide, high, square; shrunk and enlarged; with a margin and without, odd and even.
    for (at, (width, height)) in [(61, 40), (37, 90), (48, 48), (9, 12)].into_iter().enumerate() {
        let mut rng = stream(5, "noise", at as u64);
        image::RgbImage::from_fn(width, height, |_, _| image::Rgb([0; 3].map(|_: u8| rng.below(256) as u8)))
            .save(&path)
            .unwrap();
        for (resize, crop) in [(37, 32), (32, 32), (21, 16)] {
            let ours = decode_for(&path, Geometry { resize, crop }).unwrap();
            let shown = photo::square(path.to_str().unwrap(), resize as usize, crop as usize).unwrap();
            assert!(ours == shown, "{width} x {height} to {resize}, {crop}");
        }
    }
}

/// An upright photo of a camera held sideways: the orientation comes first.
#[test]
fn the_example_turns_a_photo_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sideways.png");
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    // A TIFF head and one entry: orientation 6, a quarter turn clockwise.
    let exif = [&b"II*\0\x08\0\0\0\x01\0"[..], b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", &[0; 4]].concat();
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    let pixels = image::RgbImage::from_fn(50, 30, |x, y| image::Rgb([(x * 5) as u8, (y * 8) as u8, 90]));
    pixels.write_with_encoder(encoder).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let ours = decode_for(&path, Geometry { resize: 20, crop: 16 }).unwrap();
    assert_eq!(photo::square(path.to_str().unwrap(), 20, 16).unwrap(), ours);
    // Red grows with the file's columns, which are the upright photo's rows.
    let red = |row: usize, column: usize| ours[(row * 16 + column) * 3];
    assert!(red(15, 8) > red(0, 8) + 50 && red(8, 15).abs_diff(red(8, 0)) < 20);
}

#[test]
fn the_page_shows_the_example_as_it_is() {
    let (page, example) =
        (include_str!("../../docs/runtime.md"), include_str!("../../runtime/examples/photo.rs"));
    let code = example.split_once("\n\n").unwrap().1;
    assert!(page.contains(code), "docs/runtime.md does not show runtime/examples/photo.rs as it is");
}
