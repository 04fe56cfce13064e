import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { ServeError } from '../errors.ts';
import type { DecoderOptions, FileResult, FromDecoder, ToDecoder } from './decoder-messages.ts';
import { JpegDecoder } from './jpeg.ts';

/** RGB pixels, uint8 `[height, width, 3]`, or why there are none. */
export type PoolResult =
  | { readonly pixels: Uint8Array; readonly ms: number; readonly warning?: string | undefined }
  | { readonly error: unknown };

interface Slot {
  thread: Worker;
  /** Settles what the thread is asked for; rejects when it ends first. */
  pending: { resolve: (message: FromDecoder) => void; reject: (error: Error) => void } | null;
  started: Promise<unknown>;
}

/** Of a file that is decoded where it is; and of the network's input, which may have as many pixels. */
interface Small {
  readonly bytes: number;
  readonly pixels: number;
  /** Each goes through the whole picture once more. */
  readonly scans: number;
}

/** Takes less time to decode than a message to another thread and its answer. */
const TINY: Small = { bytes: 8192, pixels: 64 * 64, scans: 10 };
/** On one core, another thread does nothing at the same time: it only costs the message. */
const ON_ONE_CORE: Small = { bytes: 128 * 1024, pixels: 512 * 512, scans: 4 };

/** After a thread that did not start, until the next one is. */
const PAUSE_MS = 100;

/**
 * Decoder threads. One that crashes is replaced; the file that it crashed on is refused. Small
 * JPEGs are decoded where they are.
 */
export class DecoderPool {
  readonly #slots: Slot[];
  readonly #imageBytes: number;
  readonly #small: Small;
  /** Null: the network's input is too large. */
  readonly #here: JpegDecoder | null;
  #released = false;

  private constructor(
    private readonly options: DecoderOptions,
    readonly workers: number,
    private readonly onFault: (error: Error) => void,
    cores: number,
  ) {
    const pixels = options.height * options.width;
    this.#imageBytes = pixels * 3;
    this.#small = cores === 1 ? ON_ONE_CORE : TINY;
    const most = { ...this.#small, pixels: Math.min(this.#small.pixels, options.maxPixels) };
    this.#here = pixels <= this.#small.pixels ? new JpegDecoder(options, most) : null;
    this.#slots = Array.from({ length: workers }, () => this.#start({} as Slot));
  }

  /**
   * @param onFault told of each thread that is lost.
   * @param cores of the machine.
   * @throws {Error} when a thread cannot be started.
   */
  static async start(
    options: DecoderOptions,
    workers: number,
    onFault: (error: Error) => void = () => {},
    cores = availableParallelism(),
  ): Promise<DecoderPool> {
    const pool = new DecoderPool(options, workers, onFault, cores);
    try {
      await Promise.all(pool.#slots.map(({ started }) => started));
      return pool;
    } catch (error) {
      await pool.release();
      throw error;
    }
  }

  /**
   * Decodes files one after another: small ones at once, the others on one thread, which takes one
   * group at a time.
   *
   * @param files JPEG, PNG or WebP bytes; they are copied.
   * @returns one result each, in order.
   */
  async decode(worker: number, files: readonly Uint8Array[]): Promise<readonly PoolResult[]> {
    const here = files.map((file) => this.#decodeHere(file));
    const others = files.filter((_, index) => here[index] === null);
    if (others.length === 0) return here as PoolResult[];
    const there = (await this.#decodeThere(worker, others)).values();
    return here.map((result) => result ?? there.next().value!);
  }

  /** Null: it is not small, or something is wrong with it. */
  #decodeHere(file: Uint8Array): PoolResult | null {
    if (!this.#here || file.length > this.#small.bytes) return null;
    const began = performance.now();
    // All of it is written: zeros would be for nothing.
    const pixels = new Uint8Array(Buffer.allocUnsafeSlow(this.#imageBytes).buffer);
    const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
    if (this.#here.decode(bytes, pixels) !== 'done') return null;
    return { pixels, ms: performance.now() - began };
  }

  async #decodeThere(worker: number, files: readonly Uint8Array[]): Promise<readonly PoolResult[]> {
    const slot = this.#slots[worker]!;
    try {
      await slot.started;
    } catch (error) {
      // Not the files' fault: another thread is started soon.
      return files.map(() => ({ error }));
    }
    try {
      const reply = await this.#ask(slot, files);
      return reply.results.map((result, index) => this.#result(result, reply.pixels, index));
    } catch (error) {
      if (files.length === 1) return [{ error: crashed(error) }];
      // One of them is to blame: the others need not pay for it.
      const results: PoolResult[] = [];
      for (const file of files) results.push(...(await this.#decodeThere(worker, [file])));
      return results;
    }
  }

  /** Ends the threads; what they are at is lost. */
  async release(): Promise<void> {
    this.#released = true;
    await Promise.all(this.#slots.map(({ thread }) => thread.terminate()));
  }

  #start(slot: Slot): Slot {
    const thread = new Worker(new URL('./decoder-thread.js', import.meta.url), {
      workerData: this.options,
    });
    let isStarted = false;
    slot.thread = thread;
    slot.started = new Promise<FromDecoder>((resolve, reject) => {
      slot.pending = { resolve, reject };
    });
    // It is waited for, or the next file tells.
    slot.started.catch(() => {});
    thread.on('message', (message: FromDecoder) => {
      isStarted = true;
      take(slot)?.resolve(message);
    });
    let reason = new Error('a decoder thread ended');
    thread.on('error', (error: Error) => {
      reason = error;
    });
    thread.on('exit', () => {
      const lost = take(slot);
      if (!this.#released) {
        this.onFault(reason);
        if (isStarted) this.#start(slot);
        else this.#startLater(slot);
      }
      lost?.reject(reason);
    });
    return slot;
  }

  /** The next one may fail as well. */
  #startLater(slot: Slot): void {
    setTimeout(() => {
      if (!this.#released) this.#start(slot);
    }, PAUSE_MS).unref();
  }

  async #ask(slot: Slot, files: readonly Uint8Array[]) {
    // Copies: a file may be a part of a larger body, and is needed again if the thread is lost.
    const copies = files.map((file) => Uint8Array.prototype.slice.call(file));
    const reply = new Promise<FromDecoder>((resolve, reject) => {
      slot.pending = { resolve, reject };
    });
    const transfer = copies.map(({ buffer }) => buffer);
    slot.thread.postMessage({ files: copies } satisfies ToDecoder, transfer);
    return (await reply) as Extract<FromDecoder, { type: 'decoded' }>;
  }

  #result(result: FileResult, pixels: ArrayBuffer, index: number): PoolResult {
    if ('code' in result) return { error: new ServeError(result.code, result.detail) };
    if ('fault' in result) return { error: new Error(result.fault) };
    const size = this.#imageBytes;
    return { ...result, pixels: new Uint8Array(pixels, index * size, size) };
  }
}

function take(slot: Slot) {
  const { pending } = slot;
  slot.pending = null;
  return pending;
}

function crashed(cause: unknown): ServeError {
  const detail = 'The file starts like an image, but the decoder failed on it.';
  return new ServeError('not-an-image', detail, { cause });
}
