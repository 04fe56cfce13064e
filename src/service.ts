import { setMaxListeners } from 'node:events';
import { performance } from 'node:perf_hooks';
import { BATCH_SIZES } from './config.ts';
import type { Config } from './config.ts';
import { InferenceEngine } from './engine/engine.ts';
import type { EngineOptions } from './engine/engine.ts';
import { warmUp } from './engine/warmup.ts';
import { ServeError } from './errors.ts';
import { FeedbackMemory } from './feedback.ts';
import { watchGpus } from './gpu.ts';
import { Metrics } from './metrics.ts';
import { paretoFront, rankedTiers } from './model/ladder.ts';
import type { Manifest } from './model/manifest.ts';
import { createDecoder } from './preprocess/decode.ts';
import type { Decoder, Pixels } from './preprocess/decode.ts';
import { headerOf } from './preprocess/header.ts';
import type { Header } from './preprocess/header.ts';
import { warmUpDecoder } from './preprocess/warmup.ts';
import { DecodeTimes } from './scheduler/decode.ts';
import { depthserve } from './scheduler/depthserve/policy.ts';
import { MeasuredLatency } from './scheduler/latency.ts';
import type { LatencyTable } from './scheduler/latency.ts';
import { withPins } from './scheduler/pin.ts';
import type { Tier, Waiting } from './scheduler/policy.ts';
import { RefusedError, Scheduler } from './scheduler/scheduler.ts';
import type { Clock, Served } from './scheduler/scheduler.ts';
import { ShadowRunner } from './shadow-runner.ts';
import { argmax } from './shadow.ts';

/**
 * Where the service is in its life. `recovering`: the last inference failed or no engine works, and
 * whether that passes is being found out; work is taken as long as one engine can do it.
 */
export type Status = 'starting' | 'ready' | 'recovering' | 'draining' | 'failed';

export interface Logger {
  info(context: object, message: string): void;
  warn(context: object, message: string): void;
  error(context: object, message: string): void;
  fatal(context: object, message: string): void;
}

/** What a request asks for all its images. */
export interface Asked {
  /** When the request's head arrived, as `performance.now()`. */
  readonly arrivedAt: number;
  /** Counted from `arrivedAt`. */
  readonly budgetMs: number;
  /** 0 to 1. */
  readonly minAccuracy: number;
  /** The only sub-network that may answer; absent: the policy chooses. */
  readonly skip?: string | undefined;
  /** Gives up on whatever has not begun; aborted by us, too, when one image of several fails. */
  readonly cancel?: AbortController;
}

/** One image's answer from decoding to logits. Times in ms. */
export interface Classified extends Served<Float32Array> {
  readonly decodeMs: number;
}

interface Running {
  readonly engine: InferenceEngine;
  readonly scheduler: Scheduler<Uint8Array, Float32Array>;
  readonly latency: MeasuredLatency;
  /** Every sub-network with its accuracy, on the front or not. */
  readonly tiers: readonly Tier[];
  /** The measured Pareto front, cheapest first. */
  readonly front: readonly Tier[];
}

/** At most as often are engines measured again while everybody is refused. */
const PROBE_EVERY_MS = 20;

/** A batch that takes this many times as long as the slowest did in the warm-up hangs. */
const HANG_FACTOR = 20;

const clock: Clock = {
  now: () => performance.now(),
  at(time, callback) {
    const timer = setTimeout(callback, Math.max(0, time - performance.now()));
    return () => clearTimeout(timer);
  },
};

/** Joins preprocess, scheduler and engine, and knows whether they may be used. */
export class Service {
  #status: Status = 'starting';
  #running: Running | null = null;
  readonly #decode: Decoder;
  readonly #decodeTimes = new DecodeTimes();
  /** Images that are being decoded or wait for it. */
  #decoding = 0;
  readonly #stop = new AbortController();
  readonly #feedback: FeedbackMemory;
  #shadow: Promise<ShadowRunner | null> = Promise.resolve(null);
  #stopWatchingGpus: () => void = () => {};
  #probedAt = -Infinity;
  readonly metrics: Metrics;

  constructor(
    readonly config: Config,
    readonly manifest: Manifest,
    private readonly modelFile: string,
    private readonly log: Logger,
    /** Called once when the service can no longer work and should be replaced. */
    private readonly onFailed: () => void,
  ) {
    this.#decode = this.#createDecoder((header, ms) => {
      this.metrics.decoded(this.#decodeTimes.predict(header, 0.5), ms);
      this.#decodeTimes.observe(header, ms, clock.now());
    });
    this.#feedback = new FeedbackMemory(config.FEEDBACK_CAPACITY);
    this.metrics = new Metrics(manifest, () => ({
      ready: this.status === 'ready',
      engines: this.#running?.engine.working ?? 0,
      queueLength: this.#running?.scheduler.queueLength ?? 0,
      oldestAgeMs: this.#running?.scheduler.oldestAgeMs ?? 0,
      slowdown: this.#running?.latency.slowdown ?? 1,
      predictions: this.#predictions(),
    }));
  }

  get status(): Status {
    const healthy = this.#running?.engine.healthy ?? true;
    return this.#status === 'ready' && !healthy ? 'recovering' : this.#status;
  }

  /** Takes no more work, ever. */
  get isClosing(): boolean {
    return this.#status === 'draining' || this.#status === 'failed';
  }

  get running(): Readonly<Running> | null {
    return this.#running;
  }

  /**
   * Loads the sessions, warms them up and measures the latency table; ready afterwards.
   *
   * @throws {EngineError} when no engine can be started.
   */
  async start(): Promise<void> {
    const { config, manifest, log } = this;
    const options: EngineOptions = {
      modelFile: this.modelFile,
      provider: config.EXECUTION_PROVIDER,
      workers: config.ENGINE_WORKERS,
      intraOpThreads: config.INTRA_OP_THREADS,
      inputName: manifest.input.name,
      height: manifest.input.height,
      width: manifest.input.width,
      flags: manifest.flags,
    };
    const engine = await InferenceEngine.start(options, {
      fault: (err) => {
        this.metrics.engineFaults.inc({ fault: err.fault });
        log.error({ err, fault: err.fault }, 'an engine worker failed');
      },
      recovered: (attempt, ms) => {
        this.metrics.engineRecoveries.inc();
        log.info({ attempt, ms: Math.round(ms) }, 'the engine worker runs again');
      },
      failed: (error) => this.#fail(error),
    });
    if (engine.fallback) log.warn({ reason: engine.fallback }, 'CUDA did not load: using the CPU');
    this.metrics.provider.set(
      { provider: engine.provider, fallback: String(engine.fallback !== null) },
      1,
    );

    try {
      const started = performance.now();
      const { height, width } = manifest.input;
      const table = await warmUp(
        engine,
        manifest.subNetworks.map(({ skip }) => skip),
        BATCH_SIZES.filter((size) => size <= config.MAX_BATCH),
        height * width * 3,
        this.#stop.signal,
      );
      // Times of a warm-up are no news to the metrics.
      await warmUpDecoder(
        this.#createDecoder((header, ms) => this.#decodeTimes.observe(header, ms, clock.now())),
        this.#stop.signal,
      );
      const tiers = rankedTiers(manifest);
      const front = paretoFront(tiers, table);
      const latency = new MeasuredLatency(table);
      const scheduler = new Scheduler({
        policy: withPins(depthserve, tiers),
        tiers: front,
        latency,
        engine,
        clock,
        maxBatch: config.MAX_BATCH,
        events: { finished: (...batch) => this.metrics.ranBatch(...batch) },
      });
      engine.watch(Math.max(config.ENGINE_HANG_MS, HANG_FACTOR * slowest(table)));
      this.#running = { engine, scheduler, latency, tiers, front };
      this.#status = 'ready';
      this.metrics.serving(tiers, front);
      if (config.GPU_SAMPLE_SECONDS > 0 && config.EXECUTION_PROVIDER !== 'cpu') {
        this.#stopWatchingGpus = watchGpus(config.GPU_SAMPLE_SECONDS, (samples) =>
          this.metrics.gpus(samples),
        );
      }
      if (config.SHADOW_CHECKS_PER_MINUTE > 0) {
        this.#shadow = this.#startShadow({ ...options, provider: engine.provider }, tiers);
      }
      log.info(
        {
          provider: engine.provider,
          workers: engine.workers,
          warmUpMs: Math.round(performance.now() - started),
          ladder: front.map(({ skip, accuracy }) => ({ skip, accuracy, ms: table[skip]![1] })),
        },
        'ready',
      );
    } catch (error) {
      await engine.release();
      if (!this.#stop.signal.aborted) throw error;
    }
  }

  /**
   * Decodes the images of one request and queues them, as many at a time as fit into a batch:
   * engines need not wait for the last image, nor is the first one sent off alone. All are
   * answered or none: what cannot be answered takes the others back out of the queue.
   *
   * @param files JPEG, PNG or WebP bytes.
   * @throws {ServeError} for images that cannot be decoded, and outside `ready`.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classify(files: readonly Buffer[], asked: Asked): Promise<readonly Classified[]> {
    this.assertReady();
    return allOrNone(asked.cancel, async (signal) => {
      const parts = chunks(files, this.config.MAX_BATCH).map(async (chunk, part) => {
        const started = clock.now();
        this.#turnAway(chunk, asked);
        this.#decoding += chunk.length;
        const pixels = await Promise.all(
          chunk.map((file, index) =>
            this.#decode(file, signal).catch((error: unknown) => {
              throw numbered(error, part * this.config.MAX_BATCH + index, files.length);
            }),
          ),
        ).finally(() => (this.#decoding -= chunk.length));
        return this.#submit(pixels, asked, signal, clock.now() - started);
      });
      return (await Promise.all(parts)).flat();
    });
  }

  /**
   * Queues images that need no decoding, all at once.
   *
   * @param images of the network's input size.
   * @throws {ServeError} outside `ready`.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classifyPixels(images: readonly Pixels[], asked: Asked): Promise<readonly Classified[]> {
    this.assertReady();
    return allOrNone(asked.cancel, (signal) => this.#submit(images, asked, signal, 0));
  }

  /**
   * Refuses images that could not be answered in time even if decoding them took no longer than
   * it mostly does, before the time is spent.
   *
   * @throws {RefusedError}
   */
  #turnAway(files: readonly Buffer[], asked: Asked): void {
    const headers = files.map(headerOf).filter((header) => header !== null);
    // As many at a time as there may be, behind those that came before.
    const rounds = Math.ceil((this.#decoding + files.length) / this.config.MAX_DECODES);
    const longest = (ms: readonly number[]) => rounds * Math.max(0, ...ms);
    const now = clock.now();
    const mostly = longest(headers.map((header) => this.#decodeTimes.lately(header, now)));

    const wish = wishOf(asked);
    const refusal = this.#running!.scheduler.preview({ ...wish, deadline: wish.deadline - mostly });
    if (!refusal) return;
    this.#reconsider();
    // What is said to be enough must be enough for an image that takes longer than most.
    const atMost = longest(headers.map((header) => this.#decodeTimes.predict(header, 0.95)));
    const smallestBudgetMs = refusal.smallestBudgetMs + Math.max(mostly, atMost);
    throw new RefusedError({ ...refusal, smallestBudgetMs });
  }

  #createDecoder(learn: (header: Header, ms: number) => void): Decoder {
    return createDecoder({
      height: this.manifest.input.height,
      width: this.manifest.input.width,
      maxPixels: this.config.MAX_IMAGE_PIXELS,
      concurrency: this.config.MAX_DECODES,
      onDecoded: (file, ms) => {
        const header = headerOf(file);
        if (header) learn(header, ms);
      },
    });
  }

  async #submit(
    images: readonly Pixels[],
    asked: Asked,
    signal: AbortSignal,
    decodeMs: number,
  ): Promise<readonly Classified[]> {
    // Accepted before the drain began: it may still be answered.
    const { scheduler } = this.#running!;
    const answers = await scheduler.submitAll(images, wishOf(asked), signal).catch((error) => {
      if (error instanceof RefusedError) this.#reconsider();
      throw error;
    });
    // Of a pinned sub-network, nobody asked whether another would agree.
    if (asked.skip === undefined) {
      void this.#shadow.then((shadow) =>
        answers.forEach((served, index) => shadow?.offer(images[index]!, served)),
      );
    }
    return answers.map((served) => Object.assign(served, { decodeMs }));
  }

  /** Counts an answer that is about to leave; times in ms. */
  answered(id: string, result: Classified, budgetMs: number, totalMs: number): void {
    this.metrics.answered(result, budgetMs, totalMs);
    this.#feedback.remember(id, { tier: result.tier, predicted: argmax(result.output) });
  }

  /**
   * Counts whether an answer was right.
   *
   * @throws {ServeError} unknown-label, unknown-request
   */
  feedback(id: string, label: string): void {
    const truth = this.manifest.labels.indexOf(label);
    if (truth < 0) throw new ServeError('unknown-label', 'The model does not have this label.');
    const answer = this.#feedback.take(id);
    if (!answer) {
      throw new ServeError('unknown-request', 'No answer with this id is remembered here.');
    }
    const result = answer.predicted === truth ? 'correct' : 'wrong';
    this.metrics.feedback.inc({ tier: answer.tier.skip, result });
  }

  /** @throws {ServeError} starting, draining, engine-failed */
  assertReady(): void {
    if (this.#status === 'ready' && this.#running!.engine.working > 0) return;
    if (this.#status === 'starting') {
      throw new ServeError('starting', 'The model is being loaded and measured.', {}, 1000);
    }
    if (this.#status === 'draining') {
      throw new ServeError('draining', 'This replica is shutting down.', {}, 1000);
    }
    throw new ServeError('engine-failed', 'No engine works at the moment.', {}, 1000);
  }

  /** No new work from here on. */
  beginDrain(): void {
    if (this.#status !== 'failed') this.#status = 'draining';
    this.#stopWatchingGpus();
    this.#stop.abort();
  }

  /** Finishes what was accepted, then releases the sessions. */
  async close(): Promise<void> {
    this.beginDrain();
    await this.#running?.scheduler.drained();
    await this.#running?.engine.release();
    await (await this.#shadow)?.close();
  }

  /** What the scheduler plans with now, for every tier in use and measured batch size. */
  #predictions() {
    const { latency, front } = this.#running ?? { front: [] };
    return front.flatMap((tier) =>
      Object.keys(latency!.table[tier.skip]!).map((size) => {
        const batch = Number(size);
        return { tier, batch, ms: latency!.predict(tier, batch) };
      }),
    );
  }

  /**
   * Whoever is refused while no engine has anything to do is refused for what is believed of their
   * speed, and teaches nothing. So it is measured again: an overload must not outlast itself.
   */
  #reconsider(): void {
    const now = clock.now();
    if (now - this.#probedAt < PROBE_EVERY_MS) return;
    this.#probedAt = now;
    const { scheduler, front } = this.#running!;
    const { height, width } = this.manifest.input;
    scheduler.probe(new Uint8Array(height * width * 3), front[0]!);
  }

  /** The service serves without it, too: a failure is logged, and nothing is checked. */
  async #startShadow(options: EngineOptions, tiers: readonly Tier[]): Promise<ShadowRunner | null> {
    try {
      return await ShadowRunner.start(options, tiers, {
        perMinute: this.config.SHADOW_CHECKS_PER_MINUTE,
        idle: () => this.#running!.scheduler.idle,
        onChecked: (...check) => this.metrics.shadowed(...check),
        onLost: (err) => this.log.warn({ err }, 'shallow answers are no longer checked'),
      });
    } catch (err) {
      this.log.warn({ err }, 'shallow answers are not checked');
      return null;
    }
  }

  #fail(error: Error): void {
    if (this.#status === 'failed') return;
    this.#status = 'failed';
    this.log.fatal({ err: error }, 'the engine failed');
    this.onFailed();
  }
}

/** What the scheduler is asked for. */
function wishOf({ arrivedAt, budgetMs, minAccuracy, skip }: Asked): Omit<Waiting, 'id'> {
  const wish = { arrivedAt, deadline: arrivedAt + budgetMs, minAccuracy };
  return skip === undefined ? wish : { ...wish, skip };
}

/** Runs the parts of one request; when one fails, the others are given up. */
async function allOrNone<Result>(
  cancel = new AbortController(),
  run: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  // One listener for each batch of a large request is no leak.
  setMaxListeners(0, cancel.signal);
  try {
    return await run(cancel.signal);
  } catch (error) {
    cancel.abort(error);
    throw error;
  }
}

function slowest(table: LatencyTable): number {
  return Math.max(...Object.values(table).flatMap((bySize) => Object.values(bySize)));
}

function chunks<Item>(items: readonly Item[], size: number): readonly (readonly Item[])[] {
  const count = Math.ceil(items.length / size);
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Says which of several images an error is about. */
function numbered(error: unknown, index: number, count: number): unknown {
  if (!(error instanceof ServeError) || count === 1) return error;
  const detail = `Image ${index + 1} of ${count}: ${error.detail}`;
  return new ServeError(error.code, detail, { ...error.extra, image: index }, undefined, {
    cause: error,
  });
}
