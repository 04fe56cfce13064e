import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';

/** A measurement takes at least so long, in ms, and so many images; */
const WINDOW_MS = 500;
const WINDOW_IMAGES = 16;
/** if it takes longer than this, cores are not short of time. */
const LONGEST_MS = 2000;

/** What is asked of the machine; replaced in tests. */
export interface Machine {
  /** ms */
  now(): number;
  /** Processor time of this process so far, ms. */
  cpuMs(): number;
  readonly cores: number;
}

const THIS_MACHINE: Machine = {
  now: () => performance.now(),
  cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
  cores: availableParallelism(),
};

/**
 * What an image costs the processor besides its inference (HTTP, decoding, refusing others), where
 * engines use every core: then an engine is held up by that, too, and a plan that counts inference
 * alone would choose sub-networks that the machine has no time for.
 */
export class SharedCores {
  #cpuMs: number;
  #since: number;
  #images = 0;
  #engineMs = 0;
  #msPerImage: number | null = null;

  /**
   * @param engines and the threads that each computes with.
   * @param learned told the ms by which each image occupies an engine beyond its inference.
   */
  constructor(
    private readonly engines: { readonly workers: number; readonly threadsEach: number },
    private readonly learned: (msPerImage: number) => void,
    private readonly machine = THIS_MACHINE,
  ) {
    this.#cpuMs = machine.cpuMs();
    this.#since = machine.now();
  }

  /** A batch has run for `ms`. */
  ran(images: number, ms: number): void {
    const { workers, threadsEach } = this.engines;
    if (workers * threadsEach < this.machine.cores) return;
    this.#images += images;
    this.#engineMs += ms * threadsEach;
    const now = this.machine.now();
    if (this.#images < WINDOW_IMAGES || now - this.#since < WINDOW_MS) return;
    const cpuMs = this.machine.cpuMs();
    const besides =
      now - this.#since > LONGEST_MS
        ? 0
        : Math.max(0, cpuMs - this.#cpuMs - this.#engineMs) / this.#images / threadsEach;
    this.#msPerImage = this.#msPerImage === null ? besides : (this.#msPerImage + besides) / 2;
    this.#cpuMs = cpuMs;
    this.#since = now;
    this.#images = 0;
    this.#engineMs = 0;
    this.learned(this.#msPerImage);
  }
}
