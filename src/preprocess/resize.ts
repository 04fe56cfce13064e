import { instantiate } from './resize-kernel.ts';
import type { Memory } from './resize-kernel.ts';

/** Of the output positions along one edge: the input positions that each is a mean of. */
interface Taps {
  /** Input positions of each: the same even number for all, some with a weight of 0. */
  readonly count: number;
  /** First input position, by output position. */
  readonly first: Int32Array;
  /** Weights in 1 / 2^BITS, `[output positions, count]`. */
  readonly weights: Int16Array;
  /** Input positions that any of them needs: from `low` to below `high`. */
  readonly low: number;
  readonly high: number;
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

/** The picture of which a copy is resized. */
export interface Original extends Size {
  /** Share of its longer side that the copy shows, from the middle; default: 1. */
  readonly shown?: number | undefined;
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

/** As in resize.wat. */
const BITS = 14;

/** Bytes of a page of WebAssembly's memory. */
const PAGE = 65_536;
/** Memory that grew beyond so many bytes, for an unusual picture, is given back. */
const KEPT = 16 * 1024 * 1024;
/** Bytes that the kernel may read or write behind what it is given. */
const BEHIND = 16;

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
  #kernel = instantiate();

  /** Where a picture of so many bytes can be written: from there it is not copied. */
  room(bytes: number): Buffer {
    this.#grow(bytes);
    return Buffer.from(this.#kernel.memory.buffer, 0, bytes);
  }

  /**
   * @param from uint8 `[fromHeight, fromWidth, 3]`.
   * @param to uint8 `[height, width, 3]`.
   * @param original where `from` is a smaller copy of it, or of its middle.
   */
  resize(
    from: Uint8Array,
    fromSize: Size,
    to: Uint8Array,
    frame: Frame,
    original: Original = fromSize,
  ): void {
    const { width, height, interpolation = 'bilinear' } = frame;
    const scaled = scaledSize(original, frame);
    if (
      [fromSize.width, scaled.width].every((value) => value === width) &&
      [fromSize.height, scaled.height].every((value) => value === height)
    ) {
      to.set(from.subarray(0, width * height * 3));
      return;
    }
    const { shown = 1 } = original;
    const isWide = original.width > original.height;
    const [across, down] = isWide ? [shown, 1] : [1, shown];
    const columns = this.#tapsOf(fromSize.width, across, scaled.width, width, interpolation);
    const rows = this.#tapsOf(fromSize.height, down, scaled.height, height, interpolation);
    this.#run(from, fromSize, to, columns, rows);
    if (this.#kernel.memory.buffer.byteLength > KEPT) this.#kernel = instantiate();
  }

  /** Memory, one behind the other: picture, rows that have their width, result, taps. */
  #run(from: Uint8Array, fromSize: Size, to: Uint8Array, columns: Taps, rows: Taps): void {
    const [width, height] = [columns.first.length, rows.first.length];
    const [fromLength, length] = [fromSize.width * 3, width * 3];
    const needed = rows.high - rows.low;
    const isInPlace = from.buffer === this.#kernel.memory.buffer;
    // Of what is copied, only the rows that are needed.
    const above = isInPlace ? 0 : rows.low;
    const picture = from.subarray(above * fromLength, rows.high * fromLength);
    // A row or a pixel more than there are, where the even number of taps is one more.
    const between = aligned(picture.length + 3);
    const result = between + aligned((needed + 1) * length);
    const columnTaps = result + aligned(height * length);
    const rowTaps = columnTaps + tapsBytes(columns);
    this.#grow(rowTaps + tapsBytes(rows));
    const { memory, shrinkRows, mixRows } = this.#kernel;
    const bytes = new Uint8Array(memory.buffer);
    if (!isInPlace) bytes.set(picture);

    const byPixels = putTaps(memory, columnTaps, columns, 0, 3);
    const byRows = putTaps(memory, rowTaps, rows, rows.low, length);
    const start = (rows.low - above) * fromLength;
    shrinkRows(start, fromLength, needed, between, width, ...byPixels);
    mixRows(between, length, result, height, ...byRows);
    to.set(bytes.subarray(result, result + height * length));
  }

  #grow(bytes: number): void {
    const { memory } = this.#kernel;
    const missing = bytes - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
  }

  #tapsOf(...edge: Parameters<typeof tapsOf>): Taps {
    const key = edge.join(' ');
    let taps = this.#taps.get(key);
    if (taps) return taps;
    if (this.#taps.size === REMEMBERED) this.#taps.clear();
    taps = tapsOf(...edge);
    this.#taps.set(key, taps);
    return taps;
  }
}

/** Up to a multiple of 16, with room for what the kernel touches behind. */
const aligned = (bytes: number) => (bytes + BEHIND + 15) & ~15;

const tapsBytes = ({ first, weights }: Taps) =>
  aligned(first.byteLength) + aligned(weights.byteLength);

/**
 * @param low first input position that is there, which lies `step` bytes before the next.
 * @returns the kernel's last arguments: where first positions and weights lie, and how many.
 */
function putTaps(
  { buffer }: Memory,
  at: number,
  { first, weights, count }: Taps,
  low: number,
  step: number,
): [number, number, number] {
  const places = new Int32Array(buffer, at, first.length);
  for (let i = 0; i < first.length; i++) places[i] = (first[i]! - low) * step;
  const behind = at + aligned(first.byteLength);
  new Int16Array(buffer, behind, weights.length).set(weights);
  return [at, behind, count];
}

/**
 * From `from` positions, which are a share of the edge, `shown`, from its middle, to `resized`
 * positions, of which the middle `to` are kept.
 */
function tapsOf(
  from: number,
  shown: number,
  resized: number,
  to: number,
  interpolation: Interpolation,
): Taps {
  const filter = FILTERS[interpolation];
  const whole = from / shown;
  const scale = whole / resized;
  const before = (whole - from) / 2;
  const skipped = Math.floor((resized - to) / 2);
  const widened = Math.max(1, scale);
  const support = filter.reach * widened;
  const lows: number[] = [];
  const shares: number[][] = [];
  for (let i = 0; i < to; i++) {
    const centre = (skipped + i + 0.5) * scale - before;
    const low = Math.max(0, Math.floor(centre - support + 0.5));
    const high = Math.min(from, Math.floor(centre + support + 0.5));
    const own = Array.from({ length: high - low }, (_, k) =>
      filter.at(Math.abs((low + k + 0.5 - centre) / widened)),
    );
    lows.push(low);
    shares.push(integers(own));
  }
  const most = Math.max(...shares.map(({ length }) => length));
  const count = most + (most % 2);
  const last = Math.max(0, from - count);
  const first = Int32Array.from(lows, (low) => Math.min(low, last));
  const weights = new Int16Array(to * count);
  shares.forEach((own, i) => weights.set(own, i * count + lows[i]! - first[i]!));
  return { count, first, weights, low: first[0]!, high: Math.min(from, first.at(-1)! + count) };
}

/** Shares of a sum in 1 / 2^BITS, which add up to one, so that a plain area keeps its value. */
function integers(shares: readonly number[]): number[] {
  const sum = shares.reduce((a, b) => a + b, 0);
  const rounded = shares.map((share) => Math.round((share / sum) * (1 << BITS)));
  rounded[shares.length >> 1]! += (1 << BITS) - rounded.reduce((a, b) => a + b, 0);
  return rounded;
}
