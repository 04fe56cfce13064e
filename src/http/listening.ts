import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Config } from '../config.ts';

/** Connections that may wait to be accepted: a burst of new clients must not be left to retry. */
const BACKLOG = 4096;

/** Where servers are to listen, whatever they speak. */
export const listenOptions = (host: string, port: number) => ({
  // For `localhost` it would open a second server, which has none of our limits, for ::1.
  host: host === 'localhost' ? '127.0.0.1' : host,
  port,
  backlog: BACKLOG,
});

/**
 * Connections and requests that wait in the kernel are taken within three turns of the event loop:
 * accepted, read, handled. Closing would reset them.
 */
export async function waitingTaken(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn();
}

/** Of the time for a drain, what may be waited for clients: the rest is for what they have asked. */
const PATIENCE = 0.8;

/** ms from the beginning of a drain until requests that are not here are given up. */
export const drainPatience = ({ REQUEST_TIMEOUT_MS, DRAIN_TIMEOUT_MS }: Config): number =>
  Math.min(REQUEST_TIMEOUT_MS, PATIENCE * DRAIN_TIMEOUT_MS);

/** ms that an answer may wait at the end of a drain for its client to take it. */
export const takePatience = ({ DRAIN_TIMEOUT_MS }: Config): number =>
  Math.min(2000, ((1 - PATIENCE) / 2) * DRAIN_TIMEOUT_MS);
