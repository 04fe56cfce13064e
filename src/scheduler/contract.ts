/** What the scheduler is told and tells: engines, clock, answers, errors. */
import type { MeasuredLatency } from './latency.ts';
import type { Look, Policy, Refusal, Tier, Waiting } from './policy.ts';

/** Monotonic time and timers; replaced by a virtual clock in tests and simulations. */
export interface Clock {
  /** ms. */
  now(): number;
  /** Calls back once at `time`; the returned function cancels. */
  at(time: number, callback: () => void): () => void;
  /** Calls back once everything that has happened up to now has been taken in. */
  soon(callback: () => void): void;
}

/** What an engine made of a batch. */
export interface Ran<Output> {
  /** One for each input, in order. */
  readonly outputs: readonly Output[];
  /** ms that the engine worked. */
  readonly workMs: number;
  /** ms that it was ready to and others had its core; what a batch takes beyond both is delay. */
  readonly waitMs?: number;
}

/** What the scheduler needs of the engine: it runs what it is given, and decides nothing. */
export interface Engine<Input, Output> {
  /** Number of batches that can run at the same time. */
  readonly workers: number;
  /** Runs `inputs` as one batch on `worker`. */
  run(worker: number, tier: Tier, inputs: readonly Input[]): Promise<Ran<Output>>;
  /** Asked after a run that failed: resolves when `worker` can take another batch. */
  recovered?(worker: number): Promise<void>;
}

/** A look and what it saw. */
export interface Looked<Output> extends Look {
  readonly output: Output;
  /** When it was through, ms on the scheduler's clock. */
  readonly at: number;
  /** Images in its batch. */
  readonly batchSize: number;
  /** What the batch took, in ms. */
  readonly batchMs: number;
}

/** An answer and how it came about: that of the last look. Times in ms, of all looks together. */
export interface Served<Output> {
  readonly output: Output;
  readonly tier: Tier;
  /** First one first. */
  readonly looks: readonly Looked<Output>[];
  readonly queueMs: number;
  readonly inferenceMs: number;
  /** Predicted at dispatch, from the request's arrival to its result. */
  readonly predictedMs: number;
}

/** Told of each batch; feeds the metrics. */
export interface SchedulerEvents {
  dispatched?(tier: Tier, batchSize: number): void;
  /** @param workMs the engine's own part of `actualMs`. */
  finished?(tier: Tier, size: number, predictedMs: number, actualMs: number, workMs: number): void;
}

/** Refused, on arrival or as soon as others had to be preferred: it would miss its deadline. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  constructor(readonly refusal: Refusal) {
    super(refusal.reason);
  }
}

/** Accepted, but became hopeless in the queue. */
export class ExpiredError extends Error {
  override readonly name = 'ExpiredError';
}

/** Called once, with the answer or with RefusedError, ExpiredError or the engine's error. */
export interface Settle<Output> {
  resolve(served: Served<Output>): void;
  reject(error: unknown): void;
}

/** A reserved place whose input is ready. */
export interface Ready<Input, Output> {
  readonly place: Waiting;
  readonly input: Input;
  readonly settle: Settle<Output>;
}

/** What an image asks of the scheduler. */
export type Requirements = Omit<Waiting, 'id'>;

/** Time in ms until an input is ready: mostly, and at most (95th percentile). */
export interface Preparation {
  readonly mostlyMs: number;
  readonly atMostMs: number;
}

export interface SchedulerOptions<Input, Output> {
  readonly policy: Policy;
  /** The measured Pareto front, cheapest first; asked for at every decision. */
  readonly tiers: () => readonly Tier[];
  readonly latency: MeasuredLatency;
  readonly engine: Engine<Input, Output>;
  readonly clock: Clock;
  readonly maxBatch: number;
  readonly events?: SchedulerEvents;
  /** A refusal as its caller is told it; absent: as the policy says it. */
  readonly told?: (refusal: Refusal) => Refusal;
  /** How sure an answer is, 0 to 1; absent: nothing is looked at again. */
  readonly confidence?: (output: Output, tier: Tier) => number;
}
