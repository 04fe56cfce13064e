import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { Tier } from './scheduler/policy.ts';

/** Dense from 1 to 200 ms, where budgets lie; prom-client has no native histograms. */
const SECONDS = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2,
  0.5, 1, 5,
];

/** What is read at scrape time rather than counted. */
export interface LiveState {
  readonly queueLength: number;
  /** ms */
  readonly oldestAgeMs: number;
  readonly slowdown: number;
}

/** Every metric of the service. Labels are bounded: tiers, outcomes and stages are fixed sets. */
export class Metrics {
  readonly registry = new Registry();

  readonly requests = new Counter({
    name: 'depthserve_requests_total',
    help: 'Images asked for, by the tier that answered (none: no answer) and the outcome',
    labelNames: ['tier', 'outcome'],
    registers: [this.registry],
  });

  readonly duration = new Histogram({
    name: 'depthserve_duration_seconds',
    help: 'Time per answered image, by stage (decode, queue, inference, total) and tier',
    labelNames: ['stage', 'tier'],
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly batchSize = new Histogram({
    name: 'depthserve_batch_size',
    help: 'Images per batch, by tier',
    labelNames: ['tier'],
    buckets: [1, 2, 4, 8, 16, 32],
    registers: [this.registry],
  });

  readonly provider = new Gauge({
    name: 'depthserve_execution_provider',
    help: '1 for the execution provider in use; fallback says whether CUDA was wanted but missing',
    labelNames: ['provider', 'fallback'],
    registers: [this.registry],
  });

  readonly ready = new Gauge({
    name: 'depthserve_ready',
    help: '1 while the service is ready to classify',
    registers: [this.registry],
  });

  constructor(state: () => LiveState) {
    collectDefaultMetrics({ register: this.registry });
    const live = (name: string, help: string, read: (now: LiveState) => number) =>
      new Gauge({
        name,
        help,
        registers: [this.registry],
        collect() {
          this.set(read(state()));
        },
      });
    live('depthserve_queue_length', 'Images waiting for an engine', (now) => now.queueLength);
    live(
      'depthserve_queue_oldest_age_seconds',
      'How long the oldest waiting image has waited',
      (now) => now.oldestAgeMs / 1000,
    );
    live(
      'depthserve_slowdown_factor',
      'Time that batches take now, as a multiple of the latency table',
      (now) => now.slowdown,
    );
  }

  /** One image answered; times in ms. */
  answered(
    tier: Tier,
    met: boolean,
    stages: { decode: number; queue: number; inference: number; total: number },
  ): void {
    this.requests.inc({ tier: tier.skip, outcome: met ? 'met' : 'late' });
    for (const [stage, ms] of Object.entries(stages)) {
      this.duration.observe({ stage, tier: tier.skip }, ms / 1000);
    }
  }

  /** One request that got no answer, by its error code. */
  failed(code: string): void {
    this.requests.inc({ tier: 'none', outcome: code });
  }
}
