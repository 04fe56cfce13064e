// The live strip: what the service did, second by second, as it tells of itself. A pointer or the
// arrow keys read single seconds.
import { html, key, svg, tierColours } from './dom.js';
import { formatMs, percent } from './figures.js';

/** @import { Second, Tier } from './api.js' */

const SECONDS = 120;
const WIDTH = 1200;
const STEP = WIDTH / SECONDS;
/** Seconds between two marks of the time axis. */
const MARK = 30;

/** @param {number} at seconds since 1970 */
const clock = (at) => new Date(at * 1000).toLocaleTimeString();

export class Strip {
  /** @type {readonly Second[]} */
  #seconds = [];
  #now = 0;
  /** Position that is read, in seconds from the left edge; null: none. @type {number | null} */
  #cursor = null;
  #plots = html('div', { class: 'plots' });
  #line = html('i', { class: 'cursor', hidden: '' });
  #readout = html('p', { class: 'readout' });

  /** @param {HTMLElement} place @param {readonly Tier[]} tiers cheapest first */
  constructor(place, tiers) {
    this.tiers = tiers;
    const frame = html(
      'div',
      {
        class: 'strip',
        tabindex: '0',
        role: 'group',
        'aria-label': 'Charts of the last two minutes; arrow keys read single seconds',
      },
      this.#plots,
      this.#line,
    );
    frame.addEventListener('pointermove', (event) => {
      const box = this.#plots.querySelector('svg')?.getBoundingClientRect();
      if (!box) return;
      const share = (event.clientX - box.left) / box.width;
      this.#read(share >= 0 && share < 1 ? Math.floor(share * SECONDS) : null);
    });
    frame.addEventListener('pointerleave', () => this.#read(null));
    frame.addEventListener('blur', () => this.#read(null));
    frame.addEventListener('keydown', (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (event.key === 'Escape') this.#read(null);
      if (step === undefined) return;
      event.preventDefault();
      const from = this.#cursor ?? SECONDS - 1 - Math.min(0, step);
      this.#readout.setAttribute('aria-live', 'polite');
      this.#read(Math.min(SECONDS - 1, Math.max(0, from + step)));
    });
    place.replaceChildren(frame, this.#readout);
  }

  /** @param {readonly Second[]} seconds @param {number} now seconds since 1970 */
  draw(seconds, now) {
    this.#now = now;
    this.#seconds = seconds.filter(({ at }) => at >= now - SECONDS && at < now);
    const shown = this.#seconds;
    const x = (/** @type {number} */ at) => (at - (now - SECONDS)) * STEP;
    this.#plots.replaceChildren(
      tierMix(shown, x, this.tiers),
      accuracy(shown, x, this.tiers),
      budgetUsed(shown, x),
      timeAxis(now),
    );
    this.#read(this.#cursor);
  }

  /** @param {number | null} cursor */
  #read(cursor) {
    this.#cursor = cursor;
    this.#line.hidden = cursor === null;
    if (cursor === null) {
      this.#readout.removeAttribute('aria-live');
      this.#readout.textContent = 'Point at a second to read it.';
      return;
    }
    this.#line.style.setProperty('--at', String((cursor + 0.5) / SECONDS));
    const at = this.#now - SECONDS + cursor;
    const second = this.#seconds.find((one) => one.at === at);
    this.#readout.textContent = `${clock(at)}: ${second ? inWords(second) : 'nothing'}`;
  }
}

/** @param {Second} second */
function inWords({ tiers, refused, accuracy: mean, p50Ms, p99Ms, p99Used }) {
  const counts = Object.entries(tiers).map(([skip, count]) => `${count} by ${skip}`);
  if (refused > 0) counts.push(`${refused} refused`);
  if (mean !== null) counts.push(`expected accuracy ${percent(mean)}`);
  if (p50Ms !== null && p99Ms !== null) {
    counts.push(`median ${formatMs(p50Ms)}, 99th percentile ${formatMs(p99Ms)}`);
  }
  if (p99Used !== null) counts.push(`${Math.round(p99Used * 100)} % of the budget`);
  return counts.join(', ');
}

/** @param {number} now */
function timeAxis(now) {
  const axis = html('div', { class: 'time-axis', 'aria-hidden': 'true' });
  for (let back = SECONDS; back >= 0; back -= MARK) {
    const label = html('span', {}, back === 0 ? 'now' : clock(now - back));
    label.style.left = `${(1 - back / SECONDS) * 100}%`;
    axis.append(label);
  }
  return axis;
}

/**
 * @param {string} title
 * @param {(Node | string)[]} keys
 * @param {[text: string, y: number][]} values of the axis, with their height
 * @param {string} words
 * @param {number} height
 * @param {Element[]} shapes
 */
function plot(title, keys, values, words, height, shapes) {
  const grid = values.map(([, y]) =>
    svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y, y2: y }),
  );
  const picture = svg(
    'svg',
    {
      viewBox: `0 0 ${WIDTH} ${height}`,
      height,
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': `${title}: ${words}`,
    },
    ...grid,
    ...shapes,
  );
  const axis = values.map(([text, y]) => {
    const label = html('span', {}, text);
    label.style.top = `${y}px`;
    return label;
  });
  return html(
    'figure',
    {},
    html('figcaption', {}, html('b', {}, title), html('span', { class: 'legend' }, ...keys)),
    html(
      'div',
      { class: 'plot' },
      html('div', { class: 'axis', 'aria-hidden': 'true' }, ...axis),
      picture,
    ),
  );
}

/**
 * @param {readonly Second[]} seconds
 * @param {(at: number) => number} x
 * @param {readonly Tier[]} tiers
 */
function tierMix(seconds, x, tiers) {
  const HEIGHT = 120;
  const colours = tierColours(tiers);
  const totals = seconds.map(
    ({ tiers: counts, refused }) => Object.values(counts).reduce((a, b) => a + b, 0) + refused,
  );
  const most = niceAbove(Math.max(4, ...totals));
  const heightOf = (/** @type {number} */ count) => (count / most) * (HEIGHT - 8);
  const shapes = seconds.flatMap(({ at, tiers: counts, refused }) => {
    let top = HEIGHT;
    const bar = (/** @type {number} */ count, /** @type {string} */ colour) => {
      const height = heightOf(count);
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
      bar(refused, 'var(--refused)'),
    ];
  });
  const refusals = seconds.reduce((sum, { refused }) => sum + refused, 0);
  const images = totals.reduce((a, b) => a + b, 0) - refusals;
  return plot(
    'Images a second, by sub-network',
    [
      ...tiers.toReversed().map(({ skip }) => key(skip, colours.get(skip) ?? '')),
      key('refused', 'var(--refused)'),
    ],
    [most, most / 2, 0].map((count) => [String(count), HEIGHT - heightOf(count)]),
    `${images} answered, ${refusals} requests refused`,
    HEIGHT,
    shapes,
  );
}

/** @param {number} value the next of 1, 2, 4 and 10 times a power of ten */
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 4, 10].find((step) => step * power >= value) ?? 10);
}

/**
 * @param {readonly Second[]} seconds
 * @param {(at: number) => number} x
 * @param {readonly Tier[]} tiers
 */
function accuracy(seconds, x, tiers) {
  const HEIGHT = 64;
  const low = tiers[0]?.accuracy ?? 0;
  const high = tiers.at(-1)?.accuracy ?? 1;
  const y = (/** @type {number} */ value) =>
    8 + (1 - (value - low) / Math.max(1e-9, high - low)) * (HEIGHT - 16);
  const last = seconds.findLast((second) => second.accuracy !== null)?.accuracy;
  return plot(
    'Expected accuracy of what was answered',
    [last == null ? 'no answers in time yet' : `last ${percent(last)}`],
    [high, low].map((value) => [percent(value), y(value)]),
    last == null ? 'nothing answered' : `last ${percent(last)}, at best ${percent(high)}`,
    HEIGHT,
    [line(seconds, x, (second) => second.accuracy, y, 'var(--good)')],
  );
}

/** @param {readonly Second[]} seconds @param {(at: number) => number} x */
function budgetUsed(seconds, x) {
  const HEIGHT = 90;
  const most = Math.max(1.25, ...seconds.map(({ p99Used }) => Math.min(p99Used ?? 0, 3)));
  const y = (/** @type {number} */ share) =>
    HEIGHT - 6 - (Math.min(share, most) / most) * (HEIGHT - 14);
  const last = seconds.findLast(({ p99Ms }) => p99Ms !== null);
  const words = last
    ? `last median ${formatMs(last.p50Ms ?? 0)}, 99th percentile ${formatMs(last.p99Ms ?? 0)}`
    : 'no answers yet';
  return plot(
    'Share of the budget used',
    [key('median', 'var(--accent)'), key('99th percentile', 'var(--decode)'), words],
    [1, 0.5, 0].map((share) => [`${share * 100} %`, y(share)]),
    words,
    HEIGHT,
    [
      svg('line', { class: 'limit', x1: 0, x2: WIDTH, y1: y(1), y2: y(1) }),
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
  const path = svg('path', { d });
  path.style.stroke = colour;
  return path;
}
