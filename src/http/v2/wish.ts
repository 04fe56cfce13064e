import type { FastifyRequest } from 'fastify';
import { ServeError } from '../../errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import { budgetOf, isBudget, isShare, minAccuracyOf, minConfidenceOf } from '../budget.ts';
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

/** @throws {ServeError} bad-budget, bad-min-accuracy, bad-min-confidence, bad-skip */
export function wishOf(
  request: FastifyRequest,
  { parameters = {} }: InferRequest,
  manifest: Manifest,
  defaultBudgetMs: number,
): Wish {
  const asked = budget(parameters);
  return {
    budgetMs: Math.min(asked ?? Infinity, budgetOf(request, asked ?? defaultBudgetMs)),
    minAccuracy: minAccuracy(parameters) ?? minAccuracyOf(request),
    minConfidence: minConfidence(parameters) ?? minConfidenceOf(request),
    skip: skip(parameters, manifest),
  };
}

type Parameters = NonNullable<InferRequest['parameters']>;

function budget(parameters: Parameters): number | undefined {
  const { latency_budget_ms: ms, timeout } = parameters;
  if (ms !== undefined) {
    if (isBudget(ms)) return ms;
    throw new ServeError('bad-budget', `Parameter latency_budget_ms is ${JSON.stringify(ms)}.`);
  }
  // 0 is how Triton's clients say "none".
  if (timeout === undefined || timeout === 0) return undefined;
  const fromTimeout = typeof timeout === 'number' ? timeout / 1000 : timeout;
  if (isBudget(fromTimeout)) return fromTimeout;
  throw new ServeError('bad-budget', `Parameter timeout (in us) is ${JSON.stringify(timeout)}.`);
}

function minAccuracy({ min_accuracy: floor }: Parameters): number | undefined {
  if (floor === undefined || isShare(floor)) return floor;
  throw new ServeError('bad-min-accuracy', `Parameter min_accuracy is ${JSON.stringify(floor)}.`);
}

function minConfidence({ min_confidence: wanted }: Parameters): number | undefined {
  if (wanted === undefined || isShare(wanted)) return wanted;
  const detail = `Parameter min_confidence is ${JSON.stringify(wanted)}.`;
  throw new ServeError('bad-min-confidence', detail);
}

function skip({ skip: pinned }: Parameters, manifest: Manifest): string | undefined {
  if (pinned === undefined) return undefined;
  const known = manifest.subNetworks.find((candidate) => candidate.skip === pinned);
  if (known) return known.skip;
  throw new ServeError('bad-skip', `Parameter skip is ${JSON.stringify(pinned).slice(0, 60)}.`);
}
