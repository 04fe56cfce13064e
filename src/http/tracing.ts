import type { FastifyRequest } from 'fastify';
import { beginTrace } from '../tracing/trace.ts';
import type { Tracing } from '../tracing/trace.ts';

/** Begins a request's span; its log lines carry the ids from here on. */
export function traceRequest(tracing: Tracing | null, request: FastifyRequest): void {
  const { method, headers, arrivedAt, routeOptions } = request;
  const route = routeOptions.url ?? '';
  const { trace, ids } = beginTrace(
    tracing,
    headers.traceparent,
    `${method} ${route}`,
    { 'http.request.method': method, 'http.route': route, 'depthserve.request_id': request.id },
    arrivedAt,
  );
  request.trace = trace;
  if (ids) request.log = request.log.child(ids);
}

/** @param status null: the client went away before the answer. */
export function endTrace(
  request: FastifyRequest,
  status: number | null,
  subNetwork?: unknown,
): void {
  const { trace, outcome } = request;
  trace?.end({
    outcome,
    isFault: status !== null && status >= 500,
    ...(typeof subNetwork === 'string' && { subNetwork }),
    ...(status !== null && { attributes: { 'http.response.status_code': status } }),
  });
  request.trace = null;
}
