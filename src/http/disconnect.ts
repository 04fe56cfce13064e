import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';
import type { Service } from '../service.ts';
import { recordUnanswered } from './serving.ts';
import { endTrace } from './tracing.ts';

/**
 * ms after which the client of a request is looked for that has ended its side of the connection.
 * Most answers are out by then.
 */
const LOOK_AFTER_MS = 50;

/** Answers requests of clients that have already ended their side of the connection. */
export function answerHalfOpen(app: FastifyInstance): void {
  // Not in Node's documentation, but in its HTTP server since 2011.
  Object.assign(app.server, { httpAllowHalfOpen: true });
}

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
    endTrace(request, null);
    controller.abort(new ServeError('cancelled', 'The client went away before the answer.'));
  });
  lookForClient(request, reply);
  return controller.signal;
}

/**
 * Finds out whether a client that has ended its side still listens: both look the same until
 * something is sent. An interim answer means nothing to a client that is there; if none is, its
 * machine resets the connection, which the next write, an empty one, gets to know.
 */
function lookForClient(
  { raw: { socket, httpVersion } }: FastifyRequest,
  reply: FastifyReply,
): void {
  // HTTP/1.0 has no interim answers: such a request is finished, whether anybody listens or not.
  if (httpVersion !== '1.1') return;
  const timers: NodeJS.Timeout[] = [];
  const look = () => {
    reply.raw.writeContinue();
    timers.push(setTimeout(() => socket.write(''), LOOK_AFTER_MS));
  };
  const ended = () => void timers.push(setTimeout(look, LOOK_AFTER_MS));
  if (socket.readableEnded) ended();
  else socket.once('end', ended);
  const stop = () => {
    socket.off('end', ended);
    for (const timer of timers) clearTimeout(timer);
  };
  reply.raw.once('finish', stop).once('close', stop);
}
