import { performance } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { EngineError } from './protocol.ts';
import type { Fault, FromWorker, ToWorker, WorkerOptions } from './protocol.ts';

// onnxruntime tells its maker of every process and session unless this is set before it loads. Only
// the main thread can set it: workers have a copy of the environment that C++ does not see.
process.env['ORT_DISABLE_TELEMETRY'] ??= '1';

/** What a worker made of a batch. */
export interface Result {
  /** float32 `[images, classes]`. */
  readonly logits: Float32Array;
  /** ms that the worker worked on it: without messages there and back, or waits for a core. */
  readonly workMs: number;
  /** ms that it waited for a core meanwhile. */
  readonly waitMs: number;
}

interface Pending {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
  readonly stopWatching: () => void;
}

/** A thread that was begun before it was known what it will run; null: there is none, or it is taken. */
let begun: Worker | null = null;

/** Those that have not ended, and what each sets when it is about to: it shows while nothing is awaited. */
const running = new Map<Worker, Int32Array>();

function newThread(): Worker {
  const ended = new Int32Array(new SharedArrayBuffer(4));
  const thread = new Worker(new URL('./worker.js', import.meta.url), { workerData: ended });
  running.set(thread, ended);
  thread.once('exit', () => running.delete(thread));
  return thread;
}

/**
 * Ends all threads, whatever they are at, for a process that exits now: terminated while it loads its
 * code or opens its session, a thread aborts the process. Nothing else runs on this thread meanwhile.
 *
 * @param limitMs longest wait.
 * @returns how many have not ended.
 */
export function endThreads(limitMs: number): number {
  for (const thread of running.keys()) thread.postMessage({ type: 'release' } satisfies ToWorker);
  const until = performance.now() + limitMs;
  const left = () => Math.max(0, until - performance.now());
  return [...running.values()].filter((ended) => Atomics.wait(ended, 0, 0, left()) === 'timed-out')
    .length;
}

/** Begins the first thread early: to load its code takes a tenth of a second, whatever it will run. */
export function beginThread(): void {
  begun = newThread();
  // Nothing is lost with it.
  begun.on('error', () => {});
  // One that has ended is not taken.
  begun.on('exit', () => (begun = null));
}

/** Ends it if nobody took it. To exit while it loads its code can abort the process. */
export async function endBegunThread(): Promise<void> {
  const thread = begun;
  begun = null;
  if (thread === null) return;
  const exited = new Promise((resolve) => thread.once('exit', resolve));
  thread.postMessage({ type: 'release' } satisfies ToWorker);
  await exited;
}

const stuck = new Set<EngineThread>();

/** Threads given up as hanging that have not come back: while one is there, no exit succeeds. */
export const stuckThreads = (): number => stuck.size;

/** One worker thread; runs one batch at a time. Once lost, it is never used again. */
export class EngineThread {
  readonly #thread: Worker;
  #pending: Pending | null = null;
  #lost: EngineError | null = null;

  private constructor(
    options: WorkerOptions,
    /** Called once, when the thread ends or hangs; not when it is released. */
    private readonly onLost: (error: EngineError) => void,
  ) {
    this.#thread = begun ?? newThread();
    begun = null;
    this.#thread.on('message', (message: FromWorker) => this.#settle(message));
    this.#thread.on('error', (error) => this.#lose('crash', String(error)));
    this.#thread.on('exit', (code) => {
      stuck.delete(this);
      this.#lose('crash', `its thread ended with code ${code}`);
    });
    this.#send({ type: 'open', options });
  }

  /**
   * Starts a thread and waits for its session.
   *
   * @param limitMs longest wait.
   * @throws {EngineError} when the session cannot be created.
   */
  static async start(
    options: WorkerOptions,
    limitMs: number,
    onLost: (error: EngineError) => void,
  ): Promise<EngineThread> {
    let started = false;
    const thread = new EngineThread(options, (error) => {
      // A start that fails is told by the rejection.
      if (started) onLost(error);
    });
    await thread.#expect(limitMs);
    started = true;
    return thread;
  }

  /** Neither ended nor given up as hanging. */
  get alive(): boolean {
    return this.#lost === null;
  }

  /**
   * @param pixels uint8 `[images, height, width, 3]`; transferred.
   * @param limitMs longest wait, after which the thread is lost.
   * @throws {EngineError}
   */
  run(skip: string, pixels: ArrayBuffer, limitMs: number): Promise<Result> {
    if (this.#lost) return Promise.reject(this.#lost);
    if (this.#pending) return Promise.reject(new EngineError('the worker is busy'));
    const result = this.#expect(limitMs);
    this.#send({ type: 'run', skip, pixels }, [pixels]);
    return result;
  }

  /** Ends the thread, unless it is lost. */
  async release(): Promise<void> {
    if (this.#lost) return;
    this.#lost = new EngineError('the engine was released');
    const exited = new Promise((resolve) => this.#thread.once('exit', resolve));
    this.#send({ type: 'release' });
    await exited;
  }

  /** The next message that settles: `ready`, a result or a failure. */
  #expect(limitMs: number): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject, stopWatching: this.#watch(limitMs) };
    });
  }

  /** In two halves, so that a process that was stopped for long does not take that for a hang. */
  #watch(limitMs: number): () => void {
    if (limitMs === Infinity) return () => {};
    let timer = setTimeout(() => {
      timer = setTimeout(() => this.#lose('hang', `no answer for ${limitMs} ms`), limitMs / 2);
    }, limitMs / 2);
    return () => clearTimeout(timer);
  }

  #lose(fault: Fault, why: string): void {
    if (this.#lost) return;
    this.#lost = new EngineError(`engine worker lost: ${why}`, fault);
    if (fault === 'hang') stuck.add(this);
    // It is left alone: to terminate a thread that holds a session can abort the process.
    this.#thread.unref();
    const pending = this.#take();
    this.onLost(this.#lost);
    pending?.reject(this.#lost);
  }

  #settle(message: FromWorker): void {
    const pending = this.#take();
    if (message.type === 'ready') {
      pending?.resolve({ logits: new Float32Array(), workMs: 0, waitMs: 0 });
    } else if (message.type === 'result') {
      const { logits, workMs, waitMs } = message;
      pending?.resolve({ logits: new Float32Array(logits), workMs, waitMs });
    } else pending?.reject(new EngineError(message.message));
    // It came back after it was given up: now it can end by itself.
    if (!pending && this.#lost?.fault === 'hang') this.#send({ type: 'release' });
  }

  #take(): Pending | null {
    const pending = this.#pending;
    this.#pending = null;
    pending?.stopWatching();
    return pending;
  }

  #send(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#thread.postMessage(message, transfer);
  }
}
