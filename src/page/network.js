// The network as its stages: what always runs, what can be skipped, and the way round it. One row
// for each pass: a second look is a pass of its own.
import { html, svg } from './dom.js';
import { formatMs, percent } from './figures.js';

/**
 * @typedef {{ skip: string, title?: string }} Pass
 * @import { Answer } from './api.js'
 */

/** @param {Answer} answer @returns {Pass[]} */
export function passesOf({ looks, subNetwork }) {
  if (looks.length < 2) return [{ skip: subNetwork.skip }];
  return looks.map(({ subNetwork: skip, atMs, confidence }, index) => ({
    skip,
    title: `${index === 0 ? 'First look' : 'Second look'}: ${skip}, after ${formatMs(atMs)}, ${percent(confidence)} sure`,
  }));
}

/**
 * Redraws in place, so that what changes is seen to move.
 *
 * @param {HTMLElement} place
 * @param {readonly Pass[]} passes '' as flags: none has run yet
 * @param {number} stages
 */
export function drawNetwork(place, passes, stages) {
  const isSame =
    place.children.length === passes.length &&
    place.querySelectorAll('svg').length === passes.length * stages;
  if (!isSame) {
    place.replaceChildren(
      ...passes.map(() =>
        html(
          'figure',
          { class: 'pass' },
          html('figcaption', { class: 'muted' }),
          html(
            'div',
            { class: 'stages', role: 'img' },
            ...Array.from({ length: stages }, (_, stage) => drawStage(stage)),
          ),
        ),
      ),
    );
  }
  place.classList.toggle('two', passes.length > 1);
  passes.forEach(({ skip, title }, index) => {
    const figure = place.children[index];
    const caption = figure?.querySelector('figcaption');
    if (caption) caption.textContent = title ?? '';
    figure?.querySelector('.stages')?.setAttribute('aria-label', inWords(skip, stages));
    figure?.querySelectorAll('svg').forEach((stage, at) => lightStage(stage, skip[at] ?? ''));
  });
}

/** @param {number} stage */
function drawStage(stage) {
  return svg(
    'svg',
    { viewBox: '0 0 220 132', 'data-stage': stage + 1, 'aria-hidden': 'true' },
    svg('path', { class: 'path', 'data-part': 'always', d: 'M0 72H100' }),
    svg('path', { class: 'path', 'data-part': 'full', d: 'M100 72H206' }),
    svg('path', { class: 'path', 'data-part': 'short', d: 'M102 72C102 12 204 12 204 72' }),
    svg('path', { class: 'path', 'data-part': 'always', d: 'M204 72H220' }),
    svg('rect', {
      class: 'block',
      'data-part': 'always',
      x: 14,
      y: 48,
      width: 76,
      height: 48,
      rx: 8,
    }),
    svg('text', { x: 52, y: 77 }, 'always'),
    svg('rect', {
      class: 'block rest',
      'data-part': 'full',
      x: 116,
      y: 48,
      width: 74,
      height: 48,
      rx: 8,
    }),
    svg('text', { class: 'rest', x: 153, y: 77 }),
    svg('text', { class: 'name', x: 102, y: 122 }, `Stage ${stage + 1}`),
  );
}

/** @param {Element} stage @param {string} flag F: ran in full; T: shortened; '': not known */
function lightStage(stage, flag) {
  const isFull = flag === 'F';
  stage.setAttribute('data-ran', flag === '' ? 'not' : isFull ? 'full' : 'short');
  for (const part of stage.querySelectorAll('[data-part]')) {
    const kind = part.getAttribute('data-part');
    const isLit = flag !== '' && (kind === 'always' || kind === (isFull ? 'full' : 'short'));
    part.classList.toggle('lit', isLit);
  }
  stage.querySelector('.block.rest')?.classList.toggle('off', flag === 'T');
  const text = stage.querySelector('text.rest');
  if (text) text.textContent = flag === '' ? 'skippable' : isFull ? 'ran' : 'skipped';
}

/** @param {string} skip @param {number} stages */
export function inWords(skip, stages) {
  if (skip === '') return `A network of ${stages} stages, each with a part that can be skipped`;
  const short = skip.split('').flatMap((flag, stage) => (flag === 'T' ? [String(stage + 1)] : []));
  if (short.length === 0) return `All ${stages} stages ran in full`;
  if (short.length === stages) return `All ${stages} stages ran shortened`;
  const list = short.length > 1 ? `${short.slice(0, -1).join(', ')} and ${short.at(-1)}` : short[0];
  return `Stage${short.length > 1 ? 's' : ''} ${list} shortened, the others in full`;
}

/**
 * A sub-network in one line: two squares for each stage.
 *
 * @param {string} skip
 * @param {string} colour
 */
export function glyph(skip, colour) {
  const stages = skip.split('');
  const width = 92 / stages.length;
  const part = (width - 5) / 2;
  return svg(
    'svg',
    { class: 'glyph', viewBox: '0 0 92 14', 'aria-hidden': 'true' },
    ...stages.flatMap((flag, stage) => {
      const x = stage * width;
      const box = { y: 1, width: part, height: 12, rx: 2.5 };
      const always = svg('rect', { x: x + 0.5, ...box });
      always.style.fill = colour;
      const rest = svg('rect', { x: x + part + 1.5, ...box });
      if (flag === 'F') rest.style.fill = colour;
      else {
        rest.style.fill = 'none';
        rest.style.stroke = 'var(--muted)';
        rest.setAttribute('stroke-dasharray', '2 1.5');
      }
      return [always, rest];
    }),
  );
}
