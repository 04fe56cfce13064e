// The page: one photo, one budget, and everything that shows what became of them.
import { drawAnswer, drawRefusal } from './answer.js';
import { Refused, classify, getModel, useToken } from './api.js';
import { Budget } from './budget.js';
import { burst, drawStep } from './burst.js';
import { fillDepths, markChosen } from './depths.js';
import { byId, html } from './dom.js';
import { curlOf, enough, percent } from './figures.js';
import { follow, sleep, whenReady } from './health.js';
import { drawNetwork, inWords, passesOf } from './network.js';
import { offerPhotos, offerSamples, pixelsOf } from './photo.js';
import { Strip } from './strip.js';
import { stopsOf } from './track.js';

/** @import { Answer, Model } from './api.js' */
/** @import { Photo } from './photo.js' */

const TOP_K = 5;
/** Times that a budget which turns out too small is raised by itself. */
const RAISES = 4;
const SWEEP_STEP_MS = 420;
/** The sweep is load, with tight budgets: for so long the server keeps time for more of it. */
const SWEEP_FADES_MS = 3000;
const REASON = 'Every stage has a part that always runs and a part that can be skipped.';

const floor = /** @type {HTMLSelectElement} */ (byId('floor'));
const allDepths = /** @type {HTMLButtonElement} */ (byId('all-depths'));
const burstButton = /** @type {HTMLButtonElement} */ (byId('burst'));

/** @type {Model} */
let model;
/** @type {Strip} */
let strip;
/** @type {Photo | null} */
let photo = null;
let asking = new AbortController();
let comparing = new AbortController();
const sweeping = new AbortController();
let chosen = '';
/** What was asked last, until it is answered. @type {Promise<unknown>} */
let asked = Promise.resolve();

const budget = new Budget(() => {
  sweeping.abort();
  clearTimeout(soon);
  soon = setTimeout(ask, 120);
});
/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

allDepths.addEventListener('click', () => {
  allDepths.setAttribute('aria-pressed', String(!isPressed(allDepths)));
  void compare();
});
floor.addEventListener('change', askAgain);
byId('again').addEventListener('click', askAgain);
burstButton.addEventListener('click', () => void sendBurst());
byId('copy').addEventListener('click', () => void copyCommand());

model = await whenReady(() => withToken(getModel));
introduce(true);
for (const control of document.querySelectorAll('main :disabled')) {
  control.removeAttribute('disabled');
}
void follow(
  () => model,
  (seconds, now) => strip.draw(seconds, now),
  refresh,
);
offerPhotos(usePhoto);
const takeFirst = await offerSamples(usePhoto);
photo = (await takeFirst()) ?? photo;
await sweep();
await compare();

/**
 * Asks for a token where the service wants one.
 *
 * @template Result
 * @param {() => Promise<Result>} request
 * @returns {Promise<Result>}
 */
async function withToken(request) {
  const form = byId('token-form');
  for (;;) {
    try {
      const answer = await request();
      form.hidden = true;
      return answer;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 401) throw error;
      form.hidden = false;
      await new Promise((resolve) => {
        form.addEventListener('submit', (event) => resolve(event.preventDefault()), { once: true });
      });
      useToken(/** @type {HTMLInputElement} */ (byId('token')).value);
    }
  }
}

/** Everything that depends on the model alone. @param {boolean} isNew */
function introduce(isNew) {
  const { labels, flags } = model.manifest;
  budget.fit(model, isNew);
  if (isNew) chosen = '';
  strip = new Strip(byId('strip'), model.tiers);
  drawNetwork(byId('network'), [{ skip: chosen }], flags.length);
  const floors = model.tiers.map(({ accuracy }) => {
    return html('option', { value: String(accuracy) }, percent(accuracy));
  });
  const wanted = floor.value;
  floor.replaceChildren(html('option', { value: '0' }, 'any'), ...floors);
  if (floors.some(({ value }) => value === wanted)) floor.value = wanted;
  byId('classes-title').textContent = `The ${labels.length} classes that it knows`;
  byId('classes').replaceChildren(...labels.map((label) => html('li', {}, label)));
  byId('depths-words').textContent =
    `The service chooses among ${model.tiers.length} of ${2 ** flags.length} sub-networks: ` +
    'those that no other beats in accuracy and in time, over batches of all sizes on this machine.';
}

/** The model as it is now; another version begins anew. */
async function refresh() {
  const last = model;
  model = await withToken(getModel);
  const { name, version } = model.manifest;
  const key = (/** @type {Model} */ { tiers }) => tiers.map(({ skip }) => skip).join();
  const isSame = name === last.manifest.name && version === last.manifest.version;
  if (isSame && key(model) === key(last)) return budget.update(model);
  sweeping.abort();
  introduce(!isSame);
  // The photo stays, also where the model has other samples.
  if (!isSame) await offerSamples(usePhoto);
  await ask();
  await compare();
}

/** Every budget from plenty to little, once and by itself: the network is seen to fold up. */
async function sweep() {
  const settled = budget.ms;
  const isStill = matchMedia('(prefers-reduced-motion: reduce)').matches;
  if (!photo || isStill || sweeping.signal.aborted) return ask(RAISES);
  const verdict = byId('verdict');
  verdict.setAttribute('aria-live', 'off');
  const stops = stopsOf(model.tiers).toReversed();
  for (const ms of [budget.track.to, ...stops]) {
    budget.set(ms, false);
    await Promise.all([ask(0), sleep(SWEEP_STEP_MS)]);
    if (sweeping.signal.aborted) break;
  }
  verdict.removeAttribute('aria-live');
  if (!sweeping.signal.aborted) await sleep(SWEEP_FADES_MS);
  if (sweeping.signal.aborted) return;
  budget.set(Math.min(settled, budget.track.to), false);
  await ask(RAISES);
}

/** @param {number} raises times that the budget is raised when it turns out too small */
async function ask(raises = 0) {
  const { labels, flags } = model.manifest;
  const lines = Math.min(TOP_K, labels.length);
  if (!photo) {
    drawRefusal(new Refused(0, 'Choose a photo first.'), lines, budget.ms, useBudget);
    return;
  }
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const minAccuracy = Number(floor.value);
  try {
    const answering = classify(photo.blob, budget.ms, minAccuracy, signal);
    asked = answering.catch(() => {});
    const answer = await answering;
    if (signal.aborted) return;
    chosen = answer.subNetwork.skip;
    drawAnswer(answer, lines);
    drawNetwork(byId('network'), passesOf(answer), flags.length);
    byId('network-words').textContent = wordsOf(answer);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refused && error.forLackOfTime && raises > 0) {
      budget.set(Math.max(budget.ms, enough(error.smallestBudgetMs ?? 0)), false);
      return ask(raises - 1);
    }
    chosen = '';
    drawRefusal(error, lines, budget.ms, useBudget);
    drawNetwork(byId('network'), [{ skip: '' }], flags.length);
    byId('network-words').textContent = REASON;
  }
  byId('curl').textContent = curlOf(location.origin, photo.file, budget.ms, minAccuracy);
  markChosen(byId('depths'), chosen);
}

/** @param {Answer} answer */
function wordsOf({ looks, subNetwork }) {
  if (looks.length > 1) {
    return `The first look, by ${looks[0]?.subNetwork}, was not sure enough, and time was left for another.`;
  }
  return `${inWords(subNetwork.skip, model.manifest.flags.length)}. ${REASON}`;
}

/** @param {string} skip of a pass that stands for many */
function drawPass(skip) {
  const { flags } = model.manifest;
  drawNetwork(byId('network'), [{ skip }], flags.length);
  byId('network-words').textContent = `${inWords(skip, flags.length)}. ${REASON}`;
}

function askAgain() {
  sweeping.abort();
  void ask();
}

/** @param {number} ms that were offered: the offer holds, also where load has changed meanwhile */
function useBudget(ms) {
  budget.set(ms);
  void ask(RAISES);
}

/** @param {HTMLElement} button */
function isPressed(button) {
  return button.getAttribute('aria-pressed') === 'true';
}

async function compare() {
  comparing.abort();
  comparing = new AbortController();
  const { signal } = comparing;
  const all = isPressed(allDepths);
  const filled = fillDepths(byId('depths'), model, photo?.blob ?? null, all, () => asked, signal);
  markChosen(byId('depths'), chosen);
  await filled;
}

/** @param {Photo} taken */
function usePhoto(taken) {
  sweeping.abort();
  byId('photo-note').textContent = '';
  photo = taken;
  void ask().then(compare);
}

async function sendBurst() {
  if (!photo) return;
  sweeping.abort();
  burstButton.disabled = true;
  const { input } = model.manifest;
  const ms = Math.max(budget.ms, budget.track.to);
  try {
    // What it can do now is where the burst begins.
    await refresh();
    await burst(model, await pixelsOf(photo.blob, input), ms, (tally) => {
      drawStep(model, tally, ms);
      const [most] = [...tally.answered].toSorted((a, b) => b[1] - a[1]);
      if (most) drawPass(most[0]);
    });
  } catch (error) {
    byId('burst-state').textContent = error instanceof Error ? error.message : String(error);
  } finally {
    burstButton.disabled = false;
  }
}

async function copyCommand() {
  const command = byId('curl');
  try {
    await navigator.clipboard.writeText(command.textContent ?? '');
    byId('copy').textContent = 'Copied';
  } catch {
    // Over plain HTTP browsers give no clipboard.
    getSelection()?.selectAllChildren(command);
    byId('copy').textContent = 'Selected';
  }
  await sleep(1500);
  byId('copy').textContent = 'Copy';
}
