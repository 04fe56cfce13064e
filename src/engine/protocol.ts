/** Messages between the engine and its worker threads. Buffers are transferred, not copied. */

export type Provider = 'cuda' | 'cpu';

export interface WorkerOptions {
  readonly modelFile: string;
  readonly provider: Provider;
  readonly intraOpThreads: number;
  /** Runs only on processor time that nobody else wants; Linux only, elsewhere it is ignored. */
  readonly background?: boolean;
  readonly inputName: string;
  /** px */
  readonly height: number;
  /** px */
  readonly width: number;
  /** Names of the graph's scalar bool inputs, first stage first. */
  readonly flags: readonly string[];
}

export type ToWorker =
  /** The first one, unless the thread is not wanted. */
  | { readonly type: 'open'; readonly options: WorkerOptions }
  | {
      readonly type: 'run';
      /** Skip flags, first stage first, e.g. `TTFF`. */
      readonly skip: string;
      /** uint8 `[images, height, width, 3]`. */
      readonly pixels: ArrayBuffer;
    }
  | { readonly type: 'release' };

export type FromWorker =
  | { readonly type: 'ready' }
  | {
      readonly type: 'result';
      /** float32 `[images, classes]`. */
      readonly logits: ArrayBuffer;
      /** ms that the worker worked on it, while it had a core. */
      readonly workMs: number;
      /** ms that it waited for one meanwhile. */
      readonly waitMs: number;
    }
  | { readonly type: 'failed'; readonly message: string };

/**
 * What befell a worker. `crash`: its thread ended; `hang`: no answer within the limit; `error`: a
 * run failed, or gave what is no number, on a thread that lives on.
 */
export type Fault = 'crash' | 'hang' | 'error';

/** The engine cannot start or could not run a batch. */
export class EngineError extends Error {
  override readonly name = 'EngineError';

  constructor(
    message: string,
    readonly fault: Fault = 'error',
  ) {
    super(message);
  }
}
