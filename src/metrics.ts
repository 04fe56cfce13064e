import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { statusOf } from './errors.ts';
import type { ErrorCode } from './errors.ts';
import type { Tier } from './scheduler/policy.ts';

/** Dense from 1 to 200 ms, where budgets lie; prom-client has no native histograms. */
const SECONDS = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2,
  0.5, 1, 5,
];
/** 0 is a boundary, so that the share of late answers can be read off. */
const SLACK_SECONDS = [-1, -0.1, -0.02, -0.005, 0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5];
export const SHARE_OF_BUDGET = [
  0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 1.1, 1.25, 1.5, 2,
];
/** Even on a logarithmic scale round 1, a prediction that came true. */
const PREDICTED_BY_ACTUAL = [0.25, 0.5, 0.67, 0.8, 0.87, 0.93, 1, 1.07, 1.15, 1.25, 1.5, 2, 4];
/** From what nobody notices to what decides whether the budget is met. */
const PREDICTION_ERROR = [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1];

/** Error codes by which the scheduler turns a request away. */
const REFUSALS: readonly ErrorCode[] = [
  'overloaded',
  'budget-too-small',
  'accuracy-unavailable',
  'deadline-passed',
];

/** What is read at scrape time rather than counted. */
export interface LiveState {
  readonly ready: boolean;
  /** Engine workers that can run a batch. */
  readonly engines: number;
  readonly queueLength: number;
  /** ms */
  readonly oldestAgeMs: number;
  readonly slowdown: number;
  readonly delayMs: number;
  /** What the scheduler would plan with now. */
  readonly predictions: readonly Prediction[];
}

/** What is expected now of a batch of so many images. */
export interface Prediction {
  readonly tier: Tier;
  readonly batch: number;
  /** ms that it hardly ever exceeds. */
  readonly ms: number;
  /** ms that it typically occupies an engine. */
  readonly busyMs: number;
}

/** An answered image; times in ms. */
export interface Answered {
  /** The most accurate tier that the model has. */
  readonly best: Tier;
  readonly tier: Tier;
  readonly decodeMs: number;
  readonly queueMs: number;
  readonly inferenceMs: number;
  /** From arrival to result, predicted at dispatch. */
  readonly predictedMs: number;
}

/** What answers from here on. */
export interface Serving {
  readonly manifest: { readonly version: string };
  readonly engine: { readonly provider: string; readonly fallback: string | null };
  /** The tiers in use. */
  readonly front: readonly Tier[];
}

/** One GPU as its driver describes it. */
export interface GpuSample {
  /** Index of the device, from 0. */
  readonly gpu: string;
  /** Share of the last sampling period in which a kernel ran, 0 to 1. */
  readonly utilisation: number;
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/**
 * Every metric of the service, each with the label `model`. Labels are bounded: tiers, outcomes,
 * stages and batch sizes are fixed sets. docs/metrics.md is made from this file.
 */
export class Metrics {
  readonly registry = new Registry();
  readonly #all = { registers: [this.registry] };

  readonly requests = new Counter({
    name: 'depthserve_requests_total',
    help:
      'Images answered, by tier and outcome (met, late), and requests without an answer ' +
      '(tier none), by error code',
    labelNames: ['tier', 'outcome'],
    ...this.#all,
  });

  readonly budgeted = new Counter({
    name: 'depthserve_budget_requests_total',
    help:
      'What the budget SLO counts: met, or missed (late, refused, expired, failed); ' +
      "faults of the client's (status 4xx) are not in it",
    labelNames: ['result'],
    ...this.#all,
  });

  readonly refusals = new Counter({
    name: 'depthserve_refusals_total',
    help: 'Requests that the scheduler turned away, by reason',
    labelNames: ['reason'],
    ...this.#all,
  });

  readonly duration = new Histogram({
    name: 'depthserve_duration_seconds',
    help: 'Time per answered image, by stage (decode, queue, inference, total) and tier',
    labelNames: ['stage', 'tier'],
    buckets: SECONDS,
    ...this.#all,
  });

  readonly budgetUsed = new Histogram({
    name: 'depthserve_budget_used_ratio',
    help: 'Share of the budget that an answer took; above 1: late. One bucket set for every SLO',
    labelNames: ['tier'],
    buckets: SHARE_OF_BUDGET,
    ...this.#all,
  });

  readonly slack = new Histogram({
    name: 'depthserve_slack_seconds',
    help: 'Budget left when the answer was out; below 0: late',
    labelNames: ['tier'],
    buckets: SLACK_SECONDS,
    ...this.#all,
  });

  readonly prediction = new Histogram({
    name: 'depthserve_prediction_ratio',
    help:
      'Predicted by actual time, of a batch (dispatch to result), of an answer (arrival to ' +
      'answer) or of decoding an image (tier none); below 1: too optimistic',
    labelNames: ['of', 'tier'],
    buckets: PREDICTED_BY_ACTUAL,
    ...this.#all,
  });

  readonly predictionError = new Histogram({
    name: 'depthserve_prediction_error_ratio',
    help:
      'How far the time from arrival to answer was off what was predicted at dispatch, either ' +
      'way, as a share of the budget',
    labelNames: ['tier'],
    buckets: PREDICTION_ERROR,
    ...this.#all,
  });

  readonly batchSize = new Histogram({
    name: 'depthserve_batch_size',
    help: 'Images per batch',
    labelNames: ['tier'],
    buckets: [1, 2, 4, 8, 16, 32],
    ...this.#all,
  });

  readonly engineBusy = new Counter({
    name: 'depthserve_engine_busy_seconds_total',
    help: 'Time that engines spent on batches; its rate by depthserve_engines is the busy share',
    ...this.#all,
  });

  readonly engineFaults = new Counter({
    name: 'depthserve_engine_faults_total',
    help:
      'Engine workers that crashed, hung, or failed to run a batch (crash, hang, error); ' +
      'whoever was in the batch got engine-failed',
    labelNames: ['fault'],
    ...this.#all,
  });

  readonly engineRecoveries = new Counter({
    name: 'depthserve_engine_recoveries_total',
    help: 'Engine workers that run again after a fault, replaced or not',
    ...this.#all,
  });

  readonly damaged = new Counter({
    name: 'depthserve_damaged_images_total',
    help: 'Images answered with a warning: the file is damaged, but could be decoded',
    ...this.#all,
  });

  readonly decodedInVain = new Counter({
    name: 'depthserve_decoded_in_vain_total',
    help: 'Images that were decoded although their request had been given up meanwhile',
    ...this.#all,
  });

  readonly logLinesLost = new Counter({
    name: 'depthserve_log_lines_lost_total',
    help: 'Lines of the log that could not be written: a full disk, a closed pipe',
    ...this.#all,
  });

  readonly accuracyDelivered = new Counter({
    name: 'depthserve_accuracy_delivered_total',
    help:
      'Expected accuracy (0 to 1), added up over the images answered within budget; ' +
      'by depthserve_requests_total{outcome="met"} it is the mean serving accuracy',
    ...this.#all,
  });

  readonly accuracyLost = new Counter({
    name: 'depthserve_accuracy_lost_total',
    help:
      'Expected accuracy (0 to 1) that images answered within budget lack against the most ' +
      'accurate tier, as a rule the super-net, added up',
    ...this.#all,
  });

  readonly expectedAccuracy = new Gauge({
    name: 'depthserve_expected_accuracy_ratio',
    help: "Top-1 accuracy (0 to 1) of each tier in use, from the model's manifest",
    labelNames: ['tier'],
    ...this.#all,
  });

  readonly macs = new Counter({
    name: 'depthserve_macs_total',
    help: 'Multiply-accumulates spent on batches',
    ...this.#all,
  });

  readonly macsSaved = new Counter({
    name: 'depthserve_macs_saved_total',
    help: 'Multiply-accumulates that the super-net would have spent beyond those',
    ...this.#all,
  });

  readonly provider = new Gauge({
    name: 'depthserve_execution_provider',
    help: '1 for the execution provider in use; fallback says whether CUDA was wanted but missing',
    labelNames: ['provider', 'fallback'],
    ...this.#all,
  });

  readonly build = new Gauge({
    name: 'depthserve_build_info',
    help: '1; the version of the model in use',
    labelNames: ['model_version'],
    ...this.#all,
  });

  readonly updates = new Counter({
    name: 'depthserve_model_updates_total',
    help:
      'Versions of the model that were found in its folder while another was served: updated, or ' +
      'rejected, in which case the other is served on',
    labelNames: ['result'],
    ...this.#all,
  });

  readonly gpuUtilisation = new Gauge({
    name: 'depthserve_gpu_utilization_ratio',
    help: 'Share of time in which the GPU ran a kernel (0 to 1), as nvidia-smi says',
    labelNames: ['gpu'],
    ...this.#all,
  });

  readonly gpuUsed = new Gauge({
    name: 'depthserve_gpu_memory_used_bytes',
    help: 'GPU memory in use, by whomever, as nvidia-smi says',
    labelNames: ['gpu'],
    ...this.#all,
  });

  readonly gpuTotal = new Gauge({
    name: 'depthserve_gpu_memory_total_bytes',
    help: 'GPU memory installed, as nvidia-smi says',
    labelNames: ['gpu'],
    ...this.#all,
  });

  readonly shadowAnswers = new Counter({
    name: 'depthserve_shadow_answers_total',
    help:
      'Shallow answers that the super-net was asked to confirm while the engines were idle, ' +
      'by tier and agreement (agree, disagree)',
    labelNames: ['tier', 'agreement'],
    ...this.#all,
  });

  readonly shadowSeconds = new Counter({
    name: 'depthserve_shadow_seconds_total',
    help: 'Time spent on confirming shallow answers; no part of depthserve_engine_busy_seconds',
    ...this.#all,
  });

  readonly shadowMacs = new Counter({
    name: 'depthserve_shadow_macs_total',
    help: 'Multiply-accumulates spent on confirming shallow answers; no part of depthserve_macs',
    ...this.#all,
  });

  readonly feedback = new Counter({
    name: 'depthserve_feedback_total',
    help: 'Answers whose true label POST /feedback told, by tier and result (correct, wrong)',
    labelNames: ['tier', 'result'],
    ...this.#all,
  });

  constructor(model: { name: string; version: string }, state: () => LiveState) {
    this.registry.setDefaultLabels({ model: model.name });
    collectDefaultMetrics({ register: this.registry });
    // Gauges whose names end in _total, which only counters may; each has a twin without it.
    for (const name of ['handles', 'requests', 'resources']) {
      this.registry.removeSingleMetric(`nodejs_active_${name}_total`);
    }
    this.build.set({ model_version: model.version }, 1);
    for (const result of ['met', 'missed']) this.budgeted.inc({ result }, 0);
    for (const reason of REFUSALS) this.refusals.inc({ reason }, 0);
    for (const result of ['updated', 'rejected']) this.updates.inc({ result }, 0);
    for (const fault of ['crash', 'hang', 'error']) this.engineFaults.inc({ fault }, 0);

    const live = (name: string, help: string, read: (now: LiveState) => number) =>
      new Gauge({
        name,
        help,
        ...this.#all,
        collect() {
          this.set(read(state()));
        },
      });
    live('depthserve_ready', '1 while the service is ready to classify', (now) =>
      Number(now.ready),
    );
    live(
      'depthserve_engines',
      'Engine workers, each of which runs one batch at a time; without those being replaced',
      (now) => now.engines,
    );
    live('depthserve_queue_length', 'Images waiting for an engine', (now) => now.queueLength);
    live(
      'depthserve_queue_oldest_age_seconds',
      'How long the oldest waiting image has waited',
      (now) => now.oldestAgeMs / 1000,
    );
    live(
      'depthserve_slowdown_factor',
      'Time that batches take now, as a multiple of the latency table measured at start',
      (now) => now.slowdown,
    );
    live(
      'depthserve_delay_seconds',
      '95th percentile of what batches take beyond the work: the main thread is late by as much',
      (now) => now.delayMs / 1000,
    );
    live(
      'depthserve_full_depth_capacity',
      'Images/s that the engines can answer on the most accurate tier in use, in its best batch',
      (now) => this.#fullDepthCapacity(now),
    );
    // eslint-disable-next-line no-new -- the registry holds it
    new Gauge({
      name: 'depthserve_latency_table_seconds',
      help: 'Time that the scheduler expects now of a batch, by tier and batch size',
      labelNames: ['tier', 'batch'],
      ...this.#all,
      collect() {
        this.reset();
        for (const { tier, batch, ms } of state().predictions) {
          this.set({ tier: tier.skip, batch }, ms / 1000);
        }
      },
    });
  }

  #fullDepthCapacity({ engines, predictions }: LiveState): number {
    const deepest = predictions.reduce((most, { tier }) => Math.max(most, tier.accuracy), 0);
    const perMs = predictions
      .filter(({ tier }) => tier.accuracy === deepest)
      .map(({ batch, busyMs }) => batch / busyMs);
    return 1000 * engines * Math.max(0, ...perMs);
  }

  /** The engines are warm: what they serve from here on. */
  serving({ manifest, engine, front }: Serving): void {
    for (const gauge of [this.build, this.provider, this.expectedAccuracy]) gauge.reset();
    this.build.set({ model_version: manifest.version }, 1);
    const { provider, fallback } = engine;
    this.provider.set({ provider, fallback: String(fallback !== null) }, 1);
    for (const { skip, accuracy } of front) this.expectedAccuracy.set({ tier: skip }, accuracy);
  }

  /** One image answered; times in ms. */
  answered(image: Answered, budgetMs: number, totalMs: number): void {
    const { tier, best, decodeMs, queueMs, inferenceMs, predictedMs } = image;
    const label = { tier: tier.skip };
    const met = totalMs <= budgetMs;
    this.requests.inc({ ...label, outcome: met ? 'met' : 'late' });
    this.budgeted.inc({ result: met ? 'met' : 'missed' });
    if (met) {
      this.accuracyDelivered.inc(tier.accuracy);
      this.accuracyLost.inc(best.accuracy - tier.accuracy);
    }
    const stages = { decode: decodeMs, queue: queueMs, inference: inferenceMs, total: totalMs };
    for (const [stage, ms] of Object.entries(stages)) {
      this.duration.observe({ stage, ...label }, ms / 1000);
    }
    this.budgetUsed.observe(label, totalMs / budgetMs);
    this.slack.observe(label, (budgetMs - totalMs) / 1000);
    this.prediction.observe({ of: 'answer', ...label }, predictedMs / totalMs);
    this.predictionError.observe(label, Math.abs(predictedMs - totalMs) / budgetMs);
  }

  /** One request that got no answer, by its error code. */
  failed(code: ErrorCode): void {
    this.requests.inc({ tier: 'none', outcome: code });
    if (statusOf(code) >= 500) this.budgeted.inc({ result: 'missed' });
    if (REFUSALS.includes(code)) this.refusals.inc({ reason: code });
  }

  /** One batch came back; times in ms, from dispatch to result. */
  ranBatch(superNet: Tier, tier: Tier, size: number, predictedMs: number, actualMs: number): void {
    this.batchSize.observe({ tier: tier.skip }, size);
    this.prediction.observe({ of: 'batch', tier: tier.skip }, predictedMs / actualMs);
    this.engineBusy.inc(actualMs / 1000);
    this.macs.inc(tier.macs * size);
    this.macsSaved.inc((superNet.macs - tier.macs) * size);
  }

  /** One image was decoded; times in ms. */
  decoded(predictedMs: number, actualMs: number): void {
    this.prediction.observe({ of: 'decode', tier: 'none' }, predictedMs / actualMs);
  }

  /** The super-net was asked whether it agrees with an answer of `tier`. */
  shadowed(tier: Tier, agrees: boolean, ms: number, macs: number): void {
    this.shadowAnswers.inc({ tier: tier.skip, agreement: agrees ? 'agree' : 'disagree' });
    this.shadowSeconds.inc(ms / 1000);
    this.shadowMacs.inc(macs);
  }

  /** What nvidia-smi says now; empty: it no longer answers, and old figures must not stay. */
  gpus(samples: readonly GpuSample[]): void {
    for (const gauge of [this.gpuUtilisation, this.gpuUsed, this.gpuTotal]) gauge.reset();
    for (const { gpu, utilisation, usedBytes, totalBytes } of samples) {
      this.gpuUtilisation.set({ gpu }, utilisation);
      this.gpuUsed.set({ gpu }, usedBytes);
      this.gpuTotal.set({ gpu }, totalBytes);
    }
  }
}
