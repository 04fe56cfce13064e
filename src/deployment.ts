import type { InferenceEngine } from './engine/engine.ts';
import { trialImage } from './engine/measure.ts';
import { ServeError, uploadLate } from './errors.ts';
import { mostAccurate, paretoFront, rankedTiers } from './model/ladder.ts';
import { confidenceOf } from './model/logits.ts';
import type { Manifest, Model } from './model/manifest.ts';
import { Cancellation } from './pipeline/cancellation.ts';
import { DecodeError } from './pipeline/decode-stage.ts';
import type { Decoder } from './pipeline/decode-stage.ts';
import type { DecodeTimes } from './pipeline/decode-times.ts';
import { Pipeline } from './pipeline/pipeline.ts';
import type { ImageAnswer, ImageRequest, PipelineOptions } from './pipeline/pipeline.ts';
import { headerOf } from './preprocess/header.ts';
import { ALONE_MS, askAlone, remeasure } from './remeasure.ts';
import type { Remeasured } from './remeasure.ts';
import { depthserve } from './scheduler/depthserve/depthserve.ts';
import { MeasuredLatency } from './scheduler/latency.ts';
import type { LatencyTable } from './scheduler/latency.ts';
import { withPins } from './scheduler/pin.ts';
import { SharedCores } from './shared-cores.ts';
import type { Tier } from './scheduler/policy.ts';
import { RefusedError } from './scheduler/scheduler.ts';
import type { Clock, Engine } from './scheduler/scheduler.ts';
import type { Metrics } from './telemetry/metrics.ts';
import type { Classified } from './telemetry/recorder.ts';
import type { Shadow } from './telemetry/shadow.ts';
import type { DeploymentStatus } from './telemetry/status.ts';

/** No request of a rehearsal begins after so many ms. */
const REHEARSAL_MS = 100;
/** What they ask for: their budget is enough for code that is cold. */
const PATIENT = { budgetMs: 60_000, minAccuracy: 0 };

/** Batches that run before the Pareto front is drawn again. */
const BATCHES_PER_FRONT = 64;

/** As much of the engine as a deployment needs. */
export type ServingEngine = Engine<Uint8Array, Float32Array> &
  Pick<
    InferenceEngine,
    'provider' | 'imageBytes' | 'threadsEach' | 'fallback' | 'working' | 'healthy' | 'release'
  > &
  Partial<Pick<InferenceEngine, 'onLost'>>;

/** As much of a deployment as those need whose requests it has let in. */
export type Classifier = Pick<Deployment, 'manifest' | 'classify' | 'classifyPixels'>;

/** What a deployment is put together from: everything started, warm and measured. */
export interface DeploymentParts {
  readonly model: Pick<Model, 'manifest' | 'close'>;
  readonly table: LatencyTable;
  readonly maxBatch: number;
  readonly engine: ServingEngine;
  readonly decoder: Decoder<Uint8Array, Uint8Array> & { release(): Promise<void> };
  readonly decodeTimes: DecodeTimes;
  readonly clock: Clock;
  /** Ms for which requests may have waited before they were read. */
  readonly unreadMs?: () => number;
  readonly metrics: Metrics;
  /** Whether unsure answers may be looked at again. */
  readonly looksAgain: boolean;
  /** Starts what checks shallow answers while the engines are idle; null: nothing does. */
  readonly startShadow: ((idle: () => boolean) => Promise<Shadow | null>) | null;
  /** Told of a latency table that is better than the last. */
  readonly remeasured?: (table: LatencyTable) => void;
}

/**
 * One version of the model at work: decoder, scheduler and engine, warm and measured. A request
 * is answered by one deployment from its pixels to its labels.
 */
export class Deployment {
  readonly manifest: Manifest;
  readonly engine: ServingEngine;
  readonly pipeline: Pipeline<Uint8Array, Uint8Array, Float32Array>;
  readonly #parts: DeploymentParts;
  readonly #options: PipelineOptions<Uint8Array, Uint8Array, Float32Array>;
  readonly #latency: MeasuredLatency;
  /** All that can be ranked. */
  readonly #tiers: readonly Tier[];
  /** The measured Pareto front, cheapest first: kept current. */
  #front: readonly Tier[];
  readonly #sharedCores: SharedCores;
  /** Batches since then. */
  #sinceFront = 0;
  readonly #released = new AbortController();
  /** The most accurate sub-network, on the front or not. */
  readonly #best: Tier;
  /** Null: it has not started yet, or none is wanted. */
  #shadow: Shadow | null = null;
  readonly #shadowStarted: Promise<Shadow | null>;
  /** When images came last, on the clock. */
  #askedAt = -Infinity;
  /** A photo of its own that is under way; null: there is none. */
  #own: { readonly skip: string; readonly cancellation: Cancellation } | null = null;
  /** Requests that have come in and are not answered yet. */
  #held = 0;
  #reportIdle: () => void = () => {};

  constructor(parts: DeploymentParts) {
    const { model, table, engine, decoder, decodeTimes, clock, maxBatch, metrics } = parts;
    this.#parts = parts;
    this.manifest = model.manifest;
    this.engine = engine;
    const tiers = rankedTiers(model.manifest);
    this.#tiers = parts.looksAgain
      ? tiers
      : tiers.map(({ skip, accuracy, macs }) => ({ skip, accuracy, macs }));
    this.#front = paretoFront(this.#tiers, table);
    this.#best = mostAccurate(tiers);
    this.#latency = new MeasuredLatency(table);
    const { workers, threadsEach } = engine;
    this.#sharedCores = new SharedCores({ workers, threadsEach }, (overhead) => {
      this.#latency.observeOverhead(overhead);
    });
    this.#options = {
      policy: withPins(depthserve, tiers),
      tiers: () => this.#front,
      latency: this.#latency,
      decoder,
      decodeTimes,
      engine,
      clock,
      maxBatch,
      ...(parts.unreadMs && { unreadMs: parts.unreadMs }),
      confidence: (logits, tier) => confidenceOf(model.manifest, tier.skip, logits),
    };
    this.pipeline = new Pipeline({
      ...this.#options,
      events: {
        finished: (tier, size, predictedMs, actualMs, workMs) => {
          // No caller's: it is in no figure of what answers cost.
          const isOwn = this.#own?.skip === tier.skip && size === 1;
          if (!isOwn) metrics.ranBatch(tier, size, predictedMs, actualMs);
          this.#sharedCores.ran(size, workMs);
          this.#sinceFront += 1;
          if (this.#sinceFront >= BATCHES_PER_FRONT) this.#refreshFront();
        },
        decoded: (...times) => metrics.decoded(...times),
        decodedInVain: (images) => metrics.decodedInVain.inc(images),
        answered: (pixels, answer, { skip }) => {
          if (answer.warning !== undefined) metrics.damaged.inc();
          // Of a pinned sub-network, nobody asked whether another would agree.
          if (skip === undefined) this.#shadow?.offer(pixels, answer);
        },
      },
    });
    engine.onLost = (worker) => void this.pipeline.scheduler.lost(worker);
    this.#shadowStarted =
      parts.startShadow?.(() => this.pipeline.scheduler.idle) ?? Promise.resolve(null);
    void this.#shadowStarted.then((shadow) => (this.#shadow = shadow));
  }

  status(): DeploymentStatus {
    const { manifest, engine, pipeline } = this;
    const { decodeTimes } = this.#parts;
    const latency = this.#latency;
    const front = this.#front;
    return {
      manifest,
      provider: engine.provider,
      fallback: engine.fallback,
      engines: engine.working,
      waiting: pipeline.waiting,
      oldestAgeMs: pipeline.scheduler.oldestAgeMs,
      tiers: front.map((tier) => ({ ...tier, budgetMs: this.#idleMs(tier) })),
      latency,
      decodeMs: decodeTimes.ofAny(0.5),
      predictions: () =>
        front.flatMap((tier) =>
          Object.keys(latency.table[tier.skip]!).map((size) => {
            const batch = Number(size);
            const ms = latency.predict(tier, batch);
            return { tier, batch, ms, busyMs: latency.typical(tier, batch) };
          }),
        ),
    };
  }

  /**
   * Classifies the images of one request: all are answered or none. Who asks holds the deployment.
   *
   * @param files JPEG, PNG or WebP bytes.
   * @throws {ServeError} for images that cannot be decoded.
   * @throws {RefusedError | ExpiredError | EngineError}
   */
  async classify(files: readonly Buffer[], request: ImageRequest): Promise<readonly Classified[]> {
    const images = files.map((file) => ({ file, header: headerOf(file) }));
    return this.#classified(this.pipeline.classify(images, request), request);
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
    return this.#classified(this.pipeline.classifyPixels(images, request), request);
  }

  /**
   * Answers requests of its own, by a pipeline that nobody counts: so that the first callers do not
   * pay for cold code, and are not told budgets that only a cold server needs.
   *
   * @throws {EngineError}
   */
  async rehearse(photo: Buffer): Promise<void> {
    const { clock } = this.#parts;
    const pipeline = new Pipeline(this.#options);
    const began = clock.now();
    while (clock.now() - began < REHEARSAL_MS) {
      const request = { ...PATIENT, arrivedAt: clock.now() };
      await pipeline.classify([{ file: photo, header: headerOf(photo) }], request);
    }
  }

  /** While nothing is asked, times the sub-networks and answers photos of its own; until released. */
  keepCurrent(photo: Buffer): void {
    const inputs = [trialImage(this.engine.imageBytes)];
    const what: Remeasured = {
      tiers: this.#tiers,
      latency: this.#latency,
      trial: async (tier) => {
        // An engine that fails is replaced, and told elsewhere.
        const ran = await this.pipeline.scheduler.trial(tier, inputs).catch(() => null);
        if (ran) this.#sharedCores.ranAside(ran.workMs);
        return ran && ran.workMs;
      },
      changed: () => {
        this.#refreshFront();
        this.#parts.remeasured?.(this.#latency.table);
      },
    };
    const { clock } = this.#parts;
    void remeasure(what, clock, this.#released.signal);
    void askAlone(() => this.#answerAlone(photo), clock, this.#released.signal);
  }

  async #answerAlone(photo: Buffer): Promise<void> {
    const arrivedAt = this.#parts.clock.now();
    // Else callers show what a request takes.
    if (!this.pipeline.idle || arrivedAt - this.#askedAt < ALONE_MS) return;
    const letGo = this.hold();
    this.#own = { skip: this.#front[0]!.skip, cancellation: new Cancellation() };
    const request = { ...PATIENT, arrivedAt, format: 'jpeg', ...this.#own };
    // Without a header: what callers' photos take to decode is remembered, not this one.
    const answered = this.pipeline.classify([{ file: photo, header: null }], request);
    // A caller came; or an engine or a decoder failed, is replaced and told elsewhere.
    await answered.catch(() => {});
    this.#own = null;
    letGo();
  }

  /** Sub-networks that no longer pay leave the front, and others come back to it. */
  #refreshFront(): void {
    this.#sinceFront = 0;
    const front = paretoFront(this.#tiers, this.#latency.present);
    const isSame =
      front.map(({ skip }) => skip).join() === this.#front.map(({ skip }) => skip).join();
    if (!isSame) this.#front = front;
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
    request: ImageRequest,
  ): Promise<readonly Classified[]> {
    const askedAt = this.#parts.clock.now();
    this.#askedAt = askedAt;
    this.#own?.cancellation.cancel(new Error('a caller came'));
    try {
      const { manifest } = this;
      return (await answers).map((answer) => ({ ...answer, manifest, best: this.#best }));
    } catch (error) {
      if (error instanceof DecodeError) throw numbered(error);
      throw error instanceof RefusedError ? this.#explained(error, request, askedAt) : error;
    }
  }

  /** Tells a budget that is too small from one that the upload used up. */
  #explained(error: RefusedError, request: ImageRequest, askedAt: number): Error {
    const { refusal } = error;
    const { arrivedAt, budgetMs, minAccuracy, skip } = request;
    const cheapest =
      skip === undefined
        ? this.#front.find(({ accuracy }) => accuracy >= minAccuracy)
        : this.#tiers.find((tier) => tier.skip === skip);
    const isEnough = cheapest !== undefined && budgetMs >= this.#idleMs(cheapest);
    if (refusal.reason !== 'budget-too-small' || !isEnough) return error;
    const leftMs = budgetMs - (askedAt - arrivedAt);
    return leftMs > 0 ? new RefusedError({ ...refusal, leftMs }) : uploadLate();
  }

  /** The budget that is enough for a tier on an idle service. */
  #idleMs(tier: Tier): number {
    return this.#parts.decodeTimes.ofAny(0.95) + this.#latency.predict(tier, 1);
  }

  /** Finishes the requests that came in, then ends the sessions. No new ones from here on. */
  async release(): Promise<void> {
    if (this.#held > 0) {
      await new Promise<void>((resolve) => {
        this.#reportIdle = resolve;
      });
    }
    this.#released.abort(new Error('released'));
    // A batch whose clients have all gone away runs on.
    await this.pipeline.scheduler.drained();
    await this.engine.release();
    await this.#parts.decoder.release();
    await (await this.#shadowStarted)?.close();
    await this.#parts.model.close();
  }
}

/** Says which of several images cannot be decoded. */
function numbered({ index, count, cause }: DecodeError): unknown {
  if (!(cause instanceof ServeError) || count === 1) return cause;
  const detail = `Image ${index + 1} of ${count}: ${cause.detail}`;
  return new ServeError(cause.code, detail, { extra: { ...cause.extra, image: index }, cause });
}
