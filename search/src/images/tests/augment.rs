use super::*;

const PLAIN: [(f32, f32); 3] = [(1.0, 0.0); 3];

fn square(side: usize) -> Vec<u8> {
    (0..side * side * 3).map(|n| (n * 31 % 256) as u8).collect()
}

#[test]
fn the_whole_square_at_its_own_size_is_itself_and_flips() {
    let side = 9;
    let square = square(side);
    for flip in [false, true] {
        let crop = Crop { left: 0.0, top: 0.0, width: 9.0, height: 9.0, flip };
        let mut out = vec![0.0; side * side * 3];
        resample(&square, side, crop, side, &PLAIN, &mut out);
        for (n, value) in out.iter().enumerate() {
            let (c, y, x) = (n / (side * side), n / side % side, n % side);
            let x = if flip { side - 1 - x } else { x };
            assert_eq!(*value, f32::from(square[(y * side + x) * 3 + c]));
        }
    }
}

#[test]
fn a_crop_agrees_with_bilinear_interpolation_worked_out_point_by_point() {
    let (side, out_side) = (13usize, 8usize);
    let square = square(side);
    let line = [(0.5, 1.0), (2.0, -3.0), (1.0, 0.25)];
    for (epoch, index) in [(0, 0), (0, 1), (3, 7), (9, 2), (11, 40)] {
        let crop = Augment::default().draw(4, epoch, index, side as u32);
        let mut out = vec![0.0; out_side * out_side * 3];
        resample(&square, side, crop, out_side, &line, &mut out);
        let at = |n: usize, from: f64, length: f64| {
            (from + (n as f64 + 0.5) * length / out_side as f64 - 0.5).clamp(0.0, (side - 1) as f64)
        };
        for (n, value) in out.iter().enumerate() {
            let (c, y, x) = (n / (out_side * out_side), n / out_side % out_side, n % out_side);
            let x = if crop.flip { out_side - 1 - x } else { x };
            let (x, y) = (at(x, crop.left, crop.width), at(y, crop.top, crop.height));
            let pixel = |x: usize, y: usize| f64::from(square[(y.min(12) * side + x.min(12)) * 3 + c]);
            let (l, t) = (x.floor() as usize, y.floor() as usize);
            let (fx, fy) = (x.fract(), y.fract());
            let mixed = pixel(l, t) * (1.0 - fx) * (1.0 - fy)
                + pixel(l + 1, t) * fx * (1.0 - fy)
                + pixel(l, t + 1) * (1.0 - fx) * fy
                + pixel(l + 1, t + 1) * fx * fy;
            let expected = mixed as f32 * line[c].0 + line[c].1;
            assert!((value - expected).abs() < 1e-3, "{value} {expected}");
        }
    }
}

#[test]
fn crops_keep_to_their_ranges_and_use_all_of_them() {
    let (augment, side) = (Augment::default(), 37.0);
    let (mut least, mut most, mut flips) = (1.0f64, 0.0f64, 0);
    for index in 0..4000 {
        let crop = augment.draw(0, 1, index, 37);
        let area = crop.width * crop.height / (side * side);
        let ratio = crop.width / crop.height;
        assert!((0.2 - 1e-9..=1.0 + 1e-9).contains(&area) && (0.74..1.34).contains(&ratio), "{crop:?}");
        assert!(crop.left >= 0.0 && crop.top >= 0.0);
        assert!(crop.left + crop.width <= side + 1e-9 && crop.top + crop.height <= side + 1e-9);
        (least, most) = (least.min(area), most.max(area));
        flips += usize::from(crop.flip);
    }
    assert!(least < 0.21 && most > 0.95, "{least} {most}");
    assert!((1850..2150).contains(&flips), "{flips}");
}

#[test]
fn a_view_depends_on_seed_epoch_and_image() {
    let augment = Augment::default();
    let base = augment.draw(1, 2, 3, 32);
    assert_eq!(base, augment.draw(1, 2, 3, 32));
    assert_ne!(base, augment.draw(2, 2, 3, 32));
    assert_ne!(base, augment.draw(1, 3, 3, 32));
    assert_ne!(base, augment.draw(1, 2, 4, 32));
}

#[test]
fn a_shuffled_epoch_shows_every_image_at_most_once() {
    let images: Vec<u32> = (10..33).collect();
    let taken: Vec<Vec<u32>> = Batches::shuffled(&images, 5, 1, 0).collect();
    assert_eq!((taken.len(), Batches::count(23, 5)), (4, 4));
    let mut all = taken.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 20);
    assert_ne!(taken, Batches::shuffled(&images, 5, 1, 1).collect::<Vec<_>>());
    assert_eq!(taken, Batches::shuffled(&images, 5, 1, 0).collect::<Vec<_>>());
    assert_eq!(Batches::shuffled(&images, 5, 1, 0).get(3), Some(taken[3].as_slice()));
    assert_eq!(Batches::shuffled(&images, 50, 1, 0).map(|b| b.len()).collect::<Vec<_>>(), [23]);
    let plain: Vec<u32> = Batches::in_order(&images, 5).flatten().collect();
    assert_eq!(plain, images);
}
