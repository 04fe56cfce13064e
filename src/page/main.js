// The page: one photo, one budget, and everything that shows what became of them.
import { drawBars, drawTimeline, drawVerdict } from './answer.js';
import { Refused, classify, getLive, getModel, getStatus } from './api.js';
import { burst } from './burst.js';
import { fillDepths, markChosen } from './depths.js';
import { byId, formatMs, html, percent, tierColours } from './dom.js';
import { drawNetwork } from './network.js';
import { drawStrip } from './strip.js';

/** @import { Model, Second } from './api.js' */

const slider = /** @type {HTMLInputElement} */ (byId('budget'));
const floor = /** @type {HTMLSelectElement} */ (byId('floor'));
const fileInput = /** @type {HTMLInputElement} */ (byId('file'));
const preview = /** @type {HTMLImageElement} */ (byId('preview'));
const allDepths = /** @type {HTMLButtonElement} */ (byId('all-depths'));
const burstButton = /** @type {HTMLButtonElement} */ (byId('burst'));

const model = await untilReady();
const stages = model.manifest.flags.length;
/** @type {Blob} */
let photo = await (await fetch('samples/cat.jpg')).blob();
let asking = new AbortController();
let comparing = new AbortController();
let chosen = '';

byId('status').textContent =
  `${model.manifest.name} on ${model.provider === 'cuda' ? 'GPU' : 'CPU'}`;
byId('status').classList.add('ready');
drawNetwork(byId('network'), '', stages);
offerFloors();
markLatencies();
await offerSamples();
showBudget();
await ask();
await compare();
void follow();

/** @returns {Promise<Model>} */
async function untilReady() {
  for (;;) {
    const { status } = await getStatus();
    if (status === 'ready') return getModel();
    byId('status').textContent = status;
    await sleep(500);
  }
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The slider is logarithmic: a hundred steps are a factor of ten. */
function budgetMs() {
  const ms = 10 ** (Number(slider.value) / 100);
  return ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms);
}

function showBudget() {
  const text = formatMs(budgetMs());
  byId('budget-value').textContent = text;
  slider.setAttribute('aria-valuetext', text);
}

async function ask() {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const verdict = byId('verdict');
  try {
    const answer = await classify(photo, budgetMs(), Number(floor.value), signal);
    chosen = answer.subNetwork.skip;
    drawVerdict(verdict, answer);
    drawBars(byId('bars'), answer);
    drawTimeline(byId('timeline'), answer);
    drawNetwork(byId('network'), chosen, stages);
  } catch (error) {
    if (signal.aborted) return;
    chosen = '';
    verdict.className = 'verdict bad';
    verdict.textContent = whyNot(error);
    byId('bars').replaceChildren();
    byId('timeline').replaceChildren();
    drawNetwork(byId('network'), '', stages);
  }
  markChosen(byId('depths'), chosen);
}

/** @param {unknown} error */
function whyNot(error) {
  if (error instanceof Refused && error.smallestBudgetMs !== undefined) {
    const enough = formatMs(error.smallestBudgetMs);
    return `Refused at once, for it would be late: now, ${enough} would be enough.`;
  }
  return error instanceof Error ? error.message : String(error);
}

/** @param {HTMLElement} button */
function isPressed(button) {
  return button.getAttribute('aria-pressed') === 'true';
}

async function compare() {
  comparing.abort();
  comparing = new AbortController();
  const filled = fillDepths(byId('depths'), model, photo, isPressed(allDepths), comparing.signal);
  markChosen(byId('depths'), chosen);
  await filled;
}

/** @param {Blob} blob @param {string} title */
async function usePhoto(blob, title) {
  photo = blob;
  const last = preview.src;
  preview.src = URL.createObjectURL(blob);
  preview.alt = title;
  if (last.startsWith('blob:')) URL.revokeObjectURL(last);
  for (const button of byId('samples').querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button.title === title));
  }
  await ask();
  await compare();
}

/** @param {string} file @param {string} title */
async function useSample(file, title) {
  await usePhoto(await (await fetch(`samples/${file}`)).blob(), title);
}

async function offerSamples() {
  /** @type {{ file: string, title: string }[]} */
  const samples = await (await fetch('samples/index.json')).json();
  const buttons = samples.map(({ file, title }, index) => {
    const button = html(
      'button',
      { type: 'button', title, 'aria-label': title, 'aria-pressed': String(index === 0) },
      html('img', { src: `samples/${file}`, alt: '' }),
    );
    button.addEventListener('click', () => void useSample(file, title));
    return button;
  });
  byId('samples').replaceChildren(...buttons);
}

function offerFloors() {
  for (const { accuracy } of model.tiers) {
    floor.append(html('option', { value: String(accuracy) }, percent(accuracy)));
  }
}

/** Where each sub-network's measured time lies on the slider. */
function markLatencies() {
  const colours = tierColours(model.tiers);
  const places = model.tiers.map(({ skip }) => {
    const ms = model.latency[skip]?.['1'] ?? 1;
    return { skip, at: Math.min(1, Math.max(0, Math.log10(ms) / 3)) };
  });
  const marks = places.map(({ skip, at }) => {
    const mark = html('i', { title: skip });
    mark.style.left = `${at * 100}%`;
    mark.style.background = colours.get(skip) ?? '';
    return mark;
  });
  const text = html('span', {}, 'inference alone takes this long');
  const first = places[0]?.at ?? 0;
  if (first > 0.5) text.style.right = `${(1 - (places.at(-1)?.at ?? 1)) * 100}%`;
  else text.style.left = `${first * 100}%`;
  byId('marks').replaceChildren(...marks, text);
}

/** Keeps the live strip going. */
async function follow() {
  /** @type {Second[]} */
  let seconds = [];
  for (;;) {
    if (!document.hidden) {
      try {
        const live = await getLive(seconds.at(-1)?.at ?? 0);
        seconds = [...seconds, ...live.seconds].filter(({ at }) => at > live.now - 300);
        drawStrip(byId('strip'), seconds, live.now, model.tiers);
      } catch {
        // The service is gone or restarting; the strip goes on when it is back.
      }
    }
    await sleep(1000);
  }
}

allDepths.addEventListener('click', () => {
  allDepths.setAttribute('aria-pressed', String(!isPressed(allDepths)));
  void compare();
});

/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;
slider.addEventListener('input', () => {
  showBudget();
  clearTimeout(soon);
  soon = setTimeout(ask, 120);
});
floor.addEventListener('change', () => void ask());
byId('again').addEventListener('click', () => void ask());
fileInput.addEventListener('change', () => {
  const file = fileInput.files?.[0];
  if (file) void usePhoto(file, file.name);
});

const drop = byId('drop');
for (const type of ['dragenter', 'dragover']) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
document.addEventListener('dragleave', () => drop.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  const file = event.dataTransfer?.files[0];
  if (file) void usePhoto(file, file.name);
});

async function sendBurst() {
  burstButton.disabled = true;
  const tell = (/** @type {string} */ text) => (byId('burst-state').textContent = text);
  try {
    await burst(model, photo, budgetMs(), tell);
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  } finally {
    burstButton.disabled = false;
  }
}
burstButton.addEventListener('click', () => void sendBurst());
