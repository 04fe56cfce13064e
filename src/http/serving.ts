import { performance } from 'node:perf_hooks';
import type { FastifyRequest } from 'fastify';
import type { Deployment } from '../deployment.ts';
import type { ErrorCode } from '../errors.ts';
import type { Service } from '../service.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The version of the model that this request is judged and answered by. */
    deployment: Deployment | null;
  }
}

/**
 * Takes the version that serves now for a request that has just arrived, and keeps it until the
 * answer is out: a body may still be under way when another version is served.
 *
 * @throws {ServeError} starting, draining, engine-failed
 */
export function serveBy(service: Service, request: FastifyRequest): Deployment {
  const deployment = service.serving();
  request.deployment = deployment;
  request.atClose.push(deployment.hold());
  return deployment;
}

/** Records that a request gets no answer from the version that it was taken by, if any. */
export function recordUnanswered(service: Service, request: FastifyRequest, code: ErrorCode): void {
  service.recorder.unanswered({
    code,
    manifest: request.deployment?.manifest ?? service.manifest,
    totalMs: performance.now() - request.arrivedAt,
  });
}
