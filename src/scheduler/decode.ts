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

/** What is older than this, in ms, is no reason to refuse. */
const LATELY_MS = 1000;

interface Seen {
  readonly times: Recent;
  /** When the last of them were decoded, and how long it took; oldest first. */
  readonly last: { readonly at: number; readonly ms: number }[];
}

/**
 * Learns how long images take from encoded bytes to the network's input, so that the time can be
 * counted against the budget before it is spent. Sizes fall into octaves of pixels: decoding is
 * proportional to pixels for large images, but not for small ones nor across formats.
 */
export class DecodeTimes {
  /** By format, then by octave. */
  readonly #seen = new Map<string, Map<number, Seen>>();
  readonly #any = new Recent(REMEMBERED);

  /** @returns ms to decode and resize: this quantile (0 to 1) of the like images of late. */
  predict({ format, pixels }: EncodedImage, quantile: number): number {
    const octaves = this.#seen.get(format);
    const octave = octaveOf(pixels);
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
   * How long images of this size mostly took within the last second, in ms; 0 when none was
   * decoded. Whoever is refused teaches nothing: were older times believed, a slow patch would be
   * over only when all of it was forgotten.
   */
  lately({ format, pixels }: EncodedImage, now: number): number {
    const last = this.#seen.get(format)?.get(octaveOf(pixels))?.last ?? [];
    const times = last.filter(({ at }) => now - at <= LATELY_MS).map(({ ms }) => ms);
    times.sort((a, b) => a - b);
    return times[(times.length - 1) >> 1] ?? 0;
  }

  /** @returns ms that images of late took, of whatever kind: this quantile (0 to 1). */
  ofAny(quantile: number): number {
    return this.#any.quantile(quantile);
  }

  /** @param ms that decoding took until `now`. */
  observe({ format, pixels }: EncodedImage, ms: number, now: number): void {
    let octaves = this.#seen.get(format);
    if (!octaves) this.#seen.set(format, (octaves = new Map()));
    const octave = octaveOf(pixels);
    let seen = octaves.get(octave);
    if (!seen) octaves.set(octave, (seen = { times: new Recent(REMEMBERED), last: [] }));
    seen.times.add(ms);
    this.#any.add(ms);
    seen.last.push({ at: now, ms });
    if (seen.last.length > REMEMBERED) seen.last.shift();
  }
}

interface Job {
  /** Expected time of decoding, ms. */
  readonly ms: number;
  /** When decoding must be over. */
  readonly due: number;
  readonly begin: () => void;
}

/**
 * Whose image is decoded next: the most urgent, a few at a time. But nobody is overtaken who would
 * be late for it: what was promised on arrival is not broken by those who come later.
 */
export class DecodeQueue {
  readonly #running: Job[] = [];
  /** In the order in which they will begin. */
  readonly #waiting: Job[] = [];

  /**
   * @param decoders images decoded at the same time.
   * @param now ms, on the clock of what is due.
   */
  constructor(
    private readonly decoders: number,
    private readonly now: () => number,
  ) {}

  /** ms until an image that takes `ms` and is due then would begin, as far as is known. */
  waitMs(ms: number, due: number): number {
    if (this.#running.length < this.decoders) return 0;
    return this.#begins()[this.#place(ms, due)]!;
  }

  /**
   * Waits for its turn.
   *
   * @returns to be called when decoding is over.
   * @throws the signal's reason, if that comes first.
   */
  async enter(ms: number, due: number, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const job = await new Promise<Job>((resolve, reject) => {
      const job: Job = { ms, due, begin: () => resolve(job) };
      this.#waiting.splice(this.#place(ms, due), 0, job);
      const leave = () => {
        remove(this.#waiting, job);
        reject(signal!.reason as Error);
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#step();
    });
    return () => {
      remove(this.#running, job);
      this.#step();
    };
  }

  #step(): void {
    while (this.#running.length < this.decoders && this.#waiting.length > 0) {
      const job = this.#waiting.shift()!;
      this.#running.push(job);
      job.begin();
    }
  }

  /** By position: ms until whoever is there begins. */
  #begins(): number[] {
    // What runs is on average half done.
    const running = this.#running.reduce((sum, { ms }) => sum + ms / 2, 0);
    const begins = [running / this.decoders];
    for (const { ms } of this.#waiting) begins.push(begins.at(-1)! + ms / this.decoders);
    return begins;
  }

  #place(ms: number, due: number): number {
    const begins = this.#begins();
    const now = this.now();
    let at = this.#waiting.length;
    for (; at > 0; at--) {
      const other = this.#waiting[at - 1]!;
      const overtaken = now + begins[at - 1]! + ms / this.decoders + other.ms;
      if (other.due <= due || overtaken > other.due) break;
    }
    return at;
  }
}

function remove<Item>(items: Item[], item: Item): void {
  const index = items.indexOf(item);
  if (index >= 0) items.splice(index, 1);
}

function octaveOf(pixels: number): number {
  return Math.round(Math.log2(Math.max(1, pixels)));
}
