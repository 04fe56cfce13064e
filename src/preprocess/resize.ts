/** Of one output position: the input positions that it is a mean of. */
interface Taps {
  /** First input position, by output position. */
  readonly first: Int32Array;
  /** Number of input positions, by output position. */
  readonly count: Int32Array;
  /** Weights in 1 / 2^BITS, `stride` for each output position. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** The manifest's rule: how a picture of any size becomes the network's input. */
export interface Frame {
  /** px */
  readonly width: number;
  /** px */
  readonly height: number;
  /** `cover` keeps the proportions and cuts off what is too much; `stretch` shows all of it. */
  readonly resize?: 'cover' | 'stretch' | undefined;
  /** Share of width and height that is kept, from the middle; default: 1. */
  readonly centre?: number | undefined;
  /** Default: bilinear. */
  readonly interpolation?: Interpolation | undefined;
}

export type Interpolation = 'bilinear' | 'bicubic';

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Filters by distance in output pixels, and how far they reach. */
const FILTERS: Readonly<Record<Interpolation, { reach: number; at(x: number): number }>> = {
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - x) },
  // Keys' filter with a = -1/2, as Pillow and libvips have it.
  bicubic: {
    reach: 2,
    at: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2),
  },
};

const BITS = 14;
const HALF = 1 << (BITS - 1);

/** Sizes repeat: photos of one client, thumbnails of one service. */
const REMEMBERED = 64;

/** The size that a picture is scaled to, before its middle is cut out. */
export function scaledSize(from: Size, frame: Frame): Size {
  const { centre = 1, resize = 'cover' } = frame;
  const width = even(frame.width / centre);
  const height = even(frame.height / centre);
  if (resize === 'stretch') return { width, height };
  const scale = Math.max(width / from.width, height / from.height);
  return {
    width: Math.max(width, even(from.width * scale)),
    height: Math.max(height, even(from.height * scale)),
  };
}

/** Rounds halves to even numbers, as Python does. */
function even(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded;
}

/**
 * Resizes RGB images by the manifest's rule, with the filter widened when it shrinks, as Pillow does
 * in training (`adaptive_depth/images.py`).
 */
export class Resizer {
  readonly #taps = new Map<string, Taps>();
  #rows = new Uint8ClampedArray();

  /**
   * @param from uint8 `[fromHeight, fromWidth, 3]`.
   * @param to uint8 `[height, width, 3]`.
   * @param original the picture's size, where `from` is a smaller copy of it.
   */
  resize(
    from: Uint8Array,
    fromSize: Size,
    to: Uint8Array,
    frame: Frame,
    original = fromSize,
  ): void {
    const { width, height, interpolation = 'bilinear' } = frame;
    const scaled = scaledSize(original, frame);
    const fromWidth = fromSize.width;
    if (
      [fromWidth, scaled.width].every((value) => value === width) &&
      [fromSize.height, scaled.height].every((value) => value === height)
    ) {
      to.set(from.subarray(0, width * height * 3));
      return;
    }
    const columns = this.#tapsOf(fromWidth, scaled.width, width, interpolation);
    const rows = this.#tapsOf(fromSize.height, scaled.height, height, interpolation);
    const top = rows.first[0]!;
    const bottom = rows.first[height - 1]! + rows.count[height - 1]!;
    const size = (bottom - top) * width * 3;
    if (this.#rows.length < size) this.#rows = new Uint8ClampedArray(size);
    const between = this.#rows;
    // In locals: a property is read again for every pixel.
    const { first, count, weights, stride: taps } = columns;

    for (let y = top, out = 0; y < bottom; y++) {
      const line = y * fromWidth * 3;
      for (let x = 0; x < width; x++) {
        let at = line + first[x]! * 3;
        let weight = x * taps;
        let red = HALF;
        let green = HALF;
        let blue = HALF;
        for (const end = weight + count[x]!; weight < end; weight++, at += 3) {
          const share = weights[weight]!;
          red += share * from[at]!;
          green += share * from[at + 1]!;
          blue += share * from[at + 2]!;
        }
        between[out++] = red >> BITS;
        between[out++] = green >> BITS;
        between[out++] = blue >> BITS;
      }
    }

    const stride = width * 3;
    const { weights: shares } = rows;
    // Clamped, as bicubic weights reach below 0 and beyond 255.
    const result = new Uint8ClampedArray(to.buffer, to.byteOffset, height * stride);
    for (let y = 0, out = 0; y < height; y++) {
      const start = (rows.first[y]! - top) * stride;
      const firstWeight = y * rows.stride;
      const lastWeight = firstWeight + rows.count[y]!;
      for (let x = 0; x < stride; x++) {
        let sum = HALF;
        for (
          let weight = firstWeight, at = start + x;
          weight < lastWeight;
          weight++, at += stride
        ) {
          sum += shares[weight]! * between[at]!;
        }
        result[out++] = sum >> BITS;
      }
    }
  }

  #tapsOf(from: number, resized: number, to: number, interpolation: Interpolation): Taps {
    const key = `${from} ${resized} ${to} ${interpolation}`;
    let taps = this.#taps.get(key);
    if (taps) return taps;
    if (this.#taps.size === REMEMBERED) this.#taps.clear();
    taps = tapsOf(from, resized, to, interpolation);
    this.#taps.set(key, taps);
    return taps;
  }
}

/** From `from` to `resized` positions, of which the middle `to` are kept. */
function tapsOf(from: number, resized: number, to: number, interpolation: Interpolation): Taps {
  const filter = FILTERS[interpolation];
  const scale = from / resized;
  const skipped = Math.floor((resized - to) / 2);
  const widened = Math.max(1, scale);
  const support = filter.reach * widened;
  const stride = Math.ceil(2 * support) + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  for (let i = 0; i < to; i++) {
    const centre = (skipped + i + 0.5) * scale;
    const low = Math.max(0, Math.floor(centre - support + 0.5));
    const high = Math.min(from, Math.floor(centre + support + 0.5));
    const shares = Array.from({ length: high - low }, (_, k) =>
      filter.at(Math.abs((low + k + 0.5 - centre) / widened)),
    );
    const sum = shares.reduce((a, b) => a + b, 0);
    first[i] = low;
    count[i] = high - low;
    let left = 1 << BITS;
    shares.forEach((share, k) => {
      const weight = Math.round((share / sum) * (1 << BITS));
      weights[i * stride + k] = weight;
      left -= weight;
    });
    // So that a plain area keeps its value.
    weights[i * stride + ((high - low) >> 1)]! += left;
  }
  return { first, count, weights, stride };
}
