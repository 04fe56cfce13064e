import type { FastifyReply } from 'fastify';
import { ServeError } from '../errors.ts';

/**
 * Aborts when the client goes away before its answer is written, so that no engine works for
 * nobody. (The request's own `close` event also comes when its body has merely been read.)
 */
export function disconnectSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (reply.raw.writableFinished) return;
    controller.abort(new ServeError('cancelled', 'The client went away before the answer.'));
  });
  return controller.signal;
}
