import type { FastifyReply, FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';
import type { Service } from '../service.ts';
import { recordUnanswered } from './serving.ts';

/**
 * Aborts when the client goes away before its answer is written, so that no engine works for
 * nobody. (The request's own `close` event also comes when its body has merely been read.)
 */
export function cancelOnDisconnect(
  request: FastifyRequest,
  reply: FastifyReply,
  service: Service,
): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (reply.raw.writableFinished) return;
    // Fastify's onResponse hook never comes for these.
    request.outcome = 'cancelled';
    recordUnanswered(service, request, 'cancelled');
    request.log.info({ outcome: 'cancelled' }, 'classify');
    controller.abort(new ServeError('cancelled', 'The client went away before the answer.'));
  });
  return controller.signal;
}
