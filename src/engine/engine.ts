import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Engine } from '../scheduler/scheduler.ts';
import type { Tier } from '../scheduler/policy.ts';
import { EngineError } from './protocol.ts';
import type { FromWorker, Provider, ToWorker, WorkerOptions } from './protocol.ts';

// onnxruntime tells its maker of every process and session unless this is set before it loads. Only
// the main thread can set it: workers have a copy of the environment that C++ does not see.
process.env['ORT_DISABLE_TELEMETRY'] ??= '1';

export interface EngineOptions extends Omit<WorkerOptions, 'provider'> {
  readonly provider: 'auto' | Provider;
  /** Number of workers, each with a session and a thread of its own. */
  readonly workers: number;
}

/** One worker thread; runs one batch at a time. */
class EngineWorker {
  readonly #thread: Worker;
  #pending: { resolve: (logits: Float32Array) => void; reject: (error: Error) => void } | null =
    null;
  #gone: EngineError | null = null;

  private constructor(options: WorkerOptions) {
    this.#thread = new Worker(new URL('./worker.js', import.meta.url), { workerData: options });
  }

  /** @throws {EngineError} when the session cannot be created. */
  static async start(options: WorkerOptions, onLost: (error: EngineError) => void) {
    const worker = new EngineWorker(options);
    const [first] = (await once(worker.#thread, 'message')) as [FromWorker];
    if (first.type === 'failed') throw new EngineError(first.message);
    worker.#thread.on('message', (message: FromWorker) => worker.#settle(message));
    const lost = (why: string) => {
      if (worker.#gone) return;
      worker.#gone = new EngineError(`engine worker lost: ${why}`);
      worker.#pending?.reject(worker.#gone);
      worker.#pending = null;
      onLost(worker.#gone);
    };
    worker.#thread.on('error', (error) => lost(String(error)));
    worker.#thread.on('exit', (code) => lost(`exit code ${code}`));
    return worker;
  }

  run(skip: string, count: number, pixels: ArrayBuffer): Promise<Float32Array> {
    if (this.#gone) return Promise.reject(this.#gone);
    if (this.#pending) return Promise.reject(new EngineError('the worker is busy'));
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      this.#send({ type: 'run', skip, count, pixels }, [pixels]);
    });
  }

  async release(): Promise<void> {
    if (this.#gone) return;
    this.#gone = new EngineError('the engine was released');
    const exited = once(this.#thread, 'exit');
    this.#send({ type: 'release' });
    await exited;
  }

  #send(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#thread.postMessage(message, transfer);
  }

  #settle(message: FromWorker): void {
    const pending = this.#pending;
    this.#pending = null;
    if (message.type === 'result') pending?.resolve(new Float32Array(message.logits));
    else if (message.type === 'failed') pending?.reject(new EngineError(message.message));
  }
}

/** Runs batches on onnxruntime sessions in worker threads. It decides nothing. */
export class InferenceEngine implements Engine<Uint8Array, Float32Array> {
  readonly #workers: readonly EngineWorker[];
  readonly #imageBytes: number;

  private constructor(
    readonly provider: Provider,
    /** Why CUDA was not used although it was asked for by `auto`; null otherwise. */
    readonly fallback: string | null,
    workers: readonly EngineWorker[],
    imageBytes: number,
  ) {
    this.#workers = workers;
    this.#imageBytes = imageBytes;
  }

  /**
   * @param onLost called when a worker thread dies.
   * @throws {EngineError} when no session can be created, or none on CUDA when that is required.
   */
  static async start(
    options: EngineOptions,
    onLost: (error: EngineError) => void,
  ): Promise<InferenceEngine> {
    const { provider: wanted, workers: count, ...rest } = options;
    const start = (provider: Provider) => EngineWorker.start({ ...rest, provider }, onLost);

    let provider: Provider = wanted === 'cpu' ? 'cpu' : 'cuda';
    let fallback: string | null = null;
    let first: EngineWorker;
    try {
      first = await start(provider);
    } catch (error) {
      const { message } = error as Error;
      if (wanted === 'cpu') throw error;
      if (wanted === 'cuda') {
        throw new EngineError(
          `EXECUTION_PROVIDER=cuda, but CUDA did not load: ${message}. ` +
            'docs/cuda.md says how to install the provider libraries, CUDA and cuDNN.',
        );
      }
      provider = 'cpu';
      fallback = message;
      first = await start(provider);
    }
    const others = await Promise.all(Array.from({ length: count - 1 }, () => start(provider)));
    const imageBytes = options.height * options.width * 3;
    return new InferenceEngine(provider, fallback, [first, ...others], imageBytes);
  }

  get workers(): number {
    return this.#workers.length;
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
  ): Promise<readonly Float32Array[]> {
    const pixels = new Uint8Array(inputs.length * this.#imageBytes);
    inputs.forEach((input, index) => pixels.set(input, index * this.#imageBytes));
    const logits = await this.#workers[worker]!.run(tier.skip, inputs.length, pixels.buffer);
    const classes = logits.length / inputs.length;
    return inputs.map((_, index) => logits.subarray(index * classes, (index + 1) * classes));
  }

  /** Ends the workers. No batch may be running: releasing a session in use aborts the process. */
  async release(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.release()));
  }
}
