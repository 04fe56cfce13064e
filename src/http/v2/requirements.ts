import { ServeError } from '../../errors.ts';
import { isRanked } from '../../model/ladder.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { ImageRequest } from '../../pipeline/pipeline.ts';
import { BUDGET, MIN_ACCURACY, MIN_CONFIDENCE } from '../budget.ts';
import type { HeadRequirements, Target } from '../budget.ts';
import type { InferRequest } from './schemas.ts';

/**
 * What a request's `parameters` ask for. Headers of /classify count where they say nothing; of two
 * budgets the smaller one, since the head's may have been refused before the body was read.
 */
type Requirements = Pick<ImageRequest, 'budgetMs' | 'minAccuracy' | 'minConfidence' | 'skip'>;

/** @throws {ServeError} bad-budget, bad-min-accuracy, bad-min-confidence, bad-skip */
export function requirementsOf(
  head: HeadRequirements,
  { parameters = {} }: InferRequest,
  manifest: Manifest,
  defaultBudgetMs: number,
): Requirements {
  const asked =
    read(BUDGET, parameters, 'latency_budget_ms') ??
    // 0 is how Triton's clients say "none".
    (parameters['timeout'] === 0 ? undefined : read(BUDGET, parameters, 'timeout', 1000));
  return {
    budgetMs: Math.min(asked ?? Infinity, head.budgetMs ?? asked ?? defaultBudgetMs),
    minAccuracy: read(MIN_ACCURACY, parameters, 'min_accuracy') ?? head.minAccuracy ?? 0,
    minConfidence: read(MIN_CONFIDENCE, parameters, 'min_confidence') ?? head.minConfidence,
    skip: skip(parameters, manifest),
  };
}

/** Of a value that is wrong, what it is and, for its type is easily overlooked, that it is text. */
export function shown(value: unknown): string {
  const text = (JSON.stringify(value) ?? String(value)).slice(0, 60);
  return typeof value === 'string' ? `the text ${text}` : text;
}

type Parameters = NonNullable<InferRequest['parameters']>;

/** @param divisor from the parameter's unit to the target's. */
function read(
  { code, advice, isValid }: Target,
  parameters: Parameters,
  name: string,
  divisor = 1,
): number | undefined {
  const given = parameters[name];
  const value = typeof given === 'number' ? given / divisor : given;
  if (value === undefined || isValid(value)) return value;
  throw new ServeError(code, `Parameter ${name} is ${shown(given)}.`, { advice });
}

function skip({ skip: pinned }: Parameters, manifest: Manifest): string | undefined {
  if (pinned === undefined) return undefined;
  const known = manifest.subNetworks.find((candidate) => candidate.skip === pinned);
  if (!known) throw new ServeError('bad-skip', `Parameter skip is ${shown(pinned)}.`);
  if (isRanked(manifest, known.skip)) return known.skip;
  const detail = `The manifest does not say how accurate ${known.skip} is, so it is not served.`;
  throw new ServeError('bad-skip', detail);
}
