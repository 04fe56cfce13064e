import type { Config } from './config.ts';
import { Deployment } from './deployment.ts';
import type { Classified } from './deployment.ts';
import { ServeError } from './errors.ts';
import { FeedbackMemory } from './feedback.ts';
import { watchGpus } from './gpu.ts';
import type { Log } from './log.ts';
import { Metrics } from './metrics.ts';
import type { Manifest, Model } from './model/manifest.ts';
import { argmax } from './shadow.ts';

/**
 * Where the service is in its life. `recovering`: the last inference failed or no engine works, and
 * whether that passes is being found out; work is taken as long as one engine can do it.
 */
export type Status = 'starting' | 'ready' | 'recovering' | 'draining' | 'failed';

/** What became of the last attempt to serve another version of the model. */
export interface Update {
  /** Null when there was no telling. */
  readonly version: string | null;
  readonly result: 'updated' | 'rejected';
}

/** Pauses of a successor's warm-up: it takes a quarter of the time of as many cores as engines. */
const UPDATE_PAUSE = 3;

/** Knows which deployment serves, and whether it may be used. */
export class Service {
  #status: Status = 'starting';
  #deployment: Deployment | null = null;
  readonly #stop = new AbortController();
  readonly #feedback: FeedbackMemory;
  #stopWatchingGpus: () => void = () => {};
  #lastUpdate: Update | null = null;
  readonly metrics: Metrics;

  constructor(
    readonly config: Config,
    private readonly model: Model,
    private readonly log: Log,
    /** Called once when the service can no longer work and should be replaced. */
    private readonly onFailed: () => void,
  ) {
    this.#feedback = new FeedbackMemory(config.FEEDBACK_CAPACITY);
    this.metrics = new Metrics(model.manifest, () => ({
      ready: this.status === 'ready',
      engines: this.#deployment?.engine.working ?? 0,
      queueLength: this.#deployment?.pipeline.waiting ?? 0,
      oldestAgeMs: this.#deployment?.pipeline.scheduler.oldestAgeMs ?? 0,
      slowdown: this.#deployment?.latency.slowdown ?? 1,
      delayMs: this.#deployment?.latency.delay ?? 0,
      predictions: this.#deployment?.predictions ?? [],
    }));
  }

  get status(): Status {
    const healthy = this.#deployment?.engine.healthy ?? true;
    return this.#status === 'ready' && !healthy ? 'recovering' : this.#status;
  }

  /** Takes no more work, ever. */
  get isClosing(): boolean {
    return this.#status === 'draining' || this.#status === 'failed';
  }

  get lastUpdate(): Update | null {
    return this.#lastUpdate;
  }

  /** Null before the warm-up is over. */
  get deployment(): Deployment | null {
    return this.#deployment;
  }

  /** Of the model that serves, or will. */
  get manifest(): Manifest {
    return this.#deployment?.manifest ?? this.model.manifest;
  }

  /**
   * Loads the model, warms it up and measures it; ready afterwards.
   *
   * @throws {EngineError | ModelError} when the model cannot be served.
   */
  async start(): Promise<void> {
    const { config } = this;
    try {
      this.#serve(await this.#deploy(this.model, 0));
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
      return;
    }
    this.#status = 'ready';
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
    const next = await this.#deploy(model, UPDATE_PAUSE);
    if (this.isClosing) {
      await next.release();
      return;
    }
    const last = this.#deployment!;
    this.#serve(next);
    const { version } = next.manifest;
    this.log.info({ from: last.manifest.version, version }, 'model updated');
    this.updateEnded({ version, result: 'updated' });
    await last.release();
    this.log.info({ version: last.manifest.version }, 'model released');
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
    const deployment = this.#status === 'failed' ? null : this.#deployment;
    if (deployment && deployment.engine.working > 0) return deployment;
    if (this.#status === 'starting') {
      throw new ServeError('starting', 'The model is being loaded and measured.', {}, 1000);
    }
    if (this.#status === 'draining' && !deployment) {
      throw new ServeError('draining', 'This replica is shutting down.', {}, 1000);
    }
    throw new ServeError('engine-failed', 'No engine works at the moment.', {}, 1000);
  }

  /** Counts an answer that is about to leave; times in ms. */
  answered(id: string, result: Classified, budgetMs: number, totalMs: number): void {
    this.metrics.answered(result, budgetMs, totalMs);
    const { tier, manifest, output } = result;
    this.#feedback.remember(id, { tier, labels: manifest.labels, predicted: argmax(output) });
  }

  /**
   * Counts whether an answer was right.
   *
   * @throws {ServeError} unknown-label, unknown-request
   */
  feedback(id: string, label: string): void {
    const labels = this.#feedback.peek(id)?.labels ?? this.manifest.labels;
    const truth = labels.indexOf(label);
    if (truth < 0) throw new ServeError('unknown-label', 'The model does not have this label.');
    const answer = this.#feedback.take(id);
    if (!answer) {
      throw new ServeError('unknown-request', 'No answer with this id is remembered here.');
    }
    const result = answer.predicted === truth ? 'correct' : 'wrong';
    this.metrics.feedback.inc({ tier: answer.tier.skip, result });
  }

  /** Whoever balances load should look elsewhere from here on. */
  beginDrain(): void {
    if (this.#status !== 'failed') this.#status = 'draining';
    this.#stopWatchingGpus();
    this.#stop.abort();
  }

  /** Finishes what was accepted, then releases the sessions. No new work from here on. */
  async close(): Promise<void> {
    this.beginDrain();
    await this.#deployment?.release();
  }

  async #deploy(model: Model, warmUpPause: number): Promise<Deployment> {
    const deployment: Deployment = await Deployment.start({
      model,
      config: this.config,
      metrics: this.metrics,
      log: this.log,
      onFailed: (err) => {
        if (deployment === this.#deployment) this.#fail(err);
        else this.log.error({ err }, 'the engine of a version that no longer serves failed');
      },
      signal: this.#stop.signal,
      warmUpPause,
    });
    return deployment;
  }

  #serve(deployment: Deployment): void {
    this.#deployment = deployment;
    this.metrics.serving(deployment);
  }

  #fail(error: Error): void {
    if (this.#status === 'failed') return;
    this.#status = 'failed';
    this.log.fatal({ err: error }, 'the engine failed');
    this.onFailed();
  }
}
