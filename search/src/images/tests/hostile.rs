//! Images that are damaged, cut short, empty, huge or named for what they are not.

use super::*;
use crate::images::decode::{MAX_PIXELS, decode, decode_file};

fn jpeg() -> Vec<u8> {
    encode(&picture(1, 64, 48), ImageFormat::Jpeg)
}

/// A PNG's first chunk with a size of one's own choice, and nothing behind it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0]);
    let crc = crc32(&bytes[12..]);
    bytes.extend(crc.to_be_bytes());
    bytes.extend(b"\0\0\0\x02IDAT\0\0\0\0\0\0");
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (0u32.wrapping_sub(crc & 1))))
    })
}

/// A JPEG's size stands behind its start-of-frame marker.
fn jpeg_of_size(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg();
    let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn content_decides_not_the_name() {
    let folder = photos(5);
    put(&folder, "really_a_jpeg.png", jpeg());
    put(&folder, "really_text.jpg", "just some words, no image");
    put(&folder, "really_gif.png", b"GIF89a\x01\0\x01\0\0\0\0;");
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!(images.len(), 6);
    assert_eq!(summary.formats.get("jpeg"), Some(&1));
    let skipped: Vec<&str> = summary.skipped.iter().map(|s| s.path.as_str()).collect();
    assert_eq!(skipped, ["really_gif.png", "really_text.jpg"]);
    assert!(summary.skipped.iter().all(|s| s.reason == "is not a JPEG, PNG or WebP image"));
}

#[test]
fn bad_files_are_skipped_and_listed_with_their_reasons() {
    let folder = photos(5);
    let png = png(77);
    let whole = jpeg();
    put(&folder, "b/empty.jpg", "");
    put(&folder, "b/cut.jpg", &whole[..whole.len() / 2]);
    put(&folder, "b/header_only.jpg", &whole[..30]);
    put(&folder, "b/cut.png", &png[..png.len() / 2]);
    put(&folder, "b/damaged.png", {
        let mut bytes = png.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes
    });
    put(&folder, "b/cut.webp", &encode(&picture(3, 16, 50), ImageFormat::WebP)[..60]);
    put(&folder, "b/huge.png", png_header(100_000, 100_000));
    put(&folder, "b/huge.jpg", jpeg_of_size(60_000, 60_000));
    let cache = TempDir::new().unwrap();
    let (images, summary) = read_with(folder.path(), &options(cache.path())).unwrap();
    assert_eq!(images.len(), 5);
    let reason = |name: &str| {
        let path = format!("b/{name}");
        summary.skipped.iter().find(|s| s.path == path).map(|s| s.reason.clone()).unwrap_or_default()
    };
    assert_eq!(summary.skipped.len(), 8, "{:?}", summary.skipped);
    assert_eq!(reason("empty.jpg"), "is empty (0 bytes)");
    assert!(reason("cut.jpg").starts_with("is cut short"), "{}", reason("cut.jpg"));
    assert!(reason("header_only.jpg").starts_with("is cut short"), "{}", reason("header_only.jpg"));
    for huge in ["huge.png", "huge.jpg"] {
        assert!(reason(huge).contains(&MAX_PIXELS.to_string()), "{}", reason(huge));
    }
    assert!(reason("huge.png").contains("100000 x 100000 = 10000000000"), "{}", reason("huge.png"));

    // The list survives in the cache: a second reading decodes nothing and says the same.
    let (_, again) = read_with(folder.path(), &options(cache.path())).unwrap();
    assert_eq!(again.cache_origin, cache::Origin::Reused);
    assert_eq!(again.skipped, summary.skipped);
}

#[test]
fn a_jpeg_with_data_behind_its_end_is_whole_and_a_thumbnail_is_not_its_end() {
    let mut with_tail = jpeg();
    with_tail.extend(b"a film some telephones append");
    assert!(decode(&with_tail).is_ok());
    // An APP1 segment that holds an end-of-image marker of its own, in front of a cut scan.
    let whole = jpeg();
    let mut cut = whole[..2].to_vec();
    cut.extend([0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0, 0]);
    cut.extend(&whole[2..whole.len() - 20]);
    assert!(matches!(decode(&cut), Err(Reason::Truncated(_))));
}

#[test]
fn no_prefix_and_no_single_damaged_byte_panics() {
    for whole in [jpeg(), png(1), encode(&picture(3, 16, 20), ImageFormat::WebP)] {
        let step = (whole.len() / 60).max(1);
        for at in (0..whole.len()).step_by(step) {
            // Only the verdict may differ; what is decoded has a plausible size.
            assert!(decode(&whole[..at]).is_err(), "a prefix of {at} of {} bytes", whole.len());
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            if let Ok(picture) = decode(&damaged) {
                assert_eq!(picture.rgb.len(), picture.width as usize * picture.height as usize * 3);
            }
        }
    }
}

#[test]
fn orientation_is_applied() {
    // Left half dark, right half bright; stored lying down with orientation 6 (turn clockwise).
    let lying = RgbImage::from_fn(40, 20, |x, _| image::Rgb([if x < 20 { 0 } else { 255 }; 3]));
    let plain = encode(&lying, ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend([0, 6, 0, 0, 0, 0, 0, 0]);
    let mut turned = plain[..2].to_vec();
    turned.extend([0xFF, 0xE1]);
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.extend(&exif);
    turned.extend(&plain[2..]);
    let (plain, turned) = (decode(&plain).unwrap(), decode(&turned).unwrap());
    assert_eq!((plain.width, plain.height), (40, 20));
    assert_eq!((turned.width, turned.height), (20, 40));
    assert!(turned.rgb[0] < 30 && turned.rgb[turned.rgb.len() - 1] > 225, "dark above, bright below");
}

#[test]
fn grey_transparent_and_deep_images_become_rgb() {
    let folder = TempDir::new().unwrap();
    let grey = image::GrayImage::from_pixel(12, 12, image::Luma([200]));
    let clear = image::RgbaImage::from_pixel(12, 12, image::Rgba([10, 20, 30, 0]));
    let deep = image::ImageBuffer::from_pixel(12, 12, image::Rgb([0x1234u16, 0xFFFF, 0]));
    for (name, image, expected) in [
        ("grey.png", image::DynamicImage::from(grey), [200, 200, 200]),
        ("clear.png", clear.into(), [10, 20, 30]),
        ("deep.png", image::DynamicImage::ImageRgb16(deep), [0x12, 255, 0]),
    ] {
        let path = folder.path().join(name);
        image.save(&path).unwrap();
        let picture = decode_file(&path).unwrap();
        assert_eq!(picture.rgb[..3], expected, "{name}");
        assert_eq!(picture.rgb.len(), 12 * 12 * 3);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_named_like_an_image_does_not_hang() {
    let folder = photos(4);
    let path =
        std::ffi::CString::new(folder.path().join("pipe.jpg").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: a valid, zero-terminated path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let (images, summary) = read(folder.path()).unwrap();
    assert_eq!((images.len(), summary.skipped[0].reason.as_str()), (4, "is not a regular file"));
}
