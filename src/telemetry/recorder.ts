import type { ErrorCode } from '../errors.ts';
import type { Manifest } from '../model/manifest.ts';
import type { ImageAnswer } from '../pipeline/pipeline.ts';
import type { Tier } from '../scheduler/policy.ts';

/** One image's answer, and the model version that gave it. */
export interface Classified extends ImageAnswer<Float32Array> {
  readonly manifest: Manifest;
  /** The most accurate tier of that version. */
  readonly best: Tier;
}

/** A request whose images are all answered. */
export interface Answered {
  /** One for each image. */
  readonly ids: readonly string[];
  readonly images: readonly Classified[];
  /** The caller named the sub-network: it was no choice of the service. */
  readonly isPinned: boolean;
  readonly budgetMs: number;
  /** ms from the arrival of the request's head until now. */
  readonly totalMs: number;
}

/** A request without an answer: refused, expired, cancelled or failed, as the code says. */
export interface Unanswered {
  readonly code: ErrorCode;
  /** Of the version that would have answered. */
  readonly manifest: Manifest;
  /** ms from the arrival of the request's head until now. */
  readonly totalMs: number;
}

export type AnsweredOutcome = Answered & { readonly kind: 'answered'; readonly isMet: boolean };

/** What became of one request. */
export type Outcome = AnsweredOutcome | (Unanswered & { readonly kind: 'unanswered' });

/** Counts, remembers or reports outcomes. */
export interface Subscriber {
  record(outcome: Outcome): void;
}

/** Whether an answer leaves within its budget. */
export const isInTime = ({ totalMs, budgetMs }: Pick<Answered, 'totalMs' | 'budgetMs'>): boolean =>
  totalMs <= budgetMs;

/** Longest that an outcome waits for others, in ms. */
const GATHER_MS = 100;
/** So many are passed on at once. */
const MAX_GATHERED = 64;

/**
 * Told once what became of each request, whatever its protocol; tells all subscribers. Outcomes
 * are gathered: to count a dozen in a row costs a fraction of counting each between two requests,
 * when none of the code is in the processor's cache.
 */
export class Recorder {
  readonly #subscribers: readonly Subscriber[];
  readonly #gathered: Outcome[] = [];

  constructor(...subscribers: readonly Subscriber[]) {
    this.#subscribers = subscribers;
  }

  /** To be called when the answer is about to leave. @returns whether the budget is met. */
  answered(request: Answered): 'met' | 'late' {
    const isMet = isInTime(request);
    this.#record({ kind: 'answered', isMet, ...request });
    return isMet ? 'met' : 'late';
  }

  unanswered(request: Unanswered): void {
    this.#record({ kind: 'unanswered', ...request });
  }

  /** Passes on what was gathered; to be called before subscribers are asked for what they know. */
  flush(): void {
    for (const outcome of this.#gathered.splice(0)) {
      for (const subscriber of this.#subscribers) subscriber.record(outcome);
    }
  }

  #record(outcome: Outcome): void {
    const count = this.#gathered.push(outcome);
    if (count === 1) setTimeout(() => this.flush(), GATHER_MS).unref();
    if (count === MAX_GATHERED) this.flush();
  }
}
