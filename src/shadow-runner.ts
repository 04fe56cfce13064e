import { performance } from 'node:perf_hooks';
import { InferenceEngine } from './engine/engine.ts';
import type { EngineOptions } from './engine/engine.ts';
import type { EngineError } from './engine/protocol.ts';
import { superNetOf } from './model/ladder.ts';
import type { Tier } from './scheduler/policy.ts';
import type { Served } from './scheduler/scheduler.ts';
import { Shadow, argmax } from './shadow.ts';

export interface ShadowRunnerOptions {
  readonly perMinute: number;
  /** Whether the serving engines have nothing to do. */
  readonly idle: () => boolean;
  /** `ms` and `macs` are what the check cost. */
  readonly onChecked: (tier: Tier, agrees: boolean, ms: number, macs: number) => void;
  readonly onLost: (error: EngineError) => void;
}

/**
 * Gives `Shadow` an engine and a clock. The engine is not one of those that serve, since a started
 * run cannot be cancelled, and its thread has the lowest priority: a request that arrives in the
 * middle of a check gets its engine and its core at once.
 */
export class ShadowRunner {
  readonly #timer: NodeJS.Timeout;

  private constructor(
    private readonly shadow: Shadow,
    private readonly engine: InferenceEngine,
    perMinute: number,
  ) {
    this.#timer = setInterval(() => {
      // A lost engine is reported through `onLost`.
      shadow.check().catch(() => clearInterval(this.#timer));
    }, 60_000 / perMinute).unref();
  }

  /** @throws {EngineError} when no session can be created. */
  static async start(
    engineOptions: EngineOptions,
    tiers: readonly Tier[],
    { perMinute, idle, onChecked, onLost }: ShadowRunnerOptions,
  ): Promise<ShadowRunner> {
    const superNet = superNetOf(tiers);
    const engine = await InferenceEngine.start(
      { ...engineOptions, workers: 1, intraOpThreads: 1, background: true },
      { failed: onLost },
    );
    const shadow = new Shadow({
      superNet,
      idle,
      ask: async (pixels) => argmax((await engine.run(0, superNet, [pixels])).outputs[0]!),
      onChecked: (tier, agrees, ms) => onChecked(tier, agrees, ms, superNet.macs),
      now: () => performance.now(),
    });
    return new ShadowRunner(shadow, engine, perMinute);
  }

  offer(pixels: Uint8Array, { tier, output }: Served<Float32Array>): void {
    this.shadow.offer({ tier, pixels, predicted: argmax(output) });
  }

  /** Waits for the check under way: releasing a session in use aborts the process. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.shadow.settled();
    await this.engine.release();
  }
}
