// One answer: the verdict in words, the probabilities as bars, the time on a line.
import { formatMs, html, percent } from './dom.js';

/** @import { Answer } from './api.js' */

/** @param {HTMLElement} place @param {Answer} answer */
export function drawVerdict(place, answer) {
  const [best] = answer.predictions;
  const { met, requestedMs, actualMs } = answer.budget;
  place.className = 'verdict';
  place.replaceChildren(
    html('strong', {}, best?.label ?? 'nothing'),
    ` in ${formatMs(actualMs)}: ${met ? 'within' : 'over'} the budget of ${formatMs(requestedMs)}, ` +
      `by sub-network ${answer.subNetwork.skip} ` +
      `(expected accuracy ${percent(answer.subNetwork.expectedAccuracy)}).`,
  );
}

/** @param {HTMLElement} place @param {Answer} answer */
export function drawBars(place, answer) {
  place.replaceChildren(
    ...answer.predictions.map(({ label, probability }) => {
      const bar = html('i');
      bar.style.width = `${probability * 100}%`;
      const track = html('span', { class: 'track', 'aria-hidden': 'true' }, bar);
      return html('li', {}, html('span', {}, label), track, html('b', {}, percent(probability)));
    }),
  );
}

/** @param {HTMLElement} place @param {Answer} answer */
export function drawTimeline(place, answer) {
  const { timing, budget } = answer;
  const { decodeMs, queueMs, inferenceMs, totalMs } = timing;
  /** @type {[string, number, string][]} */
  const phases = [
    ['Decode', decodeMs, 'var(--decode)'],
    ['Queue', queueMs, 'var(--queue)'],
    ['Inference', inferenceMs, 'var(--infer)'],
    ['Rest', Math.max(0, totalMs - decodeMs - queueMs - inferenceMs), 'var(--rest)'],
  ];
  const end = Math.max(budget.requestedMs, budget.predictedMs, totalMs) * 1.02;
  const track = html('div', { class: 'track', 'aria-hidden': 'true' });
  for (const [, ms, colour] of phases) {
    const piece = html('i');
    piece.style.width = `${(ms / end) * 100}%`;
    piece.style.background = colour;
    track.append(piece);
  }
  track.append(
    mark('predicted', `predicted ${formatMs(budget.predictedMs)}`, budget.predictedMs / end),
    mark('budget', `budget ${formatMs(budget.requestedMs)}`, budget.requestedMs / end),
  );
  const values = phases.map(([name, ms, colour]) => {
    const dot = html('i', { class: 'dot' });
    dot.style.background = colour;
    return html('div', {}, html('dt', {}, dot, ` ${name}`), html('dd', {}, formatMs(ms)));
  });
  values.push(html('div', {}, html('dt', {}, 'Total'), html('dd', {}, formatMs(totalMs))));
  place.replaceChildren(track, html('dl', {}, ...values));
}

/** @param {string} kind @param {string} text @param {number} at share of the line */
function mark(kind, text, at) {
  const flip = at > 0.6 ? ' flip' : '';
  const element = html('span', { class: `mark ${kind}${flip}` }, html('span', {}, text));
  element.style.left = `${at * 100}%`;
  return element;
}
