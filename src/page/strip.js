// The live strip: what the service did, second by second, as it tells of itself.
import { formatMs, html, percent, svg, tierColours } from './dom.js';

/** @import { Second, Tier } from './api.js' */

const SECONDS = 120;
const WIDTH = 1000;
const STEP = WIDTH / SECONDS;

/**
 * @param {HTMLElement} place
 * @param {readonly Second[]} seconds
 * @param {number} now seconds since 1970
 * @param {readonly Tier[]} tiers cheapest first
 */
export function drawStrip(place, seconds, now, tiers) {
  const shown = seconds.filter(({ at }) => at >= now - SECONDS && at < now);
  const x = (/** @type {number} */ at) => (at - (now - SECONDS)) * STEP;
  place.replaceChildren(tierMix(shown, x, tiers), accuracy(shown, x, tiers), budgetUsed(shown, x));
}

/**
 * @param {string} title
 * @param {(Node | string)[]} key
 * @param {string} top what the upper edge stands for
 * @param {string} inWords
 * @param {number} height
 * @param {Element[]} shapes
 */
function plot(title, key, top, inWords, height, shapes) {
  const picture = svg(
    'svg',
    {
      viewBox: `0 0 ${WIDTH} ${height}`,
      height,
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': `${title}: ${inWords}`,
    },
    ...shapes,
  );
  return html(
    'figure',
    {},
    html('figcaption', {}, html('b', {}, title), html('span', { class: 'legend' }, ...key)),
    html('div', { class: 'plot' }, html('span', { class: 'top-value' }, top), picture),
  );
}

/** @param {string} text @param {string} colour */
function key(text, colour) {
  const dot = html('i', { class: 'dot' });
  dot.style.background = colour;
  return html('span', {}, dot, ` ${text}`);
}

/**
 * @param {readonly Second[]} seconds
 * @param {(at: number) => number} x
 * @param {readonly Tier[]} tiers
 */
function tierMix(seconds, x, tiers) {
  const HEIGHT = 110;
  const colours = tierColours(tiers);
  const totals = seconds.map(
    ({ tiers: counts, refused }) => Object.values(counts).reduce((a, b) => a + b, 0) + refused,
  );
  const most = Math.max(1, ...totals);
  const shapes = seconds.flatMap(({ at, tiers: counts, refused }) => {
    let top = HEIGHT;
    const bar = (/** @type {number} */ count, /** @type {string} */ colour) => {
      const height = (count / most) * (HEIGHT - 14);
      top -= height;
      const rect = svg('rect', { x: x(at) + 0.7, y: top, width: STEP - 1.4, height });
      rect.style.fill = colour;
      return rect;
    };
    // Deep below, shallow above, refused on top: depth is seen to give way from the bottom up.
    const known = tiers
      .toReversed()
      .map(({ skip }) => /** @type {const} */ ([skip, colours.get(skip) ?? '']));
    const others = Object.keys(counts).filter((skip) => !colours.has(skip));
    return [
      ...known.map(([skip, colour]) => bar(counts[skip] ?? 0, colour)),
      ...others.map((skip) => bar(counts[skip] ?? 0, 'var(--muted)')),
      bar(refused, 'var(--bad)'),
    ];
  });
  const refusals = seconds.reduce((sum, { refused }) => sum + refused, 0);
  const images = totals.reduce((a, b) => a + b, 0) - refusals;
  return plot(
    'Images by sub-network',
    [
      ...tiers.toReversed().map(({ skip }) => key(skip, colours.get(skip) ?? '')),
      key('refused', 'var(--bad)'),
    ],
    `${most} a second`,
    `${images} answered, ${refusals} requests refused`,
    HEIGHT,
    shapes,
  );
}

/**
 * @param {readonly Second[]} seconds
 * @param {(at: number) => number} x
 * @param {readonly Tier[]} tiers
 */
function accuracy(seconds, x, tiers) {
  const HEIGHT = 60;
  const low = tiers[0]?.accuracy ?? 0;
  const high = tiers.at(-1)?.accuracy ?? 1;
  const y = (/** @type {number} */ value) =>
    8 + (1 - (value - low) / Math.max(1e-9, high - low)) * (HEIGHT - 16);
  const last = seconds.findLast((second) => second.accuracy !== null)?.accuracy;
  return plot(
    'Delivered accuracy',
    [last == null ? 'no answers yet' : `now ${percent(last)}`],
    percent(high),
    last == null ? 'nothing delivered' : `last ${percent(last)}, at best ${percent(high)}`,
    HEIGHT,
    [line(seconds, x, (second) => second.accuracy, y, 'var(--good)')],
  );
}

/** @param {readonly Second[]} seconds @param {(at: number) => number} x */
function budgetUsed(seconds, x) {
  const HEIGHT = 84;
  const most = Math.max(1.25, ...seconds.map(({ p99Used }) => Math.min(p99Used ?? 0, 3)));
  const y = (/** @type {number} */ share) =>
    HEIGHT - 4 - (Math.min(share, most) / most) * (HEIGHT - 8);
  const last = seconds.findLast(({ p99Ms }) => p99Ms !== null);
  const limit = svg('line', { class: 'limit', x1: 0, x2: WIDTH, y1: y(1), y2: y(1) });
  limit.setAttribute('vector-effect', 'non-scaling-stroke');
  const words = last
    ? `median ${formatMs(last.p50Ms ?? 0)}, 99th percentile ${formatMs(last.p99Ms ?? 0)}`
    : 'no answers yet';
  return plot(
    'Share of the budget used',
    [
      key('median', 'var(--accent)'),
      key('99th percentile', 'var(--decode)'),
      key('the budget', 'var(--bad)'),
      words,
    ],
    percent(most),
    words,
    HEIGHT,
    [
      limit,
      line(seconds, x, ({ p99Used }) => p99Used, y, 'var(--decode)'),
      line(seconds, x, ({ p50Used }) => p50Used, y, 'var(--accent)'),
    ],
  );
}

/**
 * A line that breaks where seconds are missing.
 *
 * @param {readonly Second[]} seconds
 * @param {(at: number) => number} x
 * @param {(second: Second) => number | null} value
 * @param {(value: number) => number} y
 * @param {string} colour
 */
function line(seconds, x, value, y, colour) {
  let before = -Infinity;
  let d = '';
  for (const second of seconds) {
    const at = value(second);
    if (at === null) continue;
    const left = x(second.at);
    d += `${second.at - before > 1 ? `M${left} ${y(at)}` : ''}L${left + STEP} ${y(at)}`;
    before = second.at;
  }
  const path = svg('path', { d, 'vector-effect': 'non-scaling-stroke' });
  path.style.stroke = colour;
  return path;
}
