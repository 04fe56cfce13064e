import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { FastifyInstance } from 'fastify';
import type { Config } from '../config.ts';
import type { Cleanup } from './cleanup.ts';
import { drainPatience, takePatience } from './listening.ts';

/**
 * The answer whose turn it is on a connection: it is there from the end of its request's head until
 * the kernel has all of it. Not in Node's documentation, but in its HTTP server since 2011.
 */
export const answerOn = (socket: Socket): ServerResponse | null =>
  (socket as unknown as Record<string, ServerResponse | null | undefined>)['_httpMessage'] ?? null;

/** Requests of one connection that may wait behind another; gRPC takes as many calls. */
const MAX_PIPELINED = 1000;

/** Of connections with pipelined requests: what those hold whose answers wait behind another. */
const pipelined = new WeakMap<Socket, Set<Cleanup>>();

/**
 * Does what is to be done after a request when its answer is out, or its connection is closed:
 * before Node 24, an answer that waits behind another is not told of that.
 */
export function cleanUpAfter(answer: ServerResponse, socket: Socket, cleanup: Cleanup): void {
  answer.once('close', () => cleanup.run());
  const current = answerOn(socket);
  if (!current || current === answer) return;
  const waiting = pipelined.get(socket) ?? new Set();
  if (!pipelined.has(socket)) {
    pipelined.set(socket, waiting);
    socket.once('close', () => {
      for (const each of waiting) each.run();
    });
  }
  waiting.add(cleanup);
  cleanup.push(() => waiting.delete(cleanup));
  // Nothing else would stop it: what is read costs memory whether it is answered or not.
  if (waiting.size > MAX_PIPELINED) socket.destroy();
}

/** Looks at all connections within the time for one: a timer for each request would cost more. */
const LOOKS = 10;

/** ms that a drain waits for requests on connections that have none: a lost packet is sent again. */
const GRACE_MS = 2000;
const LOOK_IN_DRAIN_MS = 100;

/** What Node's own look at the time of requests, which ends when a drain begins, calls this. */
const TOO_SLOW = 'ERR_HTTP_REQUEST_TIMEOUT';

/**
 * Ends connections whose clients do not do their part: as long as it is not taken, an answer holds
 * its request's bytes and version, and Node limits the time to read only, and not even that in a
 * drain.
 */
export function boundConnections(app: FastifyInstance, config: Config): void {
  const { server } = app;
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  /** When an answer was first seen to have begun. */
  const begun = new WeakMap<ServerResponse, number>();
  /** Until when a drain waits: for requests that have not begun, and for whatever has. */
  let graceUntil = Infinity;
  let patientUntil = Infinity;

  function look(): void {
    const now = performance.now();
    for (const socket of sockets) {
      const answer = answerOn(socket);
      if (!answer) {
        if (now >= graceUntil) socket.destroy();
      } else if (answer.headersSent) {
        const since = begun.get(answer) ?? now;
        begun.set(answer, since);
        const until = Math.max(patientUntil, since + takePatience(config));
        // What is left of it must not stay in the kernel either.
        if (now >= Math.min(since + config.REQUEST_TIMEOUT_MS, until)) socket.resetAndDestroy();
      } else if (now >= patientUntil && !answer.req.complete) {
        server.emit('clientError', Object.assign(new Error(), { code: TOO_SLOW }), socket);
      }
    }
  }

  let timer: NodeJS.Timeout | undefined;
  server.on('listening', () => {
    timer = setInterval(look, config.REQUEST_TIMEOUT_MS / LOOKS).unref();
  });
  app.addHook('preClose', (done) => {
    const now = performance.now();
    patientUntil = now + drainPatience(config);
    graceUntil = Math.min(now + Math.min(GRACE_MS, config.HEAD_TIMEOUT_MS), patientUntil);
    clearInterval(timer);
    // After what has come was read: a request that is here is not cut off.
    timer = setInterval(() => setImmediate(look), LOOK_IN_DRAIN_MS).unref();
    done();
  });
  server.on('close', () => clearInterval(timer));
}
