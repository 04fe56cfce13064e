import type { FastifyRequest } from 'fastify';
import type { Metrics } from '../metrics.ts';
import type { Classified } from '../service.ts';
import { Recent } from './recent.ts';
import { Statistics } from './v2/statistics.ts';

/** Told what became of every request, whatever its protocol; passes it to all who count. */
export class Ledger {
  readonly recent = new Recent();
  readonly statistics = new Statistics();

  constructor(private readonly metrics: Metrics) {}

  /** One request answered; `totalMs` for all its images. */
  answered(
    request: FastifyRequest,
    results: readonly Classified[],
    budgetMs: number,
    totalMs: number,
  ): void {
    const met = totalMs <= budgetMs;
    request.outcome = met ? 'met' : 'late';
    for (const { tier, decodeMs, queueMs, inferenceMs } of results) {
      const stages = { decode: decodeMs, queue: queueMs, inference: inferenceMs, total: totalMs };
      this.metrics.answered(tier, met, stages);
    }
    this.recent.answered(results, budgetMs, totalMs);
    this.statistics.answered(results, totalMs);
  }

  /** One request that got no answer, by its error code. */
  failed(code: string, ms: number): void {
    this.metrics.failed(code);
    this.recent.failed(code);
    this.statistics.failed(ms);
  }
}
