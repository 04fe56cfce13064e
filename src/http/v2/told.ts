/** Errors in the protocol's terms and form, for REST and gRPC. */
import { ServeError } from '../../errors.ts';
import type { ErrorCode } from '../../errors.ts';
import { toServeError } from '../problem.ts';

/** Where the common advice speaks of what only /classify has. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  'accuracy-unavailable': 'Lower min_accuracy; GET /model lists the accuracies.',
};

/** An error with the advice that callers of this protocol can follow. */
export function inProtocol(error: unknown): unknown {
  const known = toServeError(error);
  const advice = ADVICE[known.code];
  if (advice !== undefined) return known.advising(advice);
  // What was thrown is kept where it is a fault: its stack is worth a line in the log.
  return error instanceof ServeError ? known : error;
}

/** The protocol has one sentence; what others say in members of their own is added. */
export function sentence(error: ServeError): string {
  const extra = Object.entries(error.extra).map(([name, value]) => ` ${name}: ${value}.`);
  return `${error.code}: ${error.explanation}${extra.join('')}`;
}
