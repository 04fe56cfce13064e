import type { Manifest } from '../model/manifest.ts';
import type { Outcome, Subscriber } from './recorder.ts';

/** A count and a total time; Triton reports both, its clients take differences. */
class Total {
  #count = 0;
  #ms = 0;

  add(ms: number, count = 1): void {
    this.#count += count;
    this.#ms += ms;
  }

  get json() {
    return { count: Math.round(this.#count), ns: Math.round(this.#ms * 1e6) };
  }
}

const NOTHING = { count: 0, ns: 0 };

/** Totals of one version. */
class VersionTotals {
  lastInference = 0;
  images = 0;
  readonly success = new Total();
  readonly fail = new Total();
  readonly queue = new Total();
  readonly decode = new Total();
  readonly inference = new Total();
  /** By batch size. */
  readonly batches = new Map<number, Total>();

  record(outcome: Outcome): void {
    if (outcome.kind === 'unanswered') {
      this.fail.add(outcome.totalMs);
      return;
    }
    this.lastInference = Date.now();
    this.images += outcome.images.length;
    this.success.add(outcome.totalMs);
    for (const { looks, decodeMs, queueMs } of outcome.images) {
      this.queue.add(queueMs);
      this.decode.add(decodeMs);
      let inferenceMs = 0;
      // Each image of a batch reports the whole batch's time.
      for (const { batchSize, batchMs } of looks) {
        inferenceMs += batchMs / batchSize;
        const batch = this.batches.get(batchSize) ?? new Total();
        this.batches.set(batchSize, batch);
        batch.add(batchMs / batchSize, 1 / batchSize);
      }
      this.inference.add(inferenceMs);
    }
  }
}

/** What Triton's statistics extension reports: totals since the start, or since an update. */
export class TritonStatistics implements Subscriber {
  readonly #versions = new WeakMap<Manifest, VersionTotals>();

  record(outcome: Outcome): void {
    this.#of(outcome.kind === 'answered' ? outcome.images[0]!.manifest : outcome.manifest).record(
      outcome,
    );
  }

  report(manifest: Manifest) {
    const totals = this.#of(manifest);
    const sizes = [...totals.batches].sort(([a], [b]) => a - b);
    const batchStats = sizes.map(([size, total]) => ({
      batch_size: size,
      compute_input: NOTHING,
      compute_infer: total.json,
      compute_output: NOTHING,
    }));
    return {
      name: manifest.name,
      version: manifest.version,
      last_inference: totals.lastInference,
      inference_count: totals.images,
      execution_count: batchStats.reduce((sum, batch) => sum + batch.compute_infer.count, 0),
      inference_stats: {
        success: totals.success.json,
        fail: totals.fail.json,
        queue: totals.queue.json,
        compute_input: totals.decode.json,
        compute_infer: totals.inference.json,
        compute_output: NOTHING,
      },
      batch_stats: batchStats,
    };
  }

  #of(manifest: Manifest): VersionTotals {
    let totals = this.#versions.get(manifest);
    if (!totals) this.#versions.set(manifest, (totals = new VersionTotals()));
    return totals;
  }
}
