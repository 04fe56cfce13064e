import { setImmediate as nextTurn } from 'node:timers/promises';

/** Connections that may wait to be accepted: a burst of new clients must not be left to retry. */
export const BACKLOG = 4096;

/**
 * Connections and requests that wait in the kernel are taken within three turns of the event loop:
 * accepted, read, handled. Closing would reset them.
 */
export async function waitingTaken(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn();
}
