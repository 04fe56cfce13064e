import { performance } from 'node:perf_hooks';
import type { FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';
import type { Classifier } from '../deployment.ts';
import type { ErrorCode } from '../errors.ts';
import type { Manifest } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Refusal } from '../scheduler/policy.ts';
import type { Entered } from '../service.ts';
import type { Recorder } from '../telemetry/recorder.ts';
import type { Cleanup } from './cleanup.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The version of the model that this request is judged and answered by. */
    deployment: Classifier | null;
  }
}

/** What the routes that classify need of the service: it may be on another thread. */
export interface Serving {
  readonly config: Config;
  readonly isClosing: boolean;
  readonly manifest: Manifest;
  readonly recorder: Pick<Recorder, 'answered' | 'unanswered'>;
  /**
   * As `Service.enter`; a promise where another thread is asked.
   *
   * @param canWait it is enough to ask that thread when the body is here.
   */
  enter(
    asks: ImageRequest | null,
    atClose: Pick<Cleanup, 'push'>,
    canWait: boolean,
  ): Entered | Promise<Entered>;
}

/** Bytes of a body that most likely come with its head. */
const SHORT = 16 * 1024;

/**
 * Whether a request's body is here by the time that another thread has answered. (A client that
 * waits to be told to go on sends nothing before.)
 */
export const isShort = ({ headers }: FastifyRequest): boolean =>
  Number(headers['content-length']) <= SHORT && headers.expect === undefined;

/** Called with the error that stopped a request, or else with what it is refused for; null: nothing. */
export type Entering = (error: Error | null, refusal: Refusal | null) => void;

/**
 * Lets a request in that has just arrived, with the version that serves now.
 *
 * @param asks what its head asks for; null: nothing that it could be refused for.
 * @param entered called at once, where no other thread is asked: a promise would cost more than the
 *   decision.
 * @param canWait it may be decided with the body, if that saves time; not known till then is the
 *   version.
 * @throws {ServeError} starting, draining, engine-failed
 */
export function serveBy(
  service: Serving,
  request: FastifyRequest,
  asks: ImageRequest | null,
  entered: Entering,
  canWait = false,
): void {
  const take = ({ deployment, refusal }: Entered) => {
    // The client has gone away meanwhile: that has been counted.
    if (request.raw.destroyed) return;
    request.deployment = deployment;
    // Of two budgets the smaller one counts: another may be in the body.
    if (asks) request.uploadDue = asks.arrivedAt + asks.budgetMs;
    entered(null, refusal);
  };
  const answer = service.enter(asks, request.atClose, canWait);
  if (answer instanceof Promise) answer.then(take).catch((error: Error) => entered(error, null));
  else take(answer);
}

/** Records that a request gets no answer from the version that it was taken by, if any. */
export function recordUnanswered(service: Serving, request: FastifyRequest, code: ErrorCode): void {
  service.recorder.unanswered({
    code,
    manifest: request.deployment?.manifest ?? service.manifest,
    totalMs: performance.now() - request.arrivedAt,
  });
}
