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

const BITS = 14;
const HALF = 1 << (BITS - 1);

/** Sizes repeat: photos of one client, thumbnails of one service. */
const REMEMBERED = 64;

/**
 * Resizes RGB images by the manifest's rule `cover`: the shorter side fits, the centre is cut out.
 * Bilinear, with the filter widened when it shrinks, as Pillow does in training (Image.resize with
 * BILINEAR and a box) and libvips nearly.
 */
export class Resizer {
  readonly #taps = new Map<string, Taps>();
  #rows = new Uint8Array();

  /**
   * @param from uint8 `[fromHeight, fromWidth, 3]`.
   * @param to uint8 `[height, width, 3]`.
   */
  cover(
    from: Uint8Array,
    fromWidth: number,
    fromHeight: number,
    to: Uint8Array,
    width: number,
    height: number,
  ): void {
    if (fromWidth === width && fromHeight === height) {
      to.set(from.subarray(0, width * height * 3));
      return;
    }
    const scale = Math.max(width / fromWidth, height / fromHeight);
    const columns = this.#tapsOf(fromWidth, Math.round(fromWidth * scale), width);
    const rows = this.#tapsOf(fromHeight, Math.round(fromHeight * scale), height);
    const top = rows.first[0]!;
    const bottom = rows.first[height - 1]! + rows.count[height - 1]!;
    const size = (bottom - top) * width * 3;
    if (this.#rows.length < size) this.#rows = new Uint8Array(size);
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
        to[out++] = sum >> BITS;
      }
    }
  }

  #tapsOf(from: number, resized: number, to: number): Taps {
    const key = `${from} ${resized} ${to}`;
    let taps = this.#taps.get(key);
    if (taps) return taps;
    if (this.#taps.size === REMEMBERED) this.#taps.clear();
    taps = tapsOf(from, Math.max(resized, to), to);
    this.#taps.set(key, taps);
    return taps;
  }
}

/** Triangle filter from `from` to `resized` positions, of which the middle `to` are kept. */
function tapsOf(from: number, resized: number, to: number): Taps {
  const scale = from / resized;
  const skipped = Math.floor((resized - to) / 2);
  const support = Math.max(1, scale);
  const stride = Math.ceil(2 * support) + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  for (let i = 0; i < to; i++) {
    const centre = (skipped + i + 0.5) * scale;
    const low = Math.max(0, Math.floor(centre - support + 0.5));
    const high = Math.min(from, Math.floor(centre + support + 0.5));
    const shares = Array.from({ length: high - low }, (_, k) =>
      Math.max(0, 1 - Math.abs((low + k + 0.5 - centre) / support)),
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
