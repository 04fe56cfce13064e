import type { Server } from 'node:http';
import type { RouteHandlerMethod, onRequestAsyncHookHandler } from 'fastify';
import { SharedCounter } from './shared-counter.ts';

/** What the HTTP server has to know of the threads that speak HTTP. */
export interface Threads {
  /** Bytes of request bodies in memory. */
  readonly bytes: SharedCounter;
  /** Open connections. */
  readonly connections: SharedCounter;
  /** Null: the service is on this thread. */
  readonly aside: Aside | null;
}

/** What is done otherwise where the service is on another thread. */
export interface Aside {
  /** Takes the place of the handler of every route that does not classify. */
  readonly handler: RouteHandlerMethod;
  /** Adds the load report that a request asks for. */
  readonly reportLoad: onRequestAsyncHookHandler;
}

/** One thread, with the service on it. */
export const alone = (): Threads => ({
  bytes: new SharedCounter(),
  connections: new SharedCounter(),
  aside: null,
});

/** Closes connections beyond `most`, those of all threads together. */
export function limitConnections(server: Server, most: number, connections: SharedCounter): void {
  server.on('connection', (socket) => {
    // Counted first: of threads that accept at the same time, none must miss the others'.
    connections.add(1);
    socket.once('close', () => connections.add(-1));
    if (connections.total > most) socket.destroy();
  });
}
