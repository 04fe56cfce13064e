import type { ErrorCode } from '../errors.ts';
import type { Classified } from '../deployment.ts';
import type { Manifest } from '../model/manifest.ts';
import type { Service } from '../service.ts';
import { Recent } from './recent.ts';
import { Statistics } from './v2/statistics.ts';

/** Of a request, for its log line: met, late, or an error's code. */
export interface Outcome {
  outcome: 'met' | 'late' | ErrorCode | null;
}

/** Told what became of every request, whatever its protocol; passes it to all who count. */
export class Ledger {
  readonly recent = new Recent();
  /** By the version that they are about. */
  readonly #statistics = new WeakMap<Manifest, Statistics>();

  constructor(private readonly service: Service) {}

  /**
   * One request answered.
   *
   * @param ids of its images.
   * @param totalMs for all of them.
   */
  answered(
    request: Outcome,
    ids: readonly string[],
    results: readonly Classified[],
    budgetMs: number,
    totalMs: number,
  ): void {
    const met = totalMs <= budgetMs;
    request.outcome = met ? 'met' : 'late';
    results.forEach((result, index) => {
      this.service.answered(ids[index]!, result, budgetMs, totalMs);
    });
    this.recent.answered(results, budgetMs, totalMs);
    this.statisticsOf(results[0]!.manifest).answered(results, totalMs);
  }

  /** One request that got no answer, by its error code. */
  failed(code: ErrorCode, ms: number): void {
    this.service.metrics.failed(code);
    this.recent.failed(code);
    this.statisticsOf(this.service.manifest).failed(ms);
  }

  /** Since the server started, or began to serve this version. */
  statisticsOf(manifest: Manifest): Statistics {
    let statistics = this.#statistics.get(manifest);
    if (!statistics) this.#statistics.set(manifest, (statistics = new Statistics()));
    return statistics;
  }
}
