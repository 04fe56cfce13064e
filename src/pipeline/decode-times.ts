import { SlidingWindow } from '../scheduler/sliding-window.ts';

/** What is known of an image before it is decoded. */
export interface EncodedImage {
  /** `jpeg`, `png`, `webp`, ... */
  readonly format: string;
  /** Width times height. */
  readonly pixels: number;
}

/** Images remembered of each format and size. */
const REMEMBERED = 64;

/** Before anything was decoded: ms for any image, and for every million pixels. */
const FIRST_GUESS = { fixed: 0.5, perMegapixel: 12 };

/** What is older than this, in ms, is no reason to refuse. */
const LATELY_MS = 1000;
/** A median is good for this long, in ms: each request asks for it, several times. */
const STALE_MS = 10;

interface Seen {
  readonly times: SlidingWindow;
  /** Of the decoding alone. */
  readonly work: SlidingWindow;
  /** When the last of them were decoded, and how long it took; oldest first. */
  readonly last: { readonly at: number; readonly ms: number }[];
  /** Their median, when it was last asked for. */
  lately: { readonly at: number; readonly ms: number };
}

/**
 * Learns how long images take from encoded bytes to the network's input, so that the time can be
 * counted against the budget before it is spent. Sizes fall into octaves of pixels: decoding is
 * proportional to pixels for large images, but not for small ones nor across formats.
 */
export class DecodeTimes {
  /** By format, then by octave. */
  readonly #seen = new Map<string, Map<number, Seen>>();
  readonly #any = new SlidingWindow(REMEMBERED);
  /** The same by format. */
  readonly #ofFormat = new Map<string, SlidingWindow>();

  /** @returns ms to decode and resize: this quantile (0 to 1) of recent images of similar size. */
  predict({ format, pixels }: EncodedImage, quantile: number): number {
    const octaves = this.#seen.get(format);
    const octave = octaveOf(pixels);
    const same = octaves?.get(octave);
    if (same) return same.times.quantile(quantile);
    const known = octaves && [...octaves.keys()].sort((a, b) => distance(a) - distance(b))[0];
    if (octaves === undefined || known === undefined) {
      return FIRST_GUESS.fixed + (FIRST_GUESS.perMegapixel * pixels) / 1e6;
    }
    const ms = octaves.get(known)!.times.quantile(quantile);
    // From the nearest size known: larger images in proportion, smaller ones no faster.
    return ms * Math.max(1, 2 ** (octave - known));

    function distance(other: number): number {
      return Math.abs(other - octave);
    }
  }

  /**
   * Median ms that images of this size took within the last second; 0 when none was decoded. Older
   * times are not used: refused images are not decoded, so a slow patch would never be corrected.
   */
  lately({ format, pixels }: EncodedImage, now: number): number {
    const seen = this.#seen.get(format)?.get(octaveOf(pixels));
    if (!seen) return 0;
    if (now - seen.lately.at > STALE_MS) {
      const times = seen.last.filter(({ at }) => now - at <= LATELY_MS).map(({ ms }) => ms);
      times.sort((a, b) => a - b);
      seen.lately = { at: now, ms: times[(times.length - 1) >> 1] ?? 0 };
    }
    return seen.lately.ms;
  }

  /**
   * @param format of which something was decoded; else any.
   * @returns ms that recent images took, of any size: this quantile (0 to 1).
   */
  ofAny(quantile: number, format?: string): number {
    const times = (format !== undefined && this.#ofFormat.get(format)) || this.#any;
    return times.quantile(quantile);
  }

  /** Median ms of decoding an image of this size, without the messages; 0: none is known. */
  work({ format, pixels }: EncodedImage): number {
    return this.#seen.get(format)?.get(octaveOf(pixels))?.work.quantile(0.5) ?? 0;
  }

  /**
   * @param ms that decoding took until `now`, messages there and back included.
   * @param workMs of the decoding alone.
   */
  observe({ format, pixels }: EncodedImage, ms: number, now: number, workMs = ms): void {
    let octaves = this.#seen.get(format);
    if (!octaves) this.#seen.set(format, (octaves = new Map()));
    const octave = octaveOf(pixels);
    let seen = octaves.get(octave);
    if (!seen) {
      const lately = { at: -Infinity, ms: 0 };
      const [times, work] = [new SlidingWindow(REMEMBERED), new SlidingWindow(REMEMBERED)];
      octaves.set(octave, (seen = { times, work, last: [], lately }));
    }
    seen.times.add(ms);
    seen.work.add(workMs);
    this.#any.add(ms);
    let ofFormat = this.#ofFormat.get(format);
    if (!ofFormat) this.#ofFormat.set(format, (ofFormat = new SlidingWindow(REMEMBERED)));
    ofFormat.add(ms);
    seen.last.push({ at: now, ms });
    if (seen.last.length > REMEMBERED) seen.last.shift();
  }
}

function octaveOf(pixels: number): number {
  return Math.round(Math.log2(Math.max(1, pixels)));
}
