import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Config } from '../config.ts';

/**
 * The answer whose turn it is on a connection: it is there from the end of its request's head until
 * the kernel has all of it. Not in Node's documentation, but in its HTTP server since 2011.
 */
export const answerOn = (socket: Socket): ServerResponse | null =>
  (socket as unknown as Record<string, ServerResponse | null | undefined>)['_httpMessage'] ?? null;

/** Looks at all connections within the time for one: a timer for each request would cost more. */
const LOOKS = 10;

/**
 * Resets connections whose clients do not take their answers: as long as it is not taken, an answer
 * holds its request's bytes and version, and Node limits the time to read only.
 */
export function boundAnswers(
  server: Server,
  { REQUEST_TIMEOUT_MS }: Pick<Config, 'REQUEST_TIMEOUT_MS'>,
): void {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  /** When an answer was first seen to have begun. */
  const begun = new WeakMap<ServerResponse, number>();
  const look = () => {
    const now = performance.now();
    for (const socket of sockets) {
      const answer = answerOn(socket);
      if (!answer?.headersSent) continue;
      const since = begun.get(answer);
      if (since === undefined) begun.set(answer, now);
      // What is left of it must not stay in the kernel either.
      else if (now - since >= REQUEST_TIMEOUT_MS) socket.resetAndDestroy();
    }
  };
  server.on('listening', () => {
    const timer = setInterval(look, REQUEST_TIMEOUT_MS / LOOKS).unref();
    server.once('close', () => clearInterval(timer));
  });
}
