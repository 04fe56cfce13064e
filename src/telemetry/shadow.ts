import { performance } from 'node:perf_hooks';
import { InferenceEngine } from '../engine/engine.ts';
import type { EngineOptions } from '../engine/engine.ts';
import type { EngineError } from '../engine/protocol.ts';
import { superNetOf } from '../model/ladder.ts';
import { argmax } from '../model/logits.ts';
import type { Tier } from '../scheduler/policy.ts';
import type { Served } from '../scheduler/scheduler.ts';

/** A shallow answer that may be checked. */
interface Candidate {
  readonly pixels: Uint8Array;
  readonly answer: Pick<Served<Float32Array>, 'tier' | 'output'>;
}

export interface ShadowOptions {
  readonly superNet: Tier;
  /** Whether the serving engines have nothing to do. */
  readonly idle: () => boolean;
  /** Asks the super-net; returns the index of the most probable class. */
  readonly ask: (pixels: Uint8Array) => Promise<number>;
  /** `ms` and `macs` are what the check cost. */
  readonly onChecked: (tier: Tier, agrees: boolean, ms: number, macs: number) => void;
  /** ms */
  readonly now: () => number;
}

/** What `Shadow.start` needs besides an engine. */
export interface ShadowStart extends Pick<ShadowOptions, 'idle' | 'onChecked'> {
  readonly perMinute: number;
  /** Told once: nothing is checked any more. */
  readonly onLost: (error: EngineError) => void;
}

/**
 * Live accuracy without labels: shows the super-net some of the images that shallower
 * sub-networks answered, and counts how often it agrees. One image at a time, only while the
 * serving engines are idle, and one candidate per tier is all that is kept.
 */
export class Shadow {
  /** The latest answer of each shallow tier, by skip flags. */
  readonly #candidates = new Map<string, Candidate>();
  readonly #checks = new Map<string, number>();
  #checking: Promise<void> | null = null;
  #stop: () => Promise<void> = async () => {};

  constructor(private readonly options: ShadowOptions) {}

  /**
   * Checks now and then, on an engine that is not one of those that serve, since a started run
   * cannot be cancelled. Its thread has the lowest priority: a request that arrives in the middle
   * of a check gets its engine and its core at once.
   *
   * @throws {EngineError} when no session can be created.
   */
  static async start(
    engineOptions: EngineOptions,
    tiers: readonly Tier[],
    { perMinute, idle, onChecked, onLost }: ShadowStart,
  ): Promise<Shadow> {
    const superNet = superNetOf(tiers);
    let timer: NodeJS.Timeout | undefined;
    let isLost = false;
    const lose = (error: EngineError) => {
      clearInterval(timer);
      if (!isLost) onLost(error);
      isLost = true;
    };
    const engine = await InferenceEngine.start(
      { ...engineOptions, workers: 1, intraOpThreads: 1, background: true },
      { failed: lose },
    );
    const shadow = new Shadow({
      superNet,
      idle,
      ask: async (pixels) => argmax((await engine.run(0, superNet, [pixels])).outputs[0]!),
      onChecked,
      now: () => performance.now(),
    });
    timer = setInterval(() => {
      // A thread that is lost said so itself; one whose run failed lives on, and nobody watches it.
      shadow.check().catch(lose);
    }, 60_000 / perMinute).unref();
    shadow.#stop = async () => {
      clearInterval(timer);
      // Releasing a session in use aborts the process.
      await shadow.#checking?.catch(() => {});
      await engine.release();
    };
    return shadow;
  }

  offer(pixels: Uint8Array, answer: Candidate['answer']): void {
    const { skip } = answer.tier;
    if (skip !== this.options.superNet.skip) this.#candidates.set(skip, { pixels, answer });
  }

  /** Checks one candidate if nothing else is to be done. */
  async check(): Promise<void> {
    if (this.#checking || !this.options.idle()) return;
    const candidate = this.#next();
    if (!candidate) return;
    this.#checking = this.#check(candidate).finally(() => {
      this.#checking = null;
    });
    await this.#checking;
  }

  /** Waits for the check under way, and releases the engine. */
  async close(): Promise<void> {
    await this.#stop();
  }

  /** Of the tiers that have a candidate, the one checked least: rare tiers are worth knowing. */
  #next(): Candidate | undefined {
    const checks = ({ answer }: Candidate) => this.#checks.get(answer.tier.skip) ?? 0;
    return [...this.#candidates.values()].sort((a, b) => checks(a) - checks(b))[0];
  }

  async #check({ pixels, answer: { tier, output } }: Candidate): Promise<void> {
    const { ask, onChecked, now, superNet } = this.options;
    this.#candidates.delete(tier.skip);
    this.#checks.set(tier.skip, (this.#checks.get(tier.skip) ?? 0) + 1);
    const started = now();
    const predicted = await ask(pixels);
    onChecked(tier, predicted === argmax(output), now() - started, superNet.macs);
  }
}
