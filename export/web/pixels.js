// Makes a photo what the model saw in training: the same square of it, the same filter, the same arithmetic as `masktas run`.
// Of the same pixels it makes the same numbers, bit for bit. What a browser decodes of a JPEG may differ by a few levels.

import { PlayError } from './player.js';

/** Photos with more pixels are refused, as by `masktas run`. */
const MOST_PIXELS = 64 << 20;

/** The photo in `blob` as the model's input: `[1, 3, crop, crop]`, normalised; see `masktas.preprocess` in docs/web.md. */
export async function pixels(blob, how) {
  return normalise(await square(blob, how), how);
}

/** The photo's central square, resized and cropped: `crop * crop * 3` bytes, red, green, blue. */
export async function square(blob, { resize, crop, interpolation }) {
  if (interpolation !== 'lanczos3') {
    throw new PlayError(`The model wants ${interpolation} resizing; this script does lanczos3.`, 'Export the model with masktas.');
  }
  let photo;
  try {
    // Upright as the camera says; colour profiles are not applied in training either.
    photo = await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new PlayError('This is not a picture that the browser can read.', 'Give a JPEG, PNG or WebP file.');
  }
  const { width, height } = photo;
  try {
    if (width * height > MOST_PIXELS) {
      throw new PlayError(`The photo has ${width} x ${height} = ${width * height} pixels, at most ${MOST_PIXELS} are read.`, 'Shrink it.');
    }
    const side = Math.min(width, height);
    const across = filter(width, Math.floor((width - side) / 2), side, resize);
    const down = filter(height, Math.floor((height - side) / 2), side, resize);
    const canvas = new OffscreenCanvas(across.end - across.start, down.end - down.start);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(photo, -across.start, -down.start);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return cut(shrink(data, canvas.width, across, down), resize, crop);
  } finally {
    photo.close();
  }
}

/** Bytes as the model wants them: channel by channel, `(byte / 255 - mean) / std` in 32-bit floats. */
export function normalise(rgb, { crop, mean, std }) {
  const f = Math.fround;
  const count = crop * crop;
  const values = new Float32Array(3 * count);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < count; i++) {
      values[c * count + i] = f(f(f(rgb[3 * i + c] / 255) - f(mean[c])) / f(std[c]));
    }
  }
  return values;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** A windowed sinc of three lobes. */
const lanczos = (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0);

/**
 * What each of `out` pixels takes from which of `size` pixels, when the `span` pixels from `from` on become them. The filter is
 * widened by the scale when shrinking, and reads beyond the span where there are pixels. Factors are whole numbers, `1 << bits`
 * standing for one.
 */
function filter(size, from, span, out) {
  const scale = span / out;
  const wide = Math.max(scale, 1);
  const radius = 3 * wide;
  const taps = [];
  let most = 0;
  for (let i = 0; i < out; i++) {
    const centre = from + (i + 0.5) * scale;
    const first = Math.max(Math.floor(centre - radius), 0);
    const last = Math.min(Math.ceil(centre + radius), size);
    const factors = [];
    let sum = 0;
    for (let x = first; x < last; x++) {
      const factor = lanczos((x - (centre - 0.5)) * (1 / wide));
      factors.push(factor);
      sum += factor;
    }
    factors.forEach((factor, at) => {
      factors[at] = factor / sum;
      most = Math.max(most, factors[at]);
    });
    taps.push({ first, factors });
  }
  let bits = 0;
  while (bits < 21 && Math.round(most * 2 ** (bits + 1)) < 1 << 15) bits++;
  for (const tap of taps) {
    // Halves go away from zero.
    tap.factors = Int16Array.from(tap.factors, (v) => Math.sign(v) * Math.round(Math.abs(v) * 2 ** bits));
  }
  return { taps, bits, start: taps[0].first, end: taps[out - 1].first + taps[out - 1].factors.length };
}

/** Pixels (four bytes each, rows of `width`, from `across.start` and `down.start` on) to red, green, blue; down first. */
function shrink(pixels, width, across, down) {
  const rows = down.taps.length;
  const columns = across.taps.length;
  const middle = new Uint8ClampedArray(rows * width * 3);
  const sums = new Int32Array(width * 3);
  down.taps.forEach(({ first, factors }, row) => {
    sums.fill(1 << (down.bits - 1));
    factors.forEach((factor, y) => {
      let at = (first - down.start + y) * width * 4;
      for (let i = 0; i < sums.length; i += 3, at += 4) {
        sums[i] += pixels[at] * factor;
        sums[i + 1] += pixels[at + 1] * factor;
        sums[i + 2] += pixels[at + 2] * factor;
      }
    });
    for (let i = 0; i < sums.length; i++) middle[row * sums.length + i] = sums[i] >> down.bits;
  });
  const out = new Uint8ClampedArray(rows * columns * 3);
  for (let row = 0; row < rows; row++) {
    across.taps.forEach(({ first, factors }, column) => {
      for (let c = 0; c < 3; c++) {
        let sum = 1 << (across.bits - 1);
        const at = (row * width + first - across.start) * 3 + c;
        for (let x = 0; x < factors.length; x++) sum += middle[at + 3 * x] * factors[x];
        out[(row * columns + column) * 3 + c] = sum >> across.bits;
      }
    });
  }
  return out;
}

/** The centre `crop` x `crop` of a square of `side`. */
function cut(rgb, side, crop) {
  const margin = Math.floor((side - crop) / 2);
  const out = new Uint8ClampedArray(crop * crop * 3);
  for (let row = 0; row < crop; row++) {
    const from = ((row + margin) * side + margin) * 3;
    out.set(rgb.subarray(from, from + crop * 3), row * crop * 3);
  }
  return out;
}
