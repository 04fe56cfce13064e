// A burst: the same photo again and again at a rising rate, so that one sees depth give way.
import { Refused, askMany } from './api.js';
import { byId, html, key, tierColours } from './dom.js';
import { formatMs, percent } from './figures.js';
import { Pace, capacityOf } from './pace.js';

/** @import { Model } from './api.js' */

const LASTS_MS = 6000;
const STEP_MS = 400;
const TICK_MS = 25;
/** Browsers open six connections to one server, and the live strip needs one. */
const CONNECTIONS = 5;
const MAX_IMAGES = 16;
/** Larger bodies would keep the processor from the network. */
const MAX_BYTES = 4 * 1024 * 1024;

/** @typedef {{ answered: Map<string, number>, refused: number }} Tally */

/**
 * @param {Model} model
 * @param {Uint8Array<ArrayBuffer>} pixels of one image
 * @param {number} budgetMs
 * @param {(tally: Tally) => void} stepped called about twice a second
 */
export async function burst(model, pixels, budgetMs, stepped) {
  const capacity = (/** @type {string | undefined} */ skip) =>
    capacityOf(model.latencyNow[skip ?? ''] ?? { 1: 10 }, model.engineWorkers);
  const pace = new Pace(capacity(model.tiers.at(-1)?.skip), capacity(model.tiers[0]?.skip));
  const most = Math.max(1, Math.min(MAX_IMAGES, Math.floor(MAX_BYTES / pixels.length)));
  /** @type {Tally} */
  let tally = { answered: new Map(), refused: 0 };
  /** What goes on elsewhere: requests under way, and why the burst must end. */
  const now = { underWay: 0, failure: /** @type {unknown} */ (null) };

  const send = async (/** @type {number} */ count) => {
    now.underWay++;
    try {
      for (const skip of await askMany(model, pixels, count, budgetMs)) {
        tally.answered.set(skip, (tally.answered.get(skip) ?? 0) + 1);
      }
    } catch (error) {
      if (error instanceof Refused && error.forLackOfTime) tally.refused += count;
      else now.failure = error;
    } finally {
      now.underWay--;
    }
  };

  let [due, images] = [0, 1];
  const started = performance.now();
  let [ticked, step] = [started, started];
  while (ticked - started < LASTS_MS) {
    await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    if (now.failure !== null) throw now.failure;
    due += (pace.rate * (performance.now() - ticked)) / 1000;
    ticked = performance.now();
    for (; due >= images && now.underWay < CONNECTIONS; due -= images) void send(images);
    // All connections are in use: the rate needs more images in one request.
    if (due >= 2 * images && images < most) images++;
    due = Math.min(due, 2 * images);
    if (ticked - step >= STEP_MS) {
      step = ticked;
      const sum = [...tally.answered.values()].reduce((a, b) => a + b, 0);
      pace.step(sum, tally.refused);
      stepped(tally);
      tally = { answered: new Map(), refused: 0 };
    }
  }
}

/**
 * One step of a burst in words and as shares of depth.
 *
 * @param {Model} model
 * @param {Tally} tally
 * @param {number} budgetMs
 */
export function drawStep({ tiers }, { answered, refused }, budgetMs) {
  const colours = tierColours(tiers);
  const sum = [...answered.values()].reduce((a, b) => a + b, 0);
  const accuracy = tiers.reduce((a, tier) => a + tier.accuracy * (answered.get(tier.skip) ?? 0), 0);
  const shares = tiers.toReversed().flatMap(({ skip }) => {
    const count = answered.get(skip) ?? 0;
    if (count === 0) return [];
    const part = html('i', { title: `${skip}: ${count}` });
    part.style.width = `${(count / (sum + refused)) * 100}%`;
    part.style.background = colours.get(skip) ?? '';
    return part;
  });
  const mix = byId('burst-mix');
  mix.replaceChildren(...shares);
  const parts = [...answered].map(([skip, count]) => `${count} by ${skip}`).join(', ');
  mix.setAttribute('aria-label', parts || 'no answers');
  const rate = Math.round((sum * 1000) / STEP_MS);
  byId('burst-state').replaceChildren(
    `${rate} images a second under ${formatMs(budgetMs)}`,
    sum > 0 ? `, expected accuracy ${percent(accuracy / sum)}` : '',
    `, ${refused} refused. `,
    ...tiers
      .toReversed()
      .filter(({ skip }) => answered.has(skip))
      .map(({ skip }) => key(skip, colours.get(skip) ?? '')),
  );
}
