import type { Tier } from './scheduler/policy.ts';

/** A shallow answer that may be checked. */
interface Candidate {
  readonly tier: Tier;
  readonly pixels: Uint8Array;
  /** Index of the most probable class. */
  readonly predicted: number;
}

export interface ShadowOptions {
  readonly superNet: Tier;
  /** Whether the serving engines have nothing to do. */
  readonly idle: () => boolean;
  /** Asks the super-net; returns the index of the most probable class. */
  readonly ask: (pixels: Uint8Array) => Promise<number>;
  readonly onChecked: (tier: Tier, agrees: boolean, ms: number) => void;
  /** ms */
  readonly now: () => number;
}

/** The most probable class. */
export function argmax(logits: Float32Array): number {
  return logits.reduce((best, logit, index) => (logit > logits[best]! ? index : best), 0);
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

  constructor(private readonly options: ShadowOptions) {}

  offer(candidate: Candidate): void {
    const { skip } = candidate.tier;
    if (skip !== this.options.superNet.skip) this.#candidates.set(skip, candidate);
  }

  /** Checks one candidate if nothing else is to be done; called now and then. */
  async check(): Promise<void> {
    if (this.#checking || !this.options.idle()) return;
    const candidate = this.#next();
    if (!candidate) return;
    this.#checking = this.#check(candidate).finally(() => {
      this.#checking = null;
    });
    await this.#checking;
  }

  /** Resolves when no check is under way. */
  async settled(): Promise<void> {
    await this.#checking?.catch(() => {});
  }

  /** Of the tiers that have a candidate, the one checked least: rare tiers are worth knowing. */
  #next(): Candidate | undefined {
    const checks = ({ tier }: Candidate) => this.#checks.get(tier.skip) ?? 0;
    return [...this.#candidates.values()].sort((a, b) => checks(a) - checks(b))[0];
  }

  async #check(candidate: Candidate): Promise<void> {
    const { ask, onChecked, now } = this.options;
    const { skip } = candidate.tier;
    this.#candidates.delete(skip);
    this.#checks.set(skip, (this.#checks.get(skip) ?? 0) + 1);
    const started = now();
    const predicted = await ask(candidate.pixels);
    onChecked(candidate.tier, predicted === candidate.predicted, now() - started);
  }
}
