// Whether the service answers, and what it did: asked every second, and told where it stops.
import { Refused, getLive, getStatus } from './api.js';
import { byId } from './dom.js';

/** @import { Model, Second } from './api.js' */

const EVERY_MS = 1000;
/** Seconds of history that are kept. */
const KEPT = 300;

/** @param {number} ms */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** @param {'ready' | 'waiting' | 'gone'} kind @param {string} text */
function show(kind, text) {
  const pill = byId('status');
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
}

/**
 * What the service answers as soon as it is ready and answers.
 *
 * @template Result
 * @param {() => Promise<Result>} request
 * @returns {Promise<Result>}
 */
export async function whenReady(request) {
  for (;;) {
    try {
      const { status } = await getStatus();
      if (status === 'ready') return await request();
      show('waiting', status === 'starting' ? 'starting: loading and measuring the model' : status);
    } catch (error) {
      show('waiting', error instanceof Refused ? error.message : 'no answer');
    }
    await sleep(500);
  }
}

/**
 * Follows the service for as long as the page is open.
 *
 * @param {() => Model} model
 * @param {(seconds: readonly Second[], now: number) => void} told
 * @param {() => Promise<void>} isBack called when it answers again, and from time to time
 */
export async function follow(model, told, isBack) {
  /** @type {Second[]} */
  let seconds = [];
  let lastAnswer = new Date();
  let isGone = false;
  for (let round = 1; ; round++) {
    if (!document.hidden) {
      try {
        const { status } = await getStatus();
        const live = await getLive(seconds.at(-1)?.at ?? 0);
        if (isGone || round % 10 === 0) await isBack();
        const { manifest, provider } = model();
        const where = `${manifest.name} on ${provider === 'cuda' ? 'GPU' : 'CPU'}`;
        show(status === 'ready' ? 'ready' : 'waiting', status === 'ready' ? where : status);
        // A server that was started anew begins a history of its own.
        seconds = [...seconds, ...live.seconds].filter(({ at }) => at > live.now - KEPT);
        told(seconds, live.now);
        lastAnswer = new Date();
        isGone = false;
      } catch (error) {
        if (error instanceof Refused) show('waiting', error.message);
        else show('gone', `no answer since ${lastAnswer.toLocaleTimeString()}`);
        isGone = true;
        // It wants a token now, and asking for the model asks for it.
        if (error instanceof Refused && error.status === 401) await isBack().catch(() => {});
      }
      byId('strip').classList.toggle('stale', isGone);
    }
    await sleep(EVERY_MS);
  }
}
