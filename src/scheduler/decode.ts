import { Recent } from './recent.ts';

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

/**
 * Learns how long images take from encoded bytes to the network's input, so that the time can be
 * counted against the budget before it is spent. Sizes fall into octaves of pixels: decoding is
 * proportional to pixels for large images, but not for small ones nor across formats.
 */
export class DecodeTimes {
  /** By format, then by octave. */
  readonly #times = new Map<string, Map<number, Recent>>();

  /** @param quantile that predictions aim at, 0 to 1. */
  constructor(private readonly quantile = 0.95) {}

  /** Expected ms to decode and resize, this quantile of like images. */
  predict({ format, pixels }: EncodedImage): number {
    const octaves = this.#times.get(format);
    const octave = octaveOf(pixels);
    const known = octaves && [...octaves.keys()].sort((a, b) => distance(a) - distance(b))[0];
    if (octaves === undefined || known === undefined) {
      return FIRST_GUESS.fixed + (FIRST_GUESS.perMegapixel * pixels) / 1e6;
    }
    const ms = octaves.get(known)!.quantile(this.quantile);
    // From the nearest size known: larger images in proportion, smaller ones no faster.
    return ms * Math.max(1, 2 ** (octave - known));

    function distance(other: number): number {
      return Math.abs(other - octave);
    }
  }

  observe({ format, pixels }: EncodedImage, ms: number): void {
    let octaves = this.#times.get(format);
    if (!octaves) this.#times.set(format, (octaves = new Map()));
    const octave = octaveOf(pixels);
    let recent = octaves.get(octave);
    if (!recent) octaves.set(octave, (recent = new Recent(REMEMBERED)));
    recent.add(ms);
  }
}

function octaveOf(pixels: number): number {
  return Math.round(Math.log2(Math.max(1, pixels)));
}
