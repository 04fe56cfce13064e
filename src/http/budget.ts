import type { IncomingHttpHeaders } from 'node:http';
import { ServeError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

/** A number that a caller may ask for, in the head or in a parameter of v2. */
export interface Target {
  readonly header: string;
  readonly code: ErrorCode;
  /** Where the parameter is wrong; where the header is, the code's own fits. */
  readonly advice: string;
  readonly isValid: (value: unknown) => value is number;
}

const LONGEST_MS = 3_600_000;

function isBudget(ms: unknown): ms is number {
  return typeof ms === 'number' && ms > 0 && ms <= LONGEST_MS;
}

/** An accuracy or a confidence: 0 to 1. */
function isShare(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 1;
}

export const BUDGET: Target = {
  header: 'X-Latency-Budget-Ms',
  code: 'bad-budget',
  advice:
    'Send a number above 0 and at most an hour: timeout in microseconds, or latency_budget_ms in ms.',
  isValid: isBudget,
};

const share = (header: string, code: ErrorCode): Target => {
  return { header, code, advice: 'Send a number from 0 to 1.', isValid: isShare };
};
export const MIN_ACCURACY = share('X-Min-Accuracy', 'bad-min-accuracy');
export const MIN_CONFIDENCE = share('X-Min-Confidence', 'bad-min-confidence');

/** What the head of a request asks for: headers, or deadline and metadata of gRPC. */
export interface HeadRequirements {
  /** For the whole stay in the service. */
  readonly budgetMs?: number | undefined;
  /** The lowest accuracy that the caller accepts, 0 to 1. */
  readonly minAccuracy?: number | undefined;
  /**
   * How sure the caller wants an answer to be, 0 to 1: deeper sub-networks look until it is, as far
   * as the budget allows.
   */
  readonly minConfidence?: number | undefined;
}

/**
 * @param headers or metadata of gRPC with the same names.
 * @throws {ServeError} bad-budget, bad-min-accuracy, bad-min-confidence
 */
export function headRequirementsOf(headers: IncomingHttpHeaders): HeadRequirements {
  return {
    budgetMs: read(BUDGET, headers['x-latency-budget-ms']),
    minAccuracy: read(MIN_ACCURACY, headers['x-min-accuracy']),
    minConfidence: read(MIN_CONFIDENCE, headers['x-min-confidence']),
  };
}

function read(target: Target, value: string | string[] | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = decimal(value);
  if (target.isValid(number)) return number;
  const shown = JSON.stringify(String(value).slice(0, 40));
  throw new ServeError(target.code, `${target.header} is ${shown}.`);
}

/** Plain decimals only; NaN for everything else, and for headers sent twice. */
function decimal(header: string | string[]): number {
  return typeof header === 'string' && /^\d+(\.\d+)?$/.test(header) ? Number(header) : NaN;
}
