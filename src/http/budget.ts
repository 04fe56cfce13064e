import type { IncomingHttpHeaders } from 'node:http';
import { ServeError } from '../errors.ts';

/** What has headers, or metadata of gRPC with the same names. */
export interface Headed {
  readonly headers: IncomingHttpHeaders;
}

const LONGEST_MS = 3_600_000;

export function isBudget(ms: unknown): ms is number {
  return typeof ms === 'number' && ms > 0 && ms <= LONGEST_MS;
}

/** An accuracy or a confidence: 0 to 1. */
export function isShare(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 1;
}

/**
 * The caller's latency budget in ms, for the whole stay in the service.
 *
 * @throws {ServeError} bad-budget
 */
export function budgetOf(request: Headed, fallbackMs: number): number {
  const header = request.headers['x-latency-budget-ms'];
  if (header === undefined) return fallbackMs;
  const budget = decimal(header);
  if (isBudget(budget)) return budget;
  throw new ServeError('bad-budget', `X-Latency-Budget-Ms is ${quoted(header)}.`);
}

/**
 * The lowest accuracy that the caller accepts, 0 to 1.
 *
 * @throws {ServeError} bad-min-accuracy
 */
export function minAccuracyOf(request: Headed): number {
  const header = request.headers['x-min-accuracy'];
  if (header === undefined) return 0;
  const accuracy = decimal(header);
  if (isShare(accuracy)) return accuracy;
  throw new ServeError('bad-min-accuracy', `X-Min-Accuracy is ${quoted(header)}.`);
}

/**
 * How sure the caller wants an answer to be, 0 to 1: deeper sub-networks look until it is, as far
 * as the budget allows.
 *
 * @throws {ServeError} bad-min-confidence
 */
export function minConfidenceOf(request: Headed): number | undefined {
  const header = request.headers['x-min-confidence'];
  if (header === undefined) return undefined;
  const confidence = decimal(header);
  if (isShare(confidence)) return confidence;
  throw new ServeError('bad-min-confidence', `X-Min-Confidence is ${quoted(header)}.`);
}

/** Plain decimals only; NaN for everything else, and for headers sent twice. */
function decimal(header: string | string[]): number {
  return typeof header === 'string' && /^\d+(\.\d+)?$/.test(header) ? Number(header) : NaN;
}

function quoted(header: string | string[]): string {
  return JSON.stringify(String(header).slice(0, 40));
}
