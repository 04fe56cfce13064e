// The network as its stages: what always runs, what can be skipped, and the way round it.
import { svg } from './dom.js';

/**
 * @param {HTMLElement} place
 * @param {string} skip flags of the sub-network that ran, first stage first; '' when none has yet
 * @param {number} stages
 */
export function drawNetwork(place, skip, stages) {
  place.setAttribute('aria-label', inWords(skip, stages));
  place.replaceChildren(
    ...Array.from({ length: stages }, (_, stage) => drawStage(stage, skip[stage] ?? '')),
  );
}

/** @param {number} stage @param {string} flag F: ran in full; T: shortened; '': not known */
function drawStage(stage, flag) {
  const known = flag !== '';
  const full = flag === 'F';
  const lit = (/** @type {boolean} */ on) => (known && on ? ' lit' : '');
  return svg(
    'svg',
    { viewBox: '0 0 220 132', 'data-stage': stage + 1, 'data-ran': full ? 'full' : 'short' },
    svg('path', { class: `path${lit(true)}`, d: 'M0 72H100' }),
    svg('path', { class: `path${lit(full)}`, d: 'M100 72H206' }),
    svg('path', { class: `path${lit(!full)}`, d: 'M102 72C102 12 204 12 204 72' }),
    svg('path', { class: `path${lit(true)}`, d: 'M204 72H220' }),
    svg('rect', { class: `block${lit(true)}`, x: 14, y: 48, width: 76, height: 48, rx: 8 }),
    svg('text', { x: 52, y: 77 }, 'always'),
    svg('rect', {
      class: `block${lit(full)}${full ? '' : ' off'}`,
      x: 116,
      y: 48,
      width: 74,
      height: 48,
      rx: 8,
    }),
    svg('text', { x: 153, y: 77 }, !known ? 'skippable' : full ? 'ran' : 'skipped'),
    svg('text', { class: 'name', x: 102, y: 122 }, `Stage ${stage + 1}`),
  );
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
