import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { clientGone } from '../errors.ts';
import { Cancellation } from '../pipeline/cancellation.ts';
import { brokenOffFor } from './problem.ts';
import { recordUnanswered } from './serving.ts';
import type { Serving } from './serving.ts';
import { endTrace } from './tracing.ts';

/**
 * ms after which the client of a request is looked for that has ended its side of the connection.
 * Most answers are out by then.
 */
const LOOK_AFTER_MS = 50;

/** Of a connection: what its requests, several when they are pipelined, do when its client ends. */
const ENDED = Symbol('ended');
interface Watched extends Socket {
  [ENDED]?: Set<() => void>;
}

/** Answers requests of clients that have already ended their side of the connection. */
export function answerHalfOpen(app: FastifyInstance): void {
  // Not in Node's documentation, but in its HTTP server since 2011.
  Object.assign(app.server, { httpAllowHalfOpen: true });
  // Once for each connection, not for each request.
  app.server.on('connection', (socket: Watched) => {
    const requests = new Set<() => void>();
    socket[ENDED] = requests;
    socket.once('end', () => {
      for (const ended of requests) ended();
    });
  });
}

/**
 * Counts and logs a request whose connection ended before its answer was written: Fastify's
 * onResponse hook never comes for these.
 */
export function countUnanswered(service: Serving, request: FastifyRequest, reply: FastifyReply) {
  if (reply.raw.writableFinished) return;
  const { complete, socket } = request.raw;
  let { outcome } = request;
  // An answer is recorded when it is about to leave, whether all of it arrives or not.
  if (outcome !== 'met' && outcome !== 'late') {
    outcome = (complete ? undefined : brokenOffFor(socket)) ?? 'cancelled';
    request.outcome = outcome;
    recordUnanswered(service, request, outcome);
  }
  request.log.info({ reqId: request.id, outcome }, 'classify');
  endTrace(request, null);
}

/**
 * Cancels when the client goes away before its answer is written, so that no engine works for
 * nobody. (The request's own `close` event also comes when its body has merely been read.)
 */
export function cancelOnDisconnect(request: FastifyRequest, reply: FastifyReply): Cancellation {
  const cancellation = new Cancellation();
  const stopLooking = lookForClient(request, reply);
  request.atClose.push(() => {
    stopLooking();
    if (reply.raw.writableFinished) return;
    cancellation.cancel(clientGone());
  });
  return cancellation;
}

/**
 * Finds out whether a client that has ended its side still listens: both look the same until
 * something is sent. An interim answer means nothing to a client that is there; if none is, its
 * machine resets the connection, which the next write, an empty one, gets to know.
 *
 * @returns stops that.
 */
function lookForClient({ raw }: FastifyRequest, reply: FastifyReply): () => void {
  const socket: Watched = raw.socket;
  // HTTP/1.0 has no interim answers: such a request is finished, whether anybody listens or not.
  if (raw.httpVersion !== '1.1') return () => {};
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    // The answer itself will tell.
    if (reply.raw.headersSent) return;
    reply.raw.writeContinue();
    timer = setTimeout(() => socket.write(''), LOOK_AFTER_MS);
  };
  const ended = () => {
    timer = setTimeout(look, LOOK_AFTER_MS);
  };
  if (socket.readableEnded) ended();
  else socket[ENDED]?.add(ended);
  return () => {
    socket[ENDED]?.delete(ended);
    clearTimeout(timer);
  };
}
