import { performance } from 'node:perf_hooks';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine, Ran } from '../scheduler/scheduler.ts';
import type { Tier } from '../scheduler/policy.ts';
import { trialImage } from './measure.ts';
import { EngineError } from './protocol.ts';
import type { Provider, WorkerOptions } from './protocol.ts';
import { EngineThread, stuckThreads } from './thread.ts';
import type { Result } from './thread.ts';

export interface EngineOptions extends Omit<WorkerOptions, 'provider'> {
  readonly provider: 'auto' | Provider;
  /** Number of workers, each with a session and a thread of its own. */
  readonly workers: number;
}

/** Told of what goes wrong; feeds log and metrics. */
export interface EngineEvents {
  /** A worker crashed, hangs, or failed to run a batch; it will be replaced or tried again. */
  fault?(error: EngineError): void;
  /** It runs again, `ms` after its fault, for the `attempt`-th time in a row. */
  recovered?(attempt: number, ms: number): void;
  /** The engine has given up, for good. */
  failed(error: EngineError): void;
}

/** Replacements in a row before the engine gives up, each after a longer pause. */
const MAX_REPLACEMENTS = 4;
const FIRST_PAUSE_MS = 100;
const PAUSE_GROWTH = 4;
/** A worker that has run for this long since it was replaced starts to count anew. */
const STEADY_MS = 60_000;
/** Threads that hang hold a session each; more than this many are a device that hangs. */
const MAX_STUCK = 4;

interface Slot {
  thread: EngineThread;
  /** Ends when the worker can be used again, or the engine has given up; null: it can be used. */
  recovery: Promise<void> | null;
  replacements: number;
  replacedAt: number;
}

/**
 * Runs batches on onnxruntime sessions in worker threads. It decides nothing but this: a worker
 * that is lost is replaced, one whose run failed must show that it still works, and when neither
 * helps the engine fails for good.
 */
export class InferenceEngine implements Engine<Uint8Array, Float32Array> {
  /** Told of a worker that is lost, whether it runs a batch or not: the scheduler plans without it. */
  onLost: (worker: number) => void = () => {};
  /** Of one input. */
  readonly imageBytes: number;
  readonly #options: WorkerOptions;
  readonly #events: EngineEvents;
  readonly #slots: Slot[] = [];
  readonly #released = new AbortController();
  #limitMs: number | null = null;
  #failed: EngineError | null = null;
  #lastRunSucceeded = true;

  private constructor(
    readonly provider: Provider,
    /** Why CUDA was not used although it was asked for by `auto`; null otherwise. */
    readonly fallback: string | null,
    options: WorkerOptions,
    events: EngineEvents,
  ) {
    this.#options = options;
    this.#events = events;
    this.imageBytes = options.height * options.width * 3;
  }

  /** @throws {EngineError} when no session can be created, or none on CUDA when that is required. */
  static async start(options: EngineOptions, events: EngineEvents): Promise<InferenceEngine> {
    const { provider: wanted } = options;
    // Looked up first: asked in vain, onnxruntime prints an error in red.
    if (wanted === 'auto' && !hasCudaProvider()) {
      const reason = 'onnxruntime-node has no CUDA provider library here (docs/cuda.md)';
      return InferenceEngine.#startOn('cpu', reason, options, events);
    }
    if (wanted === 'cpu') return InferenceEngine.#startOn('cpu', null, options, events);
    try {
      return await InferenceEngine.#startOn('cuda', null, options, events);
    } catch (error) {
      const { message } = error as Error;
      if (wanted === 'auto') return InferenceEngine.#startOn('cpu', message, options, events);
      throw new EngineError(
        `EXECUTION_PROVIDER=cuda, but CUDA did not load: ${message}. ` +
          'docs/cuda.md says how to install the provider libraries, CUDA and cuDNN.',
      );
    }
  }

  /** All workers, or none. */
  static async #startOn(
    provider: Provider,
    fallback: string | null,
    { workers, provider: _wanted, ...rest }: EngineOptions,
    events: EngineEvents,
  ): Promise<InferenceEngine> {
    const engine = new InferenceEngine(provider, fallback, { ...rest, provider }, events);
    const started = await Promise.allSettled(Array.from({ length: workers }, () => engine.#add()));
    const failed = started.find(({ status }) => status === 'rejected');
    if (!failed) return engine;
    await engine.release();
    throw (failed as PromiseRejectedResult).reason;
  }

  get workers(): number {
    return this.#slots.length;
  }

  /** Threads of the processor that a worker computes with. */
  get threadsEach(): number {
    return this.provider === 'cpu' ? this.#options.intraOpThreads : 0;
  }

  /** Workers that can be used now. */
  get working(): number {
    return this.#failed ? 0 : this.#slots.filter(({ recovery }) => recovery === null).length;
  }

  /** Whether the last inference succeeded, on any worker. */
  get healthy(): boolean {
    return this.#lastRunSucceeded && this.working > 0;
  }

  /**
   * From now on workers are watched and replaced. Not before the warm-up: first runs may take
   * long, and an engine that fails then should not start.
   *
   * @param limitMs a batch that takes longer hangs.
   */
  watch(limitMs: number): void {
    this.#limitMs = limitMs;
  }

  /**
   * @param inputs RGB pixels, uint8 `[height, width, 3]` each.
   * @returns logits, float32 `[classes]` each.
   * @throws {EngineError}
   */
  async run(
    worker: number,
    tier: Pick<Tier, 'skip'>,
    inputs: readonly Uint8Array[],
  ): Promise<Ran<Float32Array>> {
    const slot = this.#slots[worker]!;
    if (this.#failed) throw this.#failed;
    // All of it is written: zeros would be for nothing.
    const pixels = new Uint8Array(Buffer.allocUnsafeSlow(inputs.length * this.imageBytes).buffer);
    inputs.forEach((input, index) => pixels.set(input, index * this.imageBytes));
    const run = this.#runOn(slot.thread, tier.skip, pixels).catch((error: EngineError) => {
      // A thread that is lost said so itself; before watch(), the warm-up gives up.
      if (slot.thread.alive && this.#limitMs !== null) this.#recover(slot, error);
      throw error;
    });
    const { logits, workMs, waitMs } = await run;
    const classes = logits.length / inputs.length;
    const outputs = inputs.map((_, i) => logits.subarray(i * classes, (i + 1) * classes));
    return { outputs, workMs, waitMs };
  }

  /** Resolves when `worker` can take a batch again, at once if it can. */
  async recovered(worker: number): Promise<void> {
    await this.#slots[worker]!.recovery;
  }

  /** Ends the workers. No batch may be running: releasing a session in use aborts the process. */
  async release(): Promise<void> {
    this.#released.abort();
    await Promise.all(
      this.#slots.map(async (slot) => {
        await slot.recovery;
        await slot.thread.release();
      }),
    );
  }

  async #add(): Promise<void> {
    const slot: Partial<Slot> = { recovery: null, replacements: 0, replacedAt: -Infinity };
    await this.#startThread(slot as Slot);
    this.#slots.push(slot as Slot);
  }

  async #startThread(slot: Slot): Promise<void> {
    slot.thread = await EngineThread.start(
      this.#options,
      // Six times the batch limit for creating a session.
      this.#limitMs === null ? Infinity : 6 * this.#limitMs,
      (error) => this.#recover(slot, error),
    );
  }

  async #runOn(thread: EngineThread, skip: string, pixels: Uint8Array): Promise<Result> {
    try {
      const buffer = pixels.buffer as ArrayBuffer;
      const result = await thread.run(skip, buffer, this.#limitMs ?? Infinity);
      this.#lastRunSucceeded = true;
      return result;
    } catch (error) {
      this.#lastRunSucceeded = false;
      throw error;
    }
  }

  #recover(slot: Slot, error: EngineError): void {
    if (this.#failed) return;
    if (this.#limitMs === null) {
      this.#fail(error);
      return;
    }
    if (slot.recovery) return;
    slot.recovery = this.#repair(slot, error).finally(() => {
      slot.recovery = null;
    });
    this.onLost(this.#slots.indexOf(slot));
  }

  async #repair(slot: Slot, error: EngineError): Promise<void> {
    const began = performance.now();
    this.#events.fault?.(error);
    try {
      if (!slot.thread.alive || !(await this.#stillWorks(slot.thread))) await this.#replace(slot);
      if (this.#released.signal.aborted) return;
      this.#events.recovered?.(slot.replacements, performance.now() - began);
    } catch (reason) {
      this.#fail(reason as EngineError);
    }
  }

  /**
   * Whether a run that failed was the fault of its batch.
   *
   * @throws {EngineError} when the session fails with everything: a new one would, too.
   */
  async #stillWorks(thread: EngineThread): Promise<boolean> {
    try {
      await this.#probe(thread);
      return true;
    } catch (error) {
      if (thread.alive) throw error;
      this.#events.fault?.(error as EngineError);
      return false;
    }
  }

  /** @throws {EngineError} when the engine should give up. */
  async #replace(slot: Slot): Promise<void> {
    for (;;) {
      if (stuckThreads() > MAX_STUCK) throw new EngineError(`${stuckThreads()} workers hang`);
      if (performance.now() - slot.replacedAt > STEADY_MS) slot.replacements = 0;
      if (slot.replacements === MAX_REPLACEMENTS) {
        throw new EngineError(`an engine worker was lost again after ${slot.replacements} others`);
      }
      const pause = FIRST_PAUSE_MS * PAUSE_GROWTH ** slot.replacements;
      slot.replacements += 1;
      await sleep(pause, undefined, { signal: this.#released.signal }).catch(() => {});
      if (this.#released.signal.aborted) return;
      slot.replacedAt = performance.now();
      try {
        await this.#startThread(slot);
        await this.#probe(slot.thread);
        return;
      } catch (error) {
        if (slot.thread.alive) await slot.thread.release();
        this.#events.fault?.(error as EngineError);
      }
    }
  }

  /** A real inference, through every branch of the graph. */
  async #probe(thread: EngineThread): Promise<void> {
    for (const skip of ['F', 'T']) {
      const image = trialImage(this.imageBytes);
      await this.#runOn(thread, skip.repeat(this.#options.flags.length), image);
    }
  }

  #fail(error: EngineError): void {
    if (this.#failed) return;
    this.#failed = error;
    this.#events.failed(error);
  }
}

/** Whether onnxruntime-node came with, or was given, its provider for this platform. */
function hasCudaProvider(): boolean {
  const root = join(dirname(createRequire(import.meta.url).resolve('onnxruntime-node')), '..');
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
  return ['libonnxruntime_providers_cuda.so', 'onnxruntime_providers_cuda.dll'].some((file) =>
    existsSync(join(folder, file)),
  );
}
