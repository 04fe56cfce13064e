// One answer: the verdict in words, the probabilities as bars, the time on a line. A refusal takes
// exactly as much room, so that nothing below moves.
import { Refused, Unreachable } from './api.js';
import { byId, html } from './dom.js';
import { enough, formatMs, kept, percent } from './figures.js';

/** @import { Answer } from './api.js' */

const NONE = '–';

/** @param {Answer} answer @param {number} lines of predictions */
export function drawAnswer(answer, lines) {
  const [best] = answer.predictions;
  const by = answer.looks.map(({ subNetwork }) => subNetwork).join(', then ');
  drawVerdict(
    '',
    best?.label ?? 'nothing',
    `in ${formatMs(answer.budget.actualMs)}: ${kept(answer.budget)}, by ${by} ` +
      `(expected accuracy ${percent(answer.subNetwork.expectedAccuracy)}).`,
  );
  drawBars(answer.predictions, lines);
  drawTimeline(answer);
}

/**
 * @param {unknown} error
 * @param {number} lines of predictions
 * @param {number} budgetMs that was too small, or not
 * @param {(ms: number) => void} use takes a budget that is enough
 */
export function drawRefusal(error, lines, budgetMs, use) {
  const [title, ...words] = whyNot(error, budgetMs, use);
  const forLackOfTime = error instanceof Refused && error.forLackOfTime;
  drawVerdict(forLackOfTime ? 'refused' : 'bad', title, ...words);
  drawBars([], lines);
  drawTimeline(null);
}

/**
 * @param {unknown} error
 * @param {number} budgetMs
 * @param {(ms: number) => void} use
 * @returns {[string, ...(string | Node)[]]} title and sentence
 */
function whyNot(error, budgetMs, use) {
  if (error instanceof Unreachable) {
    return ['No answer', `${error.message} The page goes on when it is back.`];
  }
  if (!(error instanceof Refused)) return ['No answer', String(error)];
  if (!error.forLackOfTime) return ['No answer', error.message];
  const offer = (/** @type {string} */ text, /** @type {number} */ ms) => {
    const button = html('button', { type: 'button', class: 'small', id: 'offer' }, text);
    button.addEventListener('click', () => use(ms));
    return button;
  };
  if (error.smallestBudgetMs !== undefined) {
    const ms = enough(error.smallestBudgetMs);
    return [
      'Refused at once',
      `${formatMs(budgetMs)} are too short here now, so no work was begun. `,
      offer(`Use ${formatMs(ms)}`, ms),
    ];
  }
  return ['No answer in time', 'Something came in between. ', offer('Try again', budgetMs)];
}

/** @param {string} kind @param {string} title @param {(Node | string)[]} words */
function drawVerdict(kind, title, ...words) {
  const place = byId('verdict');
  place.className = `verdict ${kind}`;
  place.replaceChildren(html('strong', { title }, title), html('p', {}, ...words));
}

/** @param {Answer['predictions']} predictions @param {number} lines */
function drawBars(predictions, lines) {
  const rows = Array.from({ length: Math.max(lines, predictions.length) }, (_, index) => {
    const { label = NONE, probability } = predictions[index] ?? {};
    const bar = html('i');
    bar.hidden = probability === undefined;
    bar.style.width = `${(probability ?? 0) * 100}%`;
    const track = html('span', { class: 'track', 'aria-hidden': 'true' }, bar);
    const value = html('b', {}, probability === undefined ? NONE : percent(probability));
    return html('li', {}, html('span', { class: 'name', title: label }, label), track, value);
  });
  byId('bars').replaceChildren(...rows);
}

/** @param {Answer} answer @returns {[string, number, string][]} */
function phasesOf({ timing, looks: [first, second] }) {
  const { decodeMs, queueMs, inferenceMs, totalMs } = timing;
  /** @type {[string, number, string][]} */
  let passes = [['Inference', inferenceMs, 'var(--infer)']];
  if (first && second) {
    // The second look may have waited for an engine before it ran.
    const secondMs = Math.min(inferenceMs, second.atMs - first.atMs);
    passes = [
      ['First look', inferenceMs - secondMs, 'var(--first-look)'],
      ['Second look', secondMs, 'var(--infer)'],
    ];
  }
  return [
    ['Decode', decodeMs, 'var(--decode)'],
    ['Queue', queueMs, 'var(--queue)'],
    ...passes,
    ['Rest', Math.max(0, totalMs - decodeMs - queueMs - inferenceMs), 'var(--rest)'],
  ];
}

/** @param {Answer | null} answer */
function drawTimeline(answer) {
  const track = html('div', { class: 'track', 'aria-hidden': 'true' });
  /** @type {[string, number | null, string][]} */
  const phases = answer
    ? phasesOf(answer)
    : ['Decode', 'Queue', 'Inference', 'Rest'].map((name) => [name, null, 'var(--rest)']);
  if (answer) {
    const { requestedMs, predictedMs } = answer.budget;
    const end = Math.max(requestedMs, predictedMs, answer.timing.totalMs) * 1.02;
    for (const [, ms, colour] of phases) {
      const piece = html('i');
      piece.style.width = `${((ms ?? 0) / end) * 100}%`;
      piece.style.background = colour;
      track.append(piece);
    }
    track.append(
      mark('predicted', `predicted ${formatMs(predictedMs)}`, predictedMs / end),
      mark('budget', `budget ${formatMs(requestedMs)}`, requestedMs / end),
    );
  }
  const values = phases.map(([name, ms, colour]) => {
    const dot = html('i', { class: 'dot' });
    dot.style.background = colour;
    const value = ms === null ? NONE : formatMs(ms);
    return html('div', {}, html('dt', {}, dot, ` ${name}`), html('dd', {}, value));
  });
  const total = answer ? formatMs(answer.timing.totalMs) : NONE;
  values.push(html('div', {}, html('dt', {}, 'Total'), html('dd', {}, total)));
  byId('timeline').replaceChildren(track, html('dl', {}, ...values));
}

/** @param {string} kind @param {string} text @param {number} at share of the line */
function mark(kind, text, at) {
  const flip = at > 0.6 ? ' flip' : '';
  const element = html('span', { class: `mark ${kind}${flip}` }, html('span', {}, text));
  element.style.left = `${at * 100}%`;
  return element;
}
