import { ServeError } from '../../errors.ts';
import type { ErrorCode } from '../../errors.ts';
import { isRanked } from '../../model/ladder.ts';
import type { Manifest } from '../../model/manifest.ts';
import { budgetOf, isBudget, isShare, minAccuracyOf, minConfidenceOf } from '../budget.ts';
import type { Headed } from '../budget.ts';
import type { InferRequest } from './schemas.ts';

/**
 * What a request's `parameters` ask for. Headers of /classify count where they say nothing; of two
 * budgets the smaller one, since the head's may have been refused before the body was read.
 */
export interface Wish {
  readonly budgetMs: number;
  readonly minAccuracy: number;
  readonly minConfidence: number | undefined;
  readonly skip: string | undefined;
}

/** What the head of a request asks for: headers, or deadline and metadata of gRPC. */
export type HeadWish = Partial<Pick<Wish, 'budgetMs' | 'minAccuracy' | 'minConfidence'>>;

/** @throws {ServeError} bad-budget, bad-min-accuracy, bad-min-confidence */
export function headWishOf(request: Headed): HeadWish {
  const { headers } = request;
  return {
    ...('x-latency-budget-ms' in headers && { budgetMs: budgetOf(request, 0) }),
    ...('x-min-accuracy' in headers && { minAccuracy: minAccuracyOf(request) }),
    ...('x-min-confidence' in headers && { minConfidence: minConfidenceOf(request) }),
  };
}

/** @throws {ServeError} bad-budget, bad-min-accuracy, bad-min-confidence, bad-skip */
export function wishOf(
  head: HeadWish,
  { parameters = {} }: InferRequest,
  manifest: Manifest,
  defaultBudgetMs: number,
): Wish {
  const asked = budget(parameters);
  return {
    budgetMs: Math.min(asked ?? Infinity, head.budgetMs ?? asked ?? defaultBudgetMs),
    minAccuracy: minAccuracy(parameters) ?? head.minAccuracy ?? 0,
    minConfidence: minConfidence(parameters) ?? head.minConfidence,
    skip: skip(parameters, manifest),
  };
}

const BUDGET_ADVICE =
  'Send a number above 0 and at most an hour: timeout in microseconds, or latency_budget_ms in ms.';

/** Of a value that is wrong, what it is and, for its type is easily overlooked, that it is text. */
export function shown(value: unknown): string {
  const text = (JSON.stringify(value) ?? String(value)).slice(0, 60);
  return typeof value === 'string' ? `the text ${text}` : text;
}

function badBudget(what: string, value: unknown): ServeError {
  const detail = `Parameter ${what} is ${shown(value)}.`;
  return new ServeError('bad-budget', detail, {}, undefined, { advice: BUDGET_ADVICE });
}

function badShare(code: ErrorCode, name: string, value: unknown): ServeError {
  const advice = 'Send a number from 0 to 1.';
  return new ServeError(code, `Parameter ${name} is ${shown(value)}.`, {}, undefined, { advice });
}

type Parameters = NonNullable<InferRequest['parameters']>;

function budget(parameters: Parameters): number | undefined {
  const { latency_budget_ms: ms, timeout } = parameters;
  if (ms !== undefined) {
    if (isBudget(ms)) return ms;
    throw badBudget('latency_budget_ms', ms);
  }
  // 0 is how Triton's clients say "none".
  if (timeout === undefined || timeout === 0) return undefined;
  const fromTimeout = typeof timeout === 'number' ? timeout / 1000 : timeout;
  if (isBudget(fromTimeout)) return fromTimeout;
  throw badBudget('timeout', timeout);
}

function minAccuracy({ min_accuracy: floor }: Parameters): number | undefined {
  if (floor === undefined || isShare(floor)) return floor;
  throw badShare('bad-min-accuracy', 'min_accuracy', floor);
}

function minConfidence({ min_confidence: wanted }: Parameters): number | undefined {
  if (wanted === undefined || isShare(wanted)) return wanted;
  throw badShare('bad-min-confidence', 'min_confidence', wanted);
}

function skip({ skip: pinned }: Parameters, manifest: Manifest): string | undefined {
  if (pinned === undefined) return undefined;
  const known = manifest.subNetworks.find((candidate) => candidate.skip === pinned);
  if (!known) throw new ServeError('bad-skip', `Parameter skip is ${shown(pinned)}.`);
  if (isRanked(manifest, known.skip)) return known.skip;
  const detail = `The manifest does not say how accurate ${known.skip} is, so it is not served.`;
  throw new ServeError('bad-skip', detail);
}
