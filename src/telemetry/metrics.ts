import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { statusOf } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { argmax } from '../model/logits.ts';
import type { Tier } from '../scheduler/policy.ts';
import type { GpuSample } from './gpu.ts';
import type { AnsweredOutcome, Classified, Outcome, Subscriber } from './recorder.ts';
import { defineStatusGauges } from './status-gauges.ts';
import type { ServiceStatus } from './status.ts';

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

/** Refusals that more replicas would have served: they are load. */
const LOAD: ReadonlySet<ErrorCode> = new Set(['overloaded', 'deadline-passed']);
/** Answered requests of which the mean number of images is remembered. */
const REMEMBERED = 64;

/**
 * Every metric of the service, each with the label `model`. Labels are bounded: tiers, outcomes,
 * stages and batch sizes are fixed sets. docs/metrics.md is made from this file.
 */
export class Metrics implements Subscriber {
  readonly registry = new Registry();
  #answered = 0;
  /** Mean of the last answered requests. A refused one is seldom read: nobody knows how many it had. */
  #imagesPerRequest = 1;

  readonly requests = this.#counter(
    'depthserve_requests_total',
    'Images answered, by tier and outcome (met, late), and requests without an answer ' +
      '(tier none), by error code',
    ['tier', 'outcome'],
  );
  readonly budgeted = this.#counter(
    'depthserve_budget_requests_total',
    'What the budget SLO counts: images that were answered (met, or missed when late), and requests ' +
      'without an answer (missed) whose status is not 4xx',
    ['result'],
  );
  readonly imagesWanted = this.#counter(
    'depthserve_images_wanted_total',
    'Images answered, and for each request that was overloaded or deadline-passed as many as ' +
      'answered ones had on average: the load',
  );
  readonly refusals = this.#counter(
    'depthserve_refusals_total',
    'Requests that the scheduler turned away, by reason',
    ['reason'],
  );
  readonly duration = this.#histogram(
    'depthserve_duration_seconds',
    'Time per answered image, by stage (decode, queue, inference, total) and tier',
    SECONDS,
    ['stage', 'tier'],
  );
  readonly budgetUsed = this.#histogram(
    'depthserve_budget_used_ratio',
    'Share of the budget that an answer took; above 1: late. One bucket set for every SLO',
    SHARE_OF_BUDGET,
    ['tier'],
  );
  readonly slack = this.#histogram(
    'depthserve_slack_seconds',
    'Budget left when the answer was out; below 0: late',
    SLACK_SECONDS,
    ['tier'],
  );
  readonly prediction = this.#histogram(
    'depthserve_prediction_ratio',
    'Predicted divided by actual time, of a batch (dispatch to result), of an answer (arrival to ' +
      'answer) or of decoding an image (tier none); below 1: too optimistic',
    PREDICTED_BY_ACTUAL,
    ['of', 'tier'],
  );
  readonly predictionError = this.#histogram(
    'depthserve_prediction_error_ratio',
    'How far the time from arrival to answer was off what was predicted at dispatch, either ' +
      'way, as a share of the budget',
    PREDICTION_ERROR,
    ['tier'],
  );
  readonly batchSize = this.#histogram(
    'depthserve_batch_size',
    'Images per batch',
    [1, 2, 4, 8, 16, 32],
    ['tier'],
  );
  readonly engineBusy = this.#counter(
    'depthserve_engine_busy_seconds_total',
    'Time that engines spent on batches; its rate divided by depthserve_engines is the busy share',
  );
  readonly engineFaults = this.#counter(
    'depthserve_engine_faults_total',
    'Engine workers that crashed, hung, or failed to run a batch (crash, hang, error); ' +
      'the requests in the batch got engine-failed',
    ['fault'],
  );
  readonly engineRecoveries = this.#counter(
    'depthserve_engine_recoveries_total',
    'Engine workers that run again after a fault, replaced or not',
  );
  readonly damaged = this.#counter(
    'depthserve_damaged_images_total',
    'Images answered with a warning: the file is damaged, but could be decoded',
  );
  readonly decodedInVain = this.#counter(
    'depthserve_decoded_in_vain_total',
    'Images that were decoded, and their request was not answered',
  );
  readonly logLinesLost = this.#counter(
    'depthserve_log_lines_lost_total',
    'Lines of the log that could not be written: a full disk, a closed pipe, a reader more than 1 MiB behind',
  );
  readonly frontsLost = this.#counter(
    'depthserve_fronts_lost_total',
    'Threads that spoke HTTP and ended by a fault, with the requests that they had',
  );
  readonly accuracyDelivered = this.#counter(
    'depthserve_accuracy_delivered_total',
    'Expected accuracy (0 to 1), added up over the images answered within budget; ' +
      'divided by depthserve_requests_total{outcome="met"} it is the mean serving accuracy',
  );
  readonly accuracyLost = this.#counter(
    'depthserve_accuracy_lost_total',
    'Expected accuracy (0 to 1) that images answered within budget lack against the most ' +
      'accurate tier, as a rule the super-net, added up',
  );
  readonly looks = this.#counter(
    'depthserve_looks_total',
    'Looks at answered images, by tier and look (first, second); the share looked at again is ' +
      'that of the second',
    ['tier', 'look'],
  );
  readonly looksChanged = this.#counter(
    'depthserve_looks_changed_total',
    'Second looks that changed the answer',
  );
  readonly confidenceDelivered = this.#counter(
    'depthserve_confidence_delivered_total',
    'Calibrated confidence (0 to 1), added up over the images answered within budget; by ' +
      'depthserve_requests_total{outcome="met"} it is the accuracy to expect of these images',
  );
  readonly macs = this.#counter('depthserve_macs_total', 'Multiply-accumulates spent on batches');
  readonly superNetMacs = this.#counter(
    'depthserve_super_net_macs_total',
    'Multiply-accumulates that one look by the most accurate tier, as a rule the super-net, would ' +
      'have taken for each answered image',
  );
  readonly updates = this.#counter(
    'depthserve_model_updates_total',
    'Versions of the model that were found in its folder while another was served: updated, or ' +
      'rejected, in which case the other is served on',
    ['result'],
  );
  readonly gpuWatched = this.#gauge(
    'depthserve_gpu_watched',
    '1 where nvidia-smi is asked (GPU_SAMPLE_SECONDS): a GPU that it does not name is lost',
    [],
  );
  readonly gpuUtilisation = this.#gauge(
    'depthserve_gpu_utilization_ratio',
    'Share of time in which the GPU ran a kernel (0 to 1), as nvidia-smi says',
    ['gpu'],
  );
  readonly gpuUsed = this.#gauge(
    'depthserve_gpu_memory_used_bytes',
    'GPU memory in use by any process, as nvidia-smi says',
    ['gpu'],
  );
  readonly gpuTotal = this.#gauge(
    'depthserve_gpu_memory_total_bytes',
    'GPU memory installed, as nvidia-smi says',
    ['gpu'],
  );
  readonly shadowAnswers = this.#counter(
    'depthserve_shadow_answers_total',
    'Shallow answers that the super-net was asked to confirm while the engines were idle, ' +
      'by tier and agreement (agree, disagree)',
    ['tier', 'agreement'],
  );
  readonly shadowSeconds = this.#counter(
    'depthserve_shadow_seconds_total',
    'Time spent on confirming shallow answers; no part of depthserve_engine_busy_seconds',
  );
  readonly shadowMacs = this.#counter(
    'depthserve_shadow_macs_total',
    'Multiply-accumulates spent on confirming shallow answers; no part of depthserve_macs',
  );
  readonly feedback = this.#counter(
    'depthserve_feedback_total',
    'Answers whose true label POST /feedback told, by tier and result (correct, wrong)',
    ['tier', 'result'],
  );

  /** @param status what is read at scrape time rather than counted. */
  constructor(model: string, status: () => ServiceStatus) {
    this.registry.setDefaultLabels({ model });
    collectDefaultMetrics({ register: this.registry });
    // Gauges whose names end in _total, which only counters may; each has a twin without it.
    for (const name of ['handles', 'requests', 'resources']) {
      this.registry.removeSingleMetric(`nodejs_active_${name}_total`);
    }
    for (const result of ['met', 'missed']) this.budgeted.inc({ result }, 0);
    for (const reason of REFUSALS) this.refusals.inc({ reason }, 0);
    for (const result of ['updated', 'rejected']) this.updates.inc({ result }, 0);
    for (const fault of ['crash', 'hang', 'error']) this.engineFaults.inc({ fault }, 0);
    defineStatusGauges(this.registry, status);
  }

  record(outcome: Outcome): void {
    if (outcome.kind === 'answered') {
      this.#wanted(outcome.images.length);
      for (const image of outcome.images) this.#image(image, outcome);
      return;
    }
    const { code } = outcome;
    if (LOAD.has(code)) this.imagesWanted.inc(this.#imagesPerRequest);
    this.requests.inc({ tier: 'none', outcome: code });
    if (statusOf(code) >= 500) this.budgeted.inc({ result: 'missed' });
    if (REFUSALS.includes(code)) this.refusals.inc({ reason: code });
  }

  #wanted(images: number): void {
    this.#answered += 1;
    const share = 1 / Math.min(this.#answered, REMEMBERED);
    this.#imagesPerRequest += share * (images - this.#imagesPerRequest);
    this.imagesWanted.inc(images);
  }

  #image(image: Classified, { isMet, budgetMs, totalMs }: AnsweredOutcome): void {
    const { tier, best, looks, decodeMs, queueMs, inferenceMs, predictedMs } = image;
    const label = { tier: tier.skip };
    this.requests.inc({ tier: tier.skip, outcome: isMet ? 'met' : 'late' });
    this.budgeted.inc({ result: isMet ? 'met' : 'missed' });
    this.superNetMacs.inc(best.macs);
    looks.forEach((look, index) => {
      this.looks.inc({ tier: look.tier.skip, look: index === 0 ? 'first' : 'second' });
    });
    const [first, second] = looks;
    if (second && argmax(first!.output) !== argmax(second.output)) this.looksChanged.inc();
    if (isMet) {
      this.confidenceDelivered.inc(looks.at(-1)!.confidence);
      this.accuracyDelivered.inc(tier.accuracy);
      this.accuracyLost.inc(best.accuracy - tier.accuracy);
    }
    const took = (stage: string, ms: number) =>
      this.duration.observe({ stage, tier: tier.skip }, ms / 1000);
    took('decode', decodeMs);
    took('queue', queueMs);
    took('inference', inferenceMs);
    took('total', totalMs);
    this.budgetUsed.observe(label, totalMs / budgetMs);
    this.slack.observe(label, (budgetMs - totalMs) / 1000);
    this.prediction.observe({ of: 'answer', tier: tier.skip }, predictedMs / totalMs);
    this.predictionError.observe(label, Math.abs(predictedMs - totalMs) / budgetMs);
  }

  /** One batch came back; times in ms, from dispatch to result. */
  ranBatch(tier: Tier, size: number, predictedMs: number, actualMs: number): void {
    this.batchSize.observe({ tier: tier.skip }, size);
    this.prediction.observe({ of: 'batch', tier: tier.skip }, predictedMs / actualMs);
    this.engineBusy.inc(actualMs / 1000);
    this.macs.inc(tier.macs * size);
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
    this.gpuWatched.set(1);
    for (const gauge of [this.gpuUtilisation, this.gpuUsed, this.gpuTotal]) gauge.reset();
    for (const { gpu, utilisation, usedBytes, totalBytes } of samples) {
      this.gpuUtilisation.set({ gpu }, utilisation);
      this.gpuUsed.set({ gpu }, usedBytes);
      this.gpuTotal.set({ gpu }, totalBytes);
    }
  }

  /** POST /feedback told whether an answer of `tier` was right. */
  judged(tier: Tier, isCorrect: boolean): void {
    this.feedback.inc({ tier: tier.skip, result: isCorrect ? 'correct' : 'wrong' });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []) {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]) {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly Label[],
  ) {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}
