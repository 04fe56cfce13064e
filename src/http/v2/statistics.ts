import type { Manifest } from '../../model/manifest.ts';
import type { Classified } from '../../deployment.ts';
import type { ModelStatistics } from './schemas.ts';

type Stats = ModelStatistics['model_stats'][number];

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

/** What the statistics extension of the protocol reports of one version. */
export class Statistics {
  #lastInference = 0;
  #images = 0;
  readonly #success = new Total();
  readonly #fail = new Total();
  readonly #queue = new Total();
  readonly #decode = new Total();
  readonly #inference = new Total();
  readonly #batches = new Map<number, Total>();

  /** One request answered; `totalMs` for all its images. */
  answered(results: readonly Classified[], totalMs: number): void {
    this.#lastInference = Date.now();
    this.#images += results.length;
    this.#success.add(totalMs);
    for (const { batchSize, decodeMs, queueMs, inferenceMs } of results) {
      this.#queue.add(queueMs);
      this.#decode.add(decodeMs);
      // Each image of a batch reports the whole batch's time.
      this.#inference.add(inferenceMs / batchSize);
      const batch = this.#batches.get(batchSize) ?? new Total();
      this.#batches.set(batchSize, batch);
      batch.add(inferenceMs / batchSize, 1 / batchSize);
    }
  }

  failed(ms: number): void {
    this.#fail.add(ms);
  }

  report({ name, version }: Manifest): Stats {
    const sizes = [...this.#batches].sort(([a], [b]) => a - b);
    const batchStats = sizes.map(([size, total]) => ({
      batch_size: size,
      compute_input: NOTHING,
      compute_infer: total.json,
      compute_output: NOTHING,
    }));
    return {
      name,
      version,
      last_inference: this.#lastInference,
      inference_count: this.#images,
      execution_count: batchStats.reduce((sum, batch) => sum + batch.compute_infer.count, 0),
      inference_stats: {
        success: this.#success.json,
        fail: this.#fail.json,
        queue: this.#queue.json,
        compute_input: this.#decode.json,
        compute_infer: this.#inference.json,
        compute_output: NOTHING,
      },
      batch_stats: batchStats,
    };
  }
}
