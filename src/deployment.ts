import { setMaxListeners } from 'node:events';
import { performance } from 'node:perf_hooks';
import { BATCH_SIZES } from './config.ts';
import type { Config } from './config.ts';
import { InferenceEngine } from './engine/engine.ts';
import type { EngineOptions } from './engine/engine.ts';
import { EngineError } from './engine/protocol.ts';
import { warmUp } from './engine/warmup.ts';
import { ServeError } from './errors.ts';
import type { Log } from './log.ts';
import type { Metrics, Prediction } from './metrics.ts';
import { mostAccurate, paretoFront, rankedTiers, superNetOf } from './model/ladder.ts';
import { ModelError } from './model/manifest.ts';
import type { Manifest, Model } from './model/manifest.ts';
import { createDecoder } from './preprocess/decode.ts';
import type { Decoder, Pixels } from './preprocess/decode.ts';
import { headerOf } from './preprocess/header.ts';
import type { Header } from './preprocess/header.ts';
import { warmUpDecoder } from './preprocess/warmup.ts';
import { DecodeQueue, DecodeTimes } from './scheduler/decode.ts';
import { depthserve } from './scheduler/depthserve/policy.ts';
import { MeasuredLatency } from './scheduler/latency.ts';
import type { LatencyTable } from './scheduler/latency.ts';
import { withPins } from './scheduler/pin.ts';
import type { Refusal, Tier } from './scheduler/policy.ts';
import { RefusedError, Scheduler } from './scheduler/scheduler.ts';
import type { Clock, Reservation, Served, Wish } from './scheduler/scheduler.ts';
import { ShadowRunner } from './shadow-runner.ts';

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
  /** Of the model version that answered. */
  readonly manifest: Manifest;
  /** Its most accurate tier. */
  readonly best: Tier;
}

/** What a deployment is made from. */
export interface DeploymentOptions {
  readonly model: Model;
  readonly config: Config;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Called once, when the engine has given up for good, but not before the warm-up is over. */
  readonly onFailed: (error: EngineError) => void;
  /** Stops the warm-up. */
  readonly signal: AbortSignal;
  /** Pauses of the warm-up, as a multiple of each run's time, for the sake of one that serves. */
  readonly warmUpPause: number;
}

interface Parts {
  readonly engine: InferenceEngine;
  readonly engineOptions: EngineOptions;
  readonly table: LatencyTable;
  readonly decode: Decoder;
  readonly decodeTimes: DecodeTimes;
}

/** A batch that takes this many times as long as the slowest did in the warm-up hangs. */
const HANG_FACTOR = 20;

const clock: Clock = {
  now: () => performance.now(),
  at(time, callback) {
    const timer = setTimeout(callback, Math.max(0, time - performance.now()));
    return () => clearTimeout(timer);
  },
};

/**
 * One version of the model at work: decoder, scheduler and engine, warm and measured. A request
 * is answered by one deployment from its pixels to its labels.
 */
export class Deployment {
  readonly manifest: Manifest;
  readonly engine: InferenceEngine;
  readonly latency: MeasuredLatency;
  readonly scheduler: Scheduler<Uint8Array, Float32Array>;
  /** Every sub-network with its accuracy, on the front or not. */
  readonly tiers: readonly Tier[];
  /** The measured Pareto front, cheapest first. */
  readonly front: readonly Tier[];
  readonly #best: Tier;
  readonly #options: DeploymentOptions;
  readonly #decode: Decoder;
  readonly #decodeTimes: DecodeTimes;
  readonly #shadow: Promise<ShadowRunner | null>;
  readonly #decoding: DecodeQueue;
  /** Requests that have come in and are not answered yet. */
  #underWay = 0;
  #reportIdle: () => void = () => {};

  private constructor(options: DeploymentOptions, parts: Parts) {
    const { model, config, metrics } = options;
    const { engine, table } = parts;
    this.#options = options;
    this.manifest = model.manifest;
    this.engine = engine;
    this.#decode = parts.decode;
    this.#decodeTimes = parts.decodeTimes;
    this.#decoding = new DecodeQueue(config.MAX_DECODES, () => clock.now());
    this.tiers = rankedTiers(model.manifest);
    this.front = paretoFront(this.tiers, table);
    this.#best = mostAccurate(this.tiers);
    this.latency = new MeasuredLatency(table);
    const superNet = superNetOf(this.tiers);
    this.scheduler = new Scheduler({
      policy: withPins(depthserve, this.tiers),
      tiers: this.front,
      latency: this.latency,
      engine,
      clock,
      maxBatch: config.MAX_BATCH,
      events: { finished: (...batch) => metrics.ranBatch(superNet, ...batch) },
    });
    this.#shadow =
      config.SHADOW_CHECKS_PER_MINUTE > 0
        ? this.#startShadow({ ...parts.engineOptions, provider: engine.provider })
        : Promise.resolve(null);
  }

  /**
   * Loads the sessions, warms them up and measures the latency table. Every sub-network has run at
   * every batch size then, with finite logits. The model's file is let go of when the deployment
   * is released, or cannot be started.
   *
   * @throws {EngineError} when no engine can be started, or one fails.
   * @throws {ModelError} when manifest and graph do not fit each other.
   * @throws the signal's reason
   */
  static async start(options: DeploymentOptions): Promise<Deployment> {
    const { model, config, log, signal, warmUpPause } = options;
    const { name, version, input, subNetworks } = model.manifest;
    const started = performance.now();
    const engineOptions: EngineOptions = {
      modelFile: model.source,
      provider: config.EXECUTION_PROVIDER,
      workers: config.ENGINE_WORKERS,
      intraOpThreads: config.INTRA_OP_THREADS,
      inputName: input.name,
      height: input.height,
      width: input.width,
      flags: model.manifest.flags,
    };
    let engine: InferenceEngine | undefined;
    let isWarm = false;
    try {
      // Of what fails before, whoever starts the deployment learns by the run that fails.
      engine = await startEngine(engineOptions, options, (error) => {
        if (isWarm) options.onFailed(error);
      });
      await assertLabels(engine, model);
      const table = await warmUp(
        engine,
        subNetworks.map(({ skip }) => skip),
        BATCH_SIZES.filter((size) => size <= config.MAX_BATCH),
        input.height * input.width * 3,
        signal,
        warmUpPause,
      );
      const decoding = await startDecoder(options);
      engine.watch(Math.max(config.ENGINE_HANG_MS, HANG_FACTOR * slowest(table)));
      const deployment = new Deployment(options, { engine, engineOptions, table, ...decoding });
      isWarm = true;
      log.info(
        {
          model: name,
          version,
          provider: engine.provider,
          workers: engine.workers,
          warmUpMs: Math.round(performance.now() - started),
          ladder: deployment.front.map(({ skip, accuracy }) => {
            return { skip, accuracy, ms: table[skip]![1] };
          }),
        },
        'warm',
      );
      return deployment;
    } catch (error) {
      await engine?.release();
      await model.close();
      if (!(error instanceof EngineError)) throw error;
      // onnxruntime names the path that it was given.
      throw new EngineError(error.message.replaceAll(model.source, model.file), error.fault);
    }
  }

  /** Median ms that decoding an image took, of late. */
  get decodeMs(): number {
    return this.#decodeTimes.ofAny(0.5);
  }

  /** What the scheduler plans with now, for every tier in use and measured batch size. */
  get predictions(): readonly Prediction[] {
    return this.front.flatMap((tier) =>
      Object.keys(this.latency.table[tier.skip]!).map((size) => {
        const batch = Number(size);
        const ms = this.latency.predict(tier, batch);
        return { tier, batch, ms, busyMs: this.latency.typical(tier, batch) };
      }),
    );
  }

  /**
   * Decodes the images of one request and queues them, as many at a time as fit into a batch:
   * engines need not wait for the last image, nor is the first one sent off alone. All are
   * answered or none: what cannot be answered takes the others back out of the queue.
   *
   * @param files JPEG, PNG or WebP bytes.
   * @throws {ServeError} for images that cannot be decoded.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classify(files: readonly Buffer[], asked: Asked): Promise<readonly Classified[]> {
    const { MAX_BATCH } = this.#options.config;
    return this.#allOrNone(asked.cancel, async (cancel) => {
      const parts = chunks(files, MAX_BATCH).map((chunk, part) =>
        this.#classifyPart(chunk, { first: part * MAX_BATCH, of: files.length }, asked, cancel),
      );
      return (await Promise.all(parts)).flat();
    });
  }

  /**
   * Queues images that need no decoding, all at once.
   *
   * @param images of the network's input size.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classifyPixels(images: readonly Pixels[], asked: Asked): Promise<readonly Classified[]> {
    return this.#allOrNone(asked.cancel, async ({ signal }) => {
      signal.throwIfAborted();
      const reservation = this.scheduler.reserve(images.length, wishOf(asked));
      return this.#submit(reservation, images, asked, signal, 0);
    });
  }

  /**
   * What a request can be told before its body is read: whether it would be refused even if its
   * image took no time to decode, once its turn comes. Null: read on.
   */
  preview(asked: Asked): Refusal | null {
    const waitMs = this.#decoding.waitMs(0, this.#decodeDue(asked));
    const wish = wishOf(asked);
    const refusal = this.scheduler.preview({ ...wish, deadline: wish.deadline - waitMs });
    return refusal && withDecoding(refusal, waitMs + this.#decodeTimes.ofAny(0.95));
  }

  /** Finishes the requests that came in, then ends the sessions. No new ones from here on. */
  async release(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#reportIdle = resolve;
      });
    }
    // A batch whose clients have all gone away runs on.
    await this.scheduler.drained();
    await this.engine.release();
    await (await this.#shadow)?.close();
    await this.#options.model.close();
  }

  /** Runs the parts of one request; when one fails, the others are given up. */
  async #allOrNone<Result>(
    cancel = new AbortController(),
    run: (cancel: AbortController) => Promise<Result>,
  ): Promise<Result> {
    // One listener for each batch of a large request is no leak.
    setMaxListeners(0, cancel.signal);
    this.#underWay += 1;
    try {
      return await run(cancel);
    } catch (error) {
      cancel.abort(error);
      throw error;
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#reportIdle();
    }
  }

  /**
   * Admits images before the time to decode them is spent, then decodes and queues them.
   *
   * @param place of these images among all of the request.
   * @throws {ServeError | RefusedError | ExpiredError | EngineError}
   */
  async #classifyPart(
    files: readonly Buffer[],
    place: { readonly first: number; readonly of: number },
    asked: Asked,
    cancel: AbortController,
  ): Promise<readonly Classified[]> {
    const { signal } = cancel;
    const started = clock.now();
    const { mostlyMs, atMostMs } = this.#untilDecoded(files, asked);
    const giveUp = (error: RefusedError) => cancel.abort(error);
    try {
      const reservation = this.scheduler.reserve(files.length, wishOf(asked), mostlyMs, giveUp);
      const decoding = files.map(async (file, index) => {
        const ms = this.#expectedDecodeMs(file);
        const done = await this.#decoding.enter(ms, this.#decodeDue(asked), signal);
        try {
          return await this.#decode(file);
        } catch (error) {
          throw numbered(error, place.first + index, place.of);
        } finally {
          done();
        }
      });
      const pixels = await Promise.all(decoding).catch((error: unknown) => {
        this.scheduler.withdraw(reservation);
        throw error;
      });
      return await this.#submit(reservation, pixels, asked, signal, clock.now() - started);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      throw new RefusedError(withDecoding(error.refusal, atMostMs));
    }
  }

  /**
   * Ms until images that come now are decoded: mostly, and for such as take longer than most, for
   * whom what is said to be enough must be enough, too.
   */
  #untilDecoded(files: readonly Buffer[], asked: Asked): { mostlyMs: number; atMostMs: number } {
    const headers = files.map(headerOf).filter((header) => header !== null);
    const { MAX_DECODES } = this.#options.config;
    const rounds = Math.ceil(files.length / MAX_DECODES);
    const longest = (ms: readonly number[]) => rounds * Math.max(0, ...ms);
    const now = clock.now();
    const mostly = longest(headers.map((header) => this.#decodeTimes.lately(header, now)));
    const atMost = longest(headers.map((header) => this.#decodeTimes.predict(header, 0.95)));
    const waitMs = this.#decoding.waitMs(mostly, this.#decodeDue(asked));
    return { mostlyMs: waitMs + mostly, atMostMs: waitMs + Math.max(mostly, atMost) };
  }

  /** When decoding must be over for the quickest sub-network to answer in time. */
  #decodeDue({ arrivedAt, budgetMs }: Asked): number {
    return arrivedAt + budgetMs - this.latency.predict(this.front[0]!, 1);
  }

  #expectedDecodeMs(file: Buffer): number {
    const header = headerOf(file);
    return header ? this.#decodeTimes.lately(header, clock.now()) : 0;
  }

  async #submit(
    reservation: Reservation,
    images: readonly Pixels[],
    asked: Asked,
    signal: AbortSignal,
    decodeMs: number,
  ): Promise<readonly Classified[]> {
    const answers = await this.scheduler.redeem(reservation, images, signal);
    // Of a pinned sub-network, nobody asked whether another would agree.
    if (asked.skip === undefined) {
      void this.#shadow.then((shadow) =>
        answers.forEach((served, index) => shadow?.offer(images[index]!, served)),
      );
    }
    const { manifest } = this;
    return answers.map((served) => Object.assign(served, { decodeMs, manifest, best: this.#best }));
  }

  /** The service serves without it, too: a failure is logged, and nothing is checked. */
  async #startShadow(options: EngineOptions): Promise<ShadowRunner | null> {
    const { config, metrics, log } = this.#options;
    try {
      return await ShadowRunner.start(options, this.tiers, {
        perMinute: config.SHADOW_CHECKS_PER_MINUTE,
        idle: () => this.scheduler.idle,
        onChecked: (...check) => metrics.shadowed(...check),
        onLost: (err) => log.warn({ err }, 'shallow answers are no longer checked'),
      });
    } catch (err) {
      log.warn({ err }, 'shallow answers are not checked');
      return null;
    }
  }
}

async function startEngine(
  engineOptions: EngineOptions,
  { metrics, log }: DeploymentOptions,
  failed: (error: EngineError) => void,
): Promise<InferenceEngine> {
  const engine = await InferenceEngine.start(engineOptions, {
    fault: (err) => {
      metrics.engineFaults.inc({ fault: err.fault });
      log.error({ err, fault: err.fault }, 'an engine worker failed');
    },
    recovered: (attempt, ms) => {
      metrics.engineRecoveries.inc();
      log.info({ attempt, ms: Math.round(ms) }, 'the engine worker runs again');
    },
    failed,
  });
  if (engine.fallback) log.warn({ reason: engine.fallback }, 'CUDA did not load: using the CPU');
  return engine;
}

/** @throws {ModelError} when the network has other outputs than one for each label. */
async function assertLabels(engine: InferenceEngine, { manifest, file }: Model): Promise<void> {
  const { height, width } = manifest.input;
  const blank = new Uint8Array(height * width * 3);
  const { outputs } = await engine.run(0, manifest.subNetworks[0]!, [blank]);
  const { length } = outputs[0]!;
  if (length === manifest.labels.length) return;
  throw new ModelError(
    `${file}: the network has ${length} outputs, the manifest ${manifest.labels.length} labels`,
  );
}

/** A decoder for the network's input size, warm, and what is known of the time that it takes. */
async function startDecoder({
  model,
  config,
  metrics,
  signal,
}: DeploymentOptions): Promise<{ decode: Decoder; decodeTimes: DecodeTimes }> {
  const { height, width } = model.manifest.input;
  const decodeTimes = new DecodeTimes();
  const decoder = (observe: (header: Header, ms: number) => void) =>
    createDecoder({
      height,
      width,
      maxPixels: config.MAX_IMAGE_PIXELS,
      onDecoded: (file, ms) => {
        const header = headerOf(file);
        if (header) observe(header, ms);
      },
    });
  const learn = (header: Header, ms: number) => decodeTimes.observe(header, ms, clock.now());
  // Times of a warm-up are no news to the metrics.
  await warmUpDecoder(decoder(learn), signal);
  const decode = decoder((header, ms) => {
    metrics.decoded(decodeTimes.predict(header, 0.5), ms);
    learn(header, ms);
  });
  return { decode, decodeTimes };
}

/** @param decodeMs that come on top of what the scheduler thinks is enough. */
function withDecoding(refusal: Refusal, decodeMs: number): Refusal {
  return { ...refusal, smallestBudgetMs: refusal.smallestBudgetMs + decodeMs };
}

/** What the scheduler is asked for. */
function wishOf({ arrivedAt, budgetMs, minAccuracy, skip }: Asked): Wish {
  const wish = { arrivedAt, deadline: arrivedAt + budgetMs, minAccuracy };
  return skip === undefined ? wish : { ...wish, skip };
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
