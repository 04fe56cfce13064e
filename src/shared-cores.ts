import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';

/** A measurement takes at least so long, in ms. */
const WINDOW_MS = 500;
/** It holds at least so many images. */
const WINDOW_IMAGES = 16;
/** Where it takes longer than this, in ms, cores are not short of time. */
const LONGEST_MS = 2000;

/**
 * How much of that work is a batch's, whatever its size: messages, a decision, what the last
 * inference drove out of the caches. So it was where batches of 3 and of 9 were compared
 * (bench/history.md). Were all of it the images', small batches would seem to be as good.
 */
const BATCH_PART = 0.5;

/** Other work that holds an engine up, in ms. */
export interface Overhead {
  readonly perBatch: number;
  readonly perImage: number;
}

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

/** Since when, what the process had computed by then, and what engines did since. */
interface Window {
  readonly since: number;
  readonly cpuMs: number;
  images: number;
  batches: number;
  engineMs: number;
}

/**
 * What an image costs the processor besides its inference (HTTP, decoding, refusing others), where
 * engines use every core: then an engine is held up by that, too, and a plan that counts inference
 * alone would choose sub-networks that the machine has no time for.
 */
export class SharedCores {
  #window: Window | null = null;
  #msPerImage: number | null = null;

  /**
   * @param engines and the threads that each computes with.
   * @param learned told by how much batches occupy an engine beyond their inference.
   */
  constructor(
    private readonly engines: { readonly workers: number; readonly threadsEach: number },
    private readonly learned: (overhead: Overhead) => void,
    private readonly machine = THIS_MACHINE,
  ) {}

  /** A batch has run, on which an engine worked for `ms`. */
  ran(images: number, ms: number): void {
    const { workers, threadsEach } = this.engines;
    if (workers * threadsEach < this.machine.cores) return;
    // What was computed before the first batch is not its doing.
    if (!this.#window) return this.#begin();
    const window = this.#window;
    window.images += images;
    window.batches += 1;
    window.engineMs += ms * threadsEach;
    const tookMs = this.machine.now() - window.since;
    if (window.images < WINDOW_IMAGES || tookMs < WINDOW_MS) return;
    const othersMs = this.machine.cpuMs() - window.cpuMs - window.engineMs;
    const overhead = tookMs > LONGEST_MS ? 0 : Math.max(0, othersMs) / window.images / threadsEach;
    this.#msPerImage = this.#msPerImage === null ? overhead : (this.#msPerImage + overhead) / 2;
    const size = window.images / window.batches;
    this.#begin();
    this.learned({
      perBatch: BATCH_PART * this.#msPerImage * size,
      perImage: (1 - BATCH_PART) * this.#msPerImage,
    });
  }

  /** An engine worked for `ms` on what no image waited for. */
  ranAside(ms: number): void {
    if (this.#window) this.#window.engineMs += ms * this.engines.threadsEach;
  }

  #begin(): void {
    const { machine } = this;
    this.#window = {
      since: machine.now(),
      cpuMs: machine.cpuMs(),
      images: 0,
      batches: 0,
      engineMs: 0,
    };
  }
}
