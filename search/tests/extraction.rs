//! A slice of the supernet and the network extracted from it are the same function, bit for bit,
//! at every corner of `vit-micro`.

use burn::tensor::Device;
use masktas_search::rand::{Draw, stream};
use masktas_search::space::{Space, VitSpace};
use masktas_search::supernet::extract::{Network, extract};
use masktas_search::supernet::{DecoderShape, Encoder, Mask, MaskedBatch, Supernet, Visible};

#[test]
fn every_corner_of_vit_micro_equals_its_extracted_network() {
    let device = Device::flex();
    let space = VitSpace::load("vit-micro").unwrap();
    let largest = space.largest_arch();
    let decoder = DecoderShape { width: 32, depth: 1, heads: 2 };
    let supernet = Supernet::new(&largest, decoder, &[], 0, 3, &device);
    let mut rng = stream(1, "pixels", 0);
    let pixels: Vec<f32> = (0..2 * 3 * 32 * 32).map(|_| rng.normal() as f32).collect();
    let masks = [0, 1].map(|i| Mask::draw(&mut stream(1, "masks", i), largest.patches(), 0.75));
    let views = [
        Visible::all(&pixels, &largest, &device),
        MaskedBatch::new(&pixels, &masks, &largest, &device).visible,
    ];
    let corners = space.corners();
    assert_eq!(corners.len(), 16);
    for genes in corners {
        let arch = space.vit(&genes);
        let weights = extract(&supernet.params, &supernet.encoder, &arch).unwrap();
        assert_eq!(weights.parameters(), arch.parameters(None), "{}", space.id(&genes));
        let network = Network::from_weights(&arch, None, &weights, 0, &device).unwrap();
        for visible in &views {
            let inside = Encoder::pool(supernet.encoder.encode(&supernet.params.frozen(), &arch, visible));
            let outside = network.features(&network.params.frozen(), visible);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let inside = bits(inside.try_into_vec_as().unwrap());
            assert!(inside.iter().any(|x| *x != 0));
            assert_eq!(inside, bits(outside.try_into_vec_as().unwrap()), "{}", space.id(&genes));
        }
    }
}
