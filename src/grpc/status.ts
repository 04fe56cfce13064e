import { Metadata, status } from '@grpc/grpc-js';
import type { StatusObject } from '@grpc/grpc-js';
import { sentenceOf } from '../errors.ts';
import type { ErrorCode, ServeError } from '../errors.ts';

/** By code, where the status of HTTP does not say it all. */
const BY_CODE: Partial<Record<ErrorCode, status>> = {
  'not-offered': status.UNIMPLEMENTED,
  // No retry would help, as it would with UNAVAILABLE.
  'budget-too-small': status.DEADLINE_EXCEEDED,
};

const BY_HTTP: Readonly<Record<number, status>> = {
  401: status.UNAUTHENTICATED,
  404: status.NOT_FOUND,
  408: status.DEADLINE_EXCEEDED,
  429: status.RESOURCE_EXHAUSTED,
  499: status.CANCELLED,
  500: status.INTERNAL,
  503: status.UNAVAILABLE,
  504: status.DEADLINE_EXCEEDED,
};

/**
 * The status of an error: its sentence, and in the trailers what HTTP has in headers and members:
 * `depthserve-code`, `smallest-budget-ms`, and `grpc-retry-pushback-ms`, which clients that retry by
 * themselves wait for.
 */
export function grpcStatus(error: ServeError): StatusObject {
  const metadata = new Metadata();
  metadata.set('depthserve-code', error.code);
  const { smallestBudgetMs } = error.extra;
  if (smallestBudgetMs !== undefined) metadata.set('smallest-budget-ms', String(smallestBudgetMs));
  const code = BY_CODE[error.code] ?? BY_HTTP[error.status] ?? status.INVALID_ARGUMENT;
  if (error.retryAfterMs !== undefined && code !== status.DEADLINE_EXCEEDED) {
    metadata.set('grpc-retry-pushback-ms', String(Math.ceil(error.retryAfterMs)));
  }
  return { code, details: sentenceOf(error), metadata };
}
