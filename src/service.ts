import type { Config } from './config.ts';
import type { Classifier, Deployment } from './deployment.ts';
import { ServeError } from './errors.ts';
import type { Progress } from './engine/measure.ts';
import type { Log } from './log.ts';
import type { Manifest, Model } from './model/manifest.ts';
import type { ImageRequest } from './pipeline/pipeline.ts';
import type { Refusal } from './scheduler/policy.ts';
import { startDeployment } from './start-deployment.ts';
import type { DeploymentOptions } from './start-deployment.ts';
import { FeedbackMemory } from './telemetry/feedback-memory.ts';
import { watchGpus } from './telemetry/gpu.ts';
import { History } from './telemetry/history.ts';
import { Metrics } from './telemetry/metrics.ts';
import { Recorder } from './telemetry/recorder.ts';
import { notWarm } from './telemetry/status.ts';
import type { ServiceStatus, State, Update } from './telemetry/status.ts';
import { TritonStatistics } from './telemetry/triton-statistics.ts';

/** Pauses of a successor's warm-up: it takes a quarter of the time of as many cores as engines. */
const UPDATE_PAUSE = 3;

/** Of errors that pass: no budget helps, but time may. */
const RETRY = { retryAfterMs: 1000 };

/** A request that has been let in, as far as its head decides. */
export interface Entered {
  readonly deployment: Classifier;
  /** Null: its body is wanted. */
  readonly refusal: Refusal | null;
}

/** Knows which deployment serves, and whether it may be used. */
export class Service {
  #state: State = 'starting';
  #deployment: Deployment | null = null;
  readonly #stop = new AbortController();
  #stopWatchingGpus: () => void = () => {};
  #lastUpdate: Update | null = null;
  readonly metrics: Metrics;
  readonly #feedback: FeedbackMemory;
  readonly #history = new History();
  readonly #tritonStatistics = new TritonStatistics();
  /** To be told what became of each request. */
  readonly recorder: Recorder;

  constructor(
    readonly config: Config,
    private readonly model: Model,
    private readonly log: Log,
    /** Called once when the service can no longer work and should be replaced. */
    private readonly onFailed: () => void,
    /** Told while the model is measured at the start. */
    private readonly onProgress?: Progress,
  ) {
    this.metrics = new Metrics(model.manifest.name, () => this.status());
    this.#feedback = new FeedbackMemory(config.FEEDBACK_CAPACITY, (tier, isCorrect) =>
      this.metrics.judged(tier, isCorrect),
    );
    this.recorder = new Recorder(
      this.metrics,
      this.#history,
      this.#tritonStatistics,
      this.#feedback,
    );
  }

  get feedback(): FeedbackMemory {
    this.recorder.flush();
    return this.#feedback;
  }

  get history(): History {
    this.recorder.flush();
    return this.#history;
  }

  get tritonStatistics(): TritonStatistics {
    this.recorder.flush();
    return this.#tritonStatistics;
  }

  get state(): State {
    const healthy = this.#deployment?.engine.healthy ?? true;
    return this.#state === 'ready' && !healthy ? 'recovering' : this.#state;
  }

  /** What the service tells of itself. */
  status(): ServiceStatus {
    return {
      state: this.state,
      update: this.#lastUpdate,
      deployment: this.#deployment?.status() ?? notWarm(this.model.manifest),
    };
  }

  /** Takes no more work, ever. */
  get isClosing(): boolean {
    return this.#state === 'draining' || this.#state === 'failed';
  }

  /** A model has been warmed up and serves. */
  get isWarm(): boolean {
    return this.#deployment !== null;
  }

  /** Of the model that serves, or will. */
  get manifest(): Manifest {
    return this.#deployment?.manifest ?? this.model.manifest;
  }

  /**
   * Loads the model, warms it up and measures it; ready afterwards.
   *
   * @param quiet when what else loads is loaded: times are measured after it.
   * @throws {EngineError | ModelError} when the model cannot be served.
   */
  async start(quiet?: Promise<unknown>): Promise<void> {
    const { config, onProgress } = this;
    try {
      this.#deployment = await this.#deploy(this.model, { warmUpPause: 0, onProgress, quiet });
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
      return;
    }
    // A drain that began meanwhile releases it.
    if (this.isClosing) return;
    this.#state = 'ready';
    this.log.info({ version: this.manifest.version }, 'ready');
    if (config.GPU_SAMPLE_SECONDS > 0 && config.EXECUTION_PROVIDER !== 'cpu') {
      this.#stopWatchingGpus = watchGpus(config.GPU_SAMPLE_SECONDS, (samples) =>
        this.metrics.gpus(samples),
      );
    }
  }

  /**
   * Serves another version of the model from now on. The one that serves goes on until the other
   * is warm, then finishes the requests that it has, and is released: there are never more than
   * two in memory, as long as updates are made one at a time.
   *
   * @param model let go of when it is no longer needed.
   * @returns when only the new one is left.
   * @throws {EngineError | ModelError} when it cannot be served: the old one serves on.
   */
  async update(model: Model): Promise<void> {
    const next = await this.#deploy(model, { warmUpPause: UPDATE_PAUSE });
    if (this.isClosing) {
      await next.release();
      return;
    }
    const last = this.#deployment!;
    this.#deployment = next;
    const { version } = next.manifest;
    this.log.info({ from: last.manifest.version, version }, 'model updated');
    this.updateEnded({ version, result: 'updated' });
    const released = { version: last.manifest.version };
    await last.release().then(
      () => this.log.info(released, 'model released'),
      (err: unknown) => this.log.error({ ...released, err }, 'a model was not released'),
    );
  }

  /** Makes known what became of an attempt to update. */
  updateEnded(update: Update | null): void {
    this.#lastUpdate = update;
    if (update) this.metrics.updates.inc({ result: update.result });
  }

  /**
   * The deployment for a request that is here now. To be used at once: it stays for as long as it
   * has requests under way, and no longer. A drain takes requests, too: nobody can tell those that
   * were sent before it began from later ones, and as connections close, there are soon no more.
   *
   * @throws {ServeError} starting, draining, engine-failed
   */
  serving(): Deployment {
    const deployment = this.#state === 'failed' ? null : this.#deployment;
    if (deployment && deployment.engine.working > 0) return deployment;
    if (this.#state === 'starting') {
      throw new ServeError('starting', 'The model is being loaded and measured.', RETRY);
    }
    if (this.#state === 'draining' && !deployment) {
      throw new ServeError('draining', 'This replica is shutting down.', RETRY);
    }
    throw new ServeError('engine-failed', 'No engine works at the moment.', RETRY);
  }

  /**
   * Takes the deployment that serves now for a request that has just arrived, and keeps it, unless
   * that refuses, until the answer is out: a body may still be under way when another is served.
   *
   * @param asks what its head asks for; null: nothing that it could be refused for.
   * @param atClose done when the request is over; what is added lets the deployment go.
   * @throws {ServeError} starting, draining, engine-failed
   */
  enter(asks: ImageRequest | null, atClose: { push(act: () => void): unknown }): Entered {
    const deployment = this.serving();
    const refusal = asks && deployment.pipeline.preview(asks);
    if (!refusal) atClose.push(deployment.hold());
    return { deployment, refusal };
  }

  /** Balancers should look elsewhere from here on. */
  beginDrain(): void {
    if (this.#state !== 'failed') this.#state = 'draining';
    this.#stopWatchingGpus();
    this.#stop.abort();
  }

  /** Finishes what was accepted, then releases the sessions. No new work from here on. */
  async close(): Promise<void> {
    this.beginDrain();
    await this.#deployment?.release();
  }

  async #deploy(
    model: Model,
    how: Pick<DeploymentOptions, 'warmUpPause' | 'onProgress' | 'quiet'>,
  ): Promise<Deployment> {
    const deployment: Deployment = await startDeployment({
      model,
      config: this.config,
      metrics: this.metrics,
      log: this.log,
      onFailed: (err) => {
        // A turn later: what has just become warm serves by then.
        setImmediate(() => {
          if (deployment === this.#deployment) this.#fail(err);
          else this.log.error({ err }, 'the engine of a version that no longer serves failed');
        });
      },
      signal: this.#stop.signal,
      ...how,
    });
    return deployment;
  }

  #fail(error: Error): void {
    if (this.#state === 'failed') return;
    this.#state = 'failed';
    this.log.fatal({ err: error }, 'the engine failed');
    this.onFailed();
  }
}
