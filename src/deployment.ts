import { performance } from 'node:perf_hooks';
import { BATCH_SIZES } from './config.ts';
import type { Config } from './config.ts';
import { InferenceEngine } from './engine/engine.ts';
import type { EngineOptions } from './engine/engine.ts';
import { EngineError } from './engine/protocol.ts';
import { measureTable } from './engine/measure.ts';
import { ServeError } from './errors.ts';
import type { Log } from './log.ts';
import { mostAccurate, paretoFront, rankedTiers, superNetOf } from './model/ladder.ts';
import { ModelError } from './model/manifest.ts';
import type { Manifest, Model } from './model/manifest.ts';
import { DecodeTimes } from './pipeline/decode-times.ts';
import { DecodeError, Pipeline } from './pipeline/pipeline.ts';
import type { ImageAnswer, ImageRequest } from './pipeline/pipeline.ts';
import { headerOf } from './preprocess/header.ts';
import type { Header } from './preprocess/header.ts';
import { DecoderPool } from './preprocess/pool.ts';
import { warmUpDecoders } from './preprocess/decoder-warmup.ts';
import { depthserve } from './scheduler/depthserve/policy.ts';
import { MeasuredLatency } from './scheduler/latency.ts';
import type { LatencyTable } from './scheduler/latency.ts';
import { withPins } from './scheduler/pin.ts';
import type { Tier } from './scheduler/policy.ts';
import type { Clock } from './scheduler/scheduler.ts';
import type { Metrics } from './telemetry/metrics.ts';
import type { Classified } from './telemetry/recorder.ts';
import { Shadow } from './telemetry/shadow.ts';
import type { DeploymentStatus } from './telemetry/status.ts';

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
  readonly decoder: DecoderPool;
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
  soon: (callback) => void setImmediate(callback),
};

/**
 * One version of the model at work: decoder, scheduler and engine, warm and measured. A request
 * is answered by one deployment from its pixels to its labels.
 */
export class Deployment {
  readonly manifest: Manifest;
  readonly engine: InferenceEngine;
  readonly latency: MeasuredLatency;
  readonly pipeline: Pipeline<Uint8Array, Uint8Array, Float32Array>;
  /** Every sub-network with its accuracy, on the front or not. */
  readonly tiers: readonly Tier[];
  /** The measured Pareto front, cheapest first. */
  readonly front: readonly Tier[];
  readonly #best: Tier;
  readonly #options: DeploymentOptions;
  readonly #decoder: DecoderPool;
  readonly #decodeTimes: DecodeTimes;
  readonly #shadow: Promise<Shadow | null>;
  /** Requests that have come in and are not answered yet. */
  #held = 0;
  #reportIdle: () => void = () => {};

  private constructor(options: DeploymentOptions, parts: Parts) {
    const { model, config, metrics } = options;
    const { engine, table } = parts;
    this.#options = options;
    this.manifest = model.manifest;
    this.engine = engine;
    this.#decoder = parts.decoder;
    this.#decodeTimes = parts.decodeTimes;
    this.tiers = rankedTiers(model.manifest);
    this.front = paretoFront(this.tiers, table);
    this.#best = mostAccurate(this.tiers);
    this.latency = new MeasuredLatency(table);
    const superNet = superNetOf(this.tiers);
    this.pipeline = new Pipeline({
      policy: withPins(depthserve, this.tiers),
      tiers: this.front,
      latency: this.latency,
      decoder: parts.decoder,
      decodeTimes: parts.decodeTimes,
      engine,
      clock,
      maxBatch: config.MAX_BATCH,
      events: {
        finished: (...batch) => metrics.ranBatch(superNet, ...batch),
        decoded: (...times) => metrics.decoded(...times),
        decodedInVain: () => metrics.decodedInVain.inc(),
        answered: (pixels, answer, { skip }) => {
          if (answer.warning !== undefined) metrics.damaged.inc();
          // Of a pinned sub-network, nobody asked whether another would agree.
          if (skip === undefined) void this.#shadow.then((shadow) => shadow?.offer(pixels, answer));
        },
      },
    });
    this.#shadow =
      config.SHADOW_CHECKS_PER_MINUTE > 0
        ? this.#startShadow({ ...parts.engineOptions, provider: engine.provider })
        : Promise.resolve(null);
  }

  /**
   * Loads the sessions, warms them up and measures the latency table. Every sub-network has run
   * then, with finite logits. The model's file is let go of when the deployment
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
    let decoder: DecoderPool | undefined;
    let isWarm = false;
    try {
      // Of what fails before, whoever starts the deployment learns by the run that fails.
      engine = await startEngine(engineOptions, options, (error) => {
        if (isWarm) options.onFailed(error);
      });
      await assertLabels(engine, model);
      const table = await measureTable(engine, {
        ranked: rankedTiers(model.manifest),
        all: subNetworks,
        maxBatch: config.MAX_BATCH,
        sizes: BATCH_SIZES.filter((size) => size <= config.MAX_BATCH),
        imageBytes: input.height * input.width * 3,
        signal,
        pause: warmUpPause,
      });
      decoder = await startDecoders(options);
      const decodeTimes = new DecodeTimes();
      const observe = (header: Header, ms: number) => decodeTimes.observe(header, ms, clock.now());
      await warmUpDecoders(decoder, observe, signal);
      engine.watch(Math.max(config.ENGINE_HANG_MS, HANG_FACTOR * slowest(table)));
      const deployment = new Deployment(options, {
        engine,
        engineOptions,
        table,
        decoder,
        decodeTimes,
      });
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
      await decoder?.release();
      await model.close();
      if (!(error instanceof EngineError)) throw error;
      // onnxruntime names the path that it was given.
      throw new EngineError(error.message.replaceAll(model.source, model.file), error.fault);
    }
  }

  status(): DeploymentStatus {
    const { manifest, engine, pipeline, latency, front } = this;
    const decodeMs = this.#decodeTimes.ofAny(0.95);
    return {
      manifest,
      provider: engine.provider,
      fallback: engine.fallback,
      engines: engine.working,
      waiting: pipeline.waiting,
      oldestAgeMs: pipeline.scheduler.oldestAgeMs,
      tiers: front.map((tier) => ({ ...tier, budgetMs: decodeMs + latency.predict(tier, 1) })),
      latency: latency.table,
      slowdown: latency.slowdown,
      spread: latency.spread,
      delayMs: latency.delay,
      decodeMs: this.#decodeTimes.ofAny(0.5),
      get latencyNow() {
        return latency.present;
      },
      get predictions() {
        return front.flatMap((tier) =>
          Object.keys(latency.table[tier.skip]!).map((size) => {
            const batch = Number(size);
            const ms = latency.predict(tier, batch);
            return { tier, batch, ms, busyMs: latency.typical(tier, batch) };
          }),
        );
      },
    };
  }

  /**
   * Classifies the images of one request: all are answered or none.
   *
   * @param files JPEG, PNG or WebP bytes.
   * @throws {ServeError} for images that cannot be decoded.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classify(files: readonly Buffer[], request: ImageRequest): Promise<readonly Classified[]> {
    const images = files.map((file) => ({ file, header: headerOf(file) }));
    const answers = this.pipeline.classify(images, request).catch((error: unknown) => {
      throw error instanceof DecodeError ? numbered(error) : error;
    });
    return this.#classified(answers);
  }

  /**
   * As `classify`, for images that need no decoding.
   *
   * @param images of the network's input size.
   */
  async classifyPixels(
    images: readonly Uint8Array[],
    request: ImageRequest,
  ): Promise<readonly Classified[]> {
    return this.#classified(this.pipeline.classifyPixels(images, request));
  }

  /**
   * Keeps the deployment for a request that has come in, until what is returned is called: a
   * request is answered by the version that it was admitted by.
   */
  hold(): () => void {
    this.#held += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#held -= 1;
      if (this.#held === 0) this.#reportIdle();
    };
  }

  async #classified(
    answers: Promise<readonly ImageAnswer<Float32Array>[]>,
  ): Promise<readonly Classified[]> {
    const release = this.hold();
    try {
      const { manifest } = this;
      return (await answers).map((answer) => ({ ...answer, manifest, best: this.#best }));
    } finally {
      release();
    }
  }

  /** Finishes the requests that came in, then ends the sessions. No new ones from here on. */
  async release(): Promise<void> {
    if (this.#held > 0) {
      await new Promise<void>((resolve) => {
        this.#reportIdle = resolve;
      });
    }
    // A batch whose clients have all gone away runs on.
    await this.pipeline.scheduler.drained();
    await this.engine.release();
    await this.#decoder.release();
    await (await this.#shadow)?.close();
    await this.#options.model.close();
  }

  /** The service serves without it, too: a failure is logged, and nothing is checked. */
  async #startShadow(options: EngineOptions): Promise<Shadow | null> {
    const { config, metrics, log } = this.#options;
    try {
      return await Shadow.start(options, this.tiers, {
        perMinute: config.SHADOW_CHECKS_PER_MINUTE,
        idle: () => this.pipeline.scheduler.idle,
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

/** Decoders for the network's input size. */
function startDecoders({ model, config, log }: DeploymentOptions): Promise<DecoderPool> {
  const { height, width } = model.manifest.input;
  const options = { height, width, maxPixels: config.MAX_IMAGE_PIXELS };
  return DecoderPool.start(options, config.MAX_DECODES, {
    fault: (err) => log.error({ err }, 'a decoder was lost, and is replaced'),
  });
}

function slowest(table: LatencyTable): number {
  return Math.max(...Object.values(table).flatMap((bySize) => Object.values(bySize)));
}

/** Says which of several images cannot be decoded. */
function numbered({ index, count, cause }: DecodeError): unknown {
  if (!(cause instanceof ServeError) || count === 1) return cause;
  const detail = `Image ${index + 1} of ${count}: ${cause.detail}`;
  return new ServeError(cause.code, detail, { ...cause.extra, image: index }, undefined, {
    cause,
  });
}
