import { performance } from 'node:perf_hooks';
import { batchSizesOf } from './config.ts';
import type { Config } from './config.ts';
import { Deployment } from './deployment.ts';
import { InferenceEngine } from './engine/engine.ts';
import type { EngineOptions } from './engine/engine.ts';
import { LatencyCache } from './engine/latency-cache.ts';
import { measureTable, stillHolds } from './engine/measure.ts';
import type { Progress } from './engine/measure.ts';
import { EngineError } from './engine/protocol.ts';
import { EventLoopLag } from './event-loop-lag.ts';
import type { Log } from './log.ts';
import { rankedTiers } from './model/ladder.ts';
import { ModelError } from './model/manifest.ts';
import type { Model } from './model/manifest.ts';
import { DecodeTimes } from './pipeline/decode-times.ts';
import { DecoderPool } from './preprocess/pool.ts';
import type { LatencyTable } from './scheduler/latency.ts';
import type { Clock } from './scheduler/scheduler.ts';
import type { Metrics } from './telemetry/metrics.ts';
import { Shadow } from './telemetry/shadow.ts';
import { compileSooner } from './v8-tuning.ts';

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
  /** Told of the warm-up. */
  readonly onProgress?: Progress | undefined;
  /** Times are measured after this: what else loads would be in them. */
  readonly quiet?: Promise<unknown> | undefined;
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

/** Of the thread, not of a deployment: it is watched for as long as the process runs. */
const lag = new EventLoopLag();

/**
 * Loads the sessions, warms them up and measures the latency table: every sub-network has run then,
 * with finite logits. Of a table that was kept only the cheapest and the deepest run. The model's file
 * is let go of when the deployment is released, or cannot be started.
 *
 * @throws {EngineError} when no engine can be started, or one fails.
 * @throws {ModelError} when manifest and graph do not fit each other.
 * @throws the signal's reason
 */
export async function startDeployment(options: DeploymentOptions): Promise<Deployment> {
  const { model, config, log, signal, warmUpPause, onProgress } = options;
  if (signal.aborted) {
    await model.close();
    throw signal.reason;
  }
  const { name, version, subNetworks } = model.manifest;
  const started = performance.now();
  const engineOptions = engineOptionsOf(model, config);
  let deployment: Deployment | undefined;
  let isWarm = false;
  // Before it is warm, the run that fails throws.
  const failed = (error: EngineError) => {
    if (isWarm) options.onFailed(error);
  };
  // Side by side: threads spend most of their start on loading code.
  const starting = [startEngine(engineOptions, options, failed), startDecoders(options)] as const;
  const warmedUp = starting[1].then((decoder) => warmUp(decoder, signal));
  // Where the engine does not start, its failure is the one that is told.
  warmedUp.catch(() => {});
  try {
    const [engine, decoder] = await Promise.all(starting);
    await assertFits(engine, model);
    const { pictures, decodePictures } = await warmedUp;
    await options.quiet;
    const decodeTimes = new DecodeTimes();
    await decodePictures(decoder, pictures, signal, (header, ms, workMs) =>
      decodeTimes.observe(header, ms, clock.now(), workMs),
    );
    const sizes = batchSizesOf(config);
    const cache = cacheOf(options, engine, sizes);
    const measuring = {
      ranked: rankedTiers(model.manifest),
      all: subNetworks,
      maxBatch: config.MAX_BATCH,
      sizes,
      signal,
      pause: warmUpPause,
      onProgress,
    };
    const kept = await cache?.read();
    const isKept = kept ? await stillHolds(kept, engine, measuring) : false;
    const table = isKept ? kept! : await measureTable(engine, measuring);
    if (!isKept) void cache?.write(table);
    engine.watch(Math.max(config.ENGINE_HANG_MS, HANG_FACTOR * slowest(table)));
    const shadowOptions = { ...engineOptions, provider: engine.provider };
    deployment = new Deployment({
      model,
      table,
      maxBatch: config.MAX_BATCH,
      engine,
      decoder,
      decodeTimes,
      clock,
      unreadMs: () => lag.ms(clock.now()),
      metrics: options.metrics,
      looksAgain: config.SECOND_LOOKS === 'on',
      startShadow:
        config.SHADOW_CHECKS_PER_MINUTE > 0
          ? (idle) => startShadow(shadowOptions, options, idle)
          : null,
      remeasured: (better) => void cache?.write(better),
    });
    compileSooner();
    await deployment.rehearse(pictures.jpeg);
    deployment.keepCurrent(pictures.jpeg);
    isWarm = true;
    log.info(
      {
        model: name,
        version,
        provider: engine.provider,
        workers: engine.workers,
        warmUpMs: Math.round(performance.now() - started),
        latencies: isKept ? 'kept' : 'measured',
        ladder: deployment.status().tiers.map(({ skip, accuracy }) => {
          return { skip, accuracy, ms: table[skip]![1] };
        }),
      },
      'warm',
    );
    return deployment;
  } catch (error) {
    if (deployment) await deployment.release();
    else {
      await Promise.allSettled([warmedUp]);
      for (const thread of await Promise.allSettled(starting)) {
        if (thread.status === 'fulfilled') await thread.value.release();
      }
      await model.close();
    }
    if (!(error instanceof EngineError)) throw error;
    // onnxruntime names the path that it was given.
    throw new EngineError(error.message.replaceAll(model.source, model.file), error.fault);
  }
}

/** An engine that runs this model, with these settings. */
export function engineOptionsOf({ source, manifest }: Model, config: Config): EngineOptions {
  return {
    modelFile: source,
    provider: config.EXECUTION_PROVIDER,
    workers: config.ENGINE_WORKERS,
    intraOpThreads: config.INTRA_OP_THREADS,
    inputName: manifest.input.name,
    height: manifest.input.height,
    width: manifest.input.width,
    flags: manifest.flags,
  };
}

/** The service serves without it, too: a failure is logged, and nothing is checked. */
async function startShadow(
  engineOptions: EngineOptions,
  { model, config, metrics, log }: DeploymentOptions,
  idle: () => boolean,
): Promise<Shadow | null> {
  try {
    return await Shadow.start(engineOptions, rankedTiers(model.manifest), {
      perMinute: config.SHADOW_CHECKS_PER_MINUTE,
      idle,
      onChecked: (...check) => metrics.shadowed(...check),
      onLost: (err) => log.warn({ err }, 'shallow answers are no longer checked'),
    });
  } catch (err) {
    log.warn({ err }, 'shallow answers are not checked');
    return null;
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

/** Null: no folder is set. */
function cacheOf(
  { model, config, log }: DeploymentOptions,
  { provider, workers, threadsEach }: InferenceEngine,
  sizes: readonly number[],
): LatencyCache | null {
  if (config.LATENCY_CACHE === '') return null;
  const { sha256 } = model.manifest;
  return new LatencyCache(
    config.LATENCY_CACHE,
    { sha256, provider, workers, threadsEach, sizes },
    log,
  );
}

/** @throws {ModelError} when the network has other inputs or outputs than the manifest. */
export async function assertFits(engine: InferenceEngine, { manifest, file }: Model) {
  const blank = new Uint8Array(engine.imageBytes);
  const { outputs } = await engine.run(0, manifest.subNetworks[0]!, [blank]).catch((error) => {
    if (!(error instanceof EngineError && error.fault === 'error')) throw error;
    const run = 'its first run, with the input and the flags of its manifest';
    throw new ModelError(`${file}: ${run}, failed: ${error.message}`, { cause: error });
  });
  const { length } = outputs[0]!;
  if (length === manifest.labels.length) return;
  throw new ModelError(
    `${file}: the network has ${length} outputs, the manifest ${manifest.labels.length} labels`,
  );
}

/** Decoders that make of any picture the input that the manifest describes. */
function startDecoders({ model, config, log }: DeploymentOptions): Promise<DecoderPool> {
  const options = { ...model.manifest.input, maxPixels: config.MAX_IMAGE_PIXELS };
  return DecoderPool.start(options, config.MAX_DECODES, (err) =>
    log.error({ err }, 'a decoder was lost, and is replaced'),
  );
}

/** While the session loads. */
async function warmUp(decoder: DecoderPool, signal: AbortSignal) {
  // Its library for pictures takes time to load, and is not wanted earlier.
  const { drawPictures, decodePictures } = await import('./preprocess/decoder-warmup.ts');
  const pictures = await drawPictures();
  await decodePictures(decoder, pictures, signal);
  return { pictures, decodePictures };
}

function slowest(table: LatencyTable): number {
  return Math.max(...Object.values(table).flatMap((bySize) => Object.values(bySize)));
}
