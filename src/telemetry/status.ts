import type { Manifest } from '../model/manifest.ts';
import { MeasuredLatency } from '../scheduler/latency.ts';
import type { Tier } from '../scheduler/policy.ts';

/**
 * Where the service is in its life. `recovering`: the last inference failed or no engine works, and
 * whether that passes is being found out; work is taken as long as one engine can do it.
 */
export type State = 'starting' | 'ready' | 'recovering' | 'draining' | 'failed';

/** What became of the last attempt to serve another version of the model. */
export interface Update {
  /** Null when there was no telling. */
  readonly version: string | null;
  readonly result: 'updated' | 'rejected';
}

/** What the scheduler expects now of a batch of so many images. */
export interface Prediction {
  readonly tier: Tier;
  readonly batch: number;
  /** 95th percentile, ms. */
  readonly ms: number;
  /** ms that it typically occupies an engine. */
  readonly busyMs: number;
}

/** A tier in use. */
export interface ServedTier extends Tier {
  /** The budget that is enough for it when nothing else waits. */
  readonly budgetMs: number;
}

/** One version of the model at work, at one moment. */
export interface DeploymentStatus {
  readonly manifest: Manifest;
  /** Execution provider; null before the warm-up is over. */
  readonly provider: string | null;
  /** Why it is not the one that was wanted; null: it is. */
  readonly fallback: string | null;
  /** Engine workers that can run a batch. */
  readonly engines: number;
  /** Images that are admitted and do not run yet. */
  readonly waiting: number;
  /** How long the oldest of the decoded ones has waited. */
  readonly oldestAgeMs: number;
  /** The measured Pareto front, cheapest first. */
  readonly tiers: readonly ServedTier[];
  readonly latency: Pick<
    MeasuredLatency,
    'table' | 'present' | 'slowdown' | 'spread' | 'delay' | 'holdUp'
  >;
  /** Median of decoding an image. */
  readonly decodeMs: number;
  /** For every tier in use and measured batch size. */
  predictions(): readonly Prediction[];
}

/** The service at one moment: what `/model`, load reports, v2 and the gauges tell of it. */
export interface ServiceStatus {
  readonly state: State;
  readonly update: Update | null;
  /** The version that serves, or will. */
  readonly deployment: DeploymentStatus;
}

/** A version whose warm-up is not over. */
export function notWarm(manifest: Manifest): DeploymentStatus {
  return {
    manifest,
    provider: null,
    fallback: null,
    engines: 0,
    waiting: 0,
    oldestAgeMs: 0,
    tiers: [],
    latency: new MeasuredLatency({}),
    decodeMs: 0,
    predictions: () => [],
  };
}
