// The budget: a track that reaches as far as this machine's times do, with a stop for each
// sub-network, and a field for any other number.
import { byId, html, tierColours } from './dom.js';
import { formatMs } from './figures.js';
import { Track, stopsOf } from './track.js';

/** @import { Model } from './api.js' */

const slider = /** @type {HTMLInputElement} */ (byId('budget'));
const field = /** @type {HTMLInputElement} */ (byId('budget-number'));

/** So long after it was moved, in ms, a hand may still hold the slider. */
const HELD_MS = 3000;
/** Positions below the end of the track, to begin with. */
const AT_FIRST = 5;

export class Budget {
  track = new Track([]);
  /** By sub-network. @type {Map<string, HTMLButtonElement>} */
  #stops = new Map();
  /** A number that was typed or offered may lie beyond the track. */
  #isTyped = false;
  #movedAt = -Infinity;

  /** @param {(ms: number) => void} changed */
  constructor(changed) {
    this.changed = changed;
    /** In ms. @type {number} */
    this.ms = 100;
    slider.addEventListener('input', () => {
      this.#movedAt = performance.now();
      this.#chosen(this.track.at(Number(slider.value)), false);
    });
    field.addEventListener('change', () => {
      if (field.checkValidity()) this.#chosen(Number(field.value), true);
    });
  }

  /**
   * For a model that is new here, or the same with other sub-networks to choose among.
   *
   * @param {Model} model
   * @param {boolean} isNew
   */
  fit(model, isNew) {
    const colours = tierColours(model.tiers);
    this.#stops.clear();
    const buttons = model.tiers.map(({ skip }) => {
      const dot = html('i', { class: 'dot' });
      dot.style.background = colours.get(skip) ?? '';
      const button = html('button', { type: 'button', class: 'stop' }, dot, skip);
      this.#stops.set(skip, button);
      button.addEventListener('click', () => this.#chosen(Number(button.value), false));
      return button;
    });
    byId('stops').replaceChildren(...buttons);
    // The track that was held was another one.
    this.#movedAt = -Infinity;
    this.update(model);
    // Enough for the super-net, with some room.
    if (isNew) this.set(this.track.at(this.track.last - AT_FIRST), false);
  }

  /**
   * Where the stops are now: budgets grow while the service is busy.
   *
   * @param {Model} model
   */
  update(model) {
    const stops = stopsOf(model.tiers);
    // Where times have changed, another track, but not under someone's thumb.
    if (performance.now() - this.#movedAt > HELD_MS) {
      this.track = new Track(model.tiers);
      slider.max = String(this.track.last);
      byId('track-from').textContent = formatMs(this.track.from);
      byId('track-to').textContent = formatMs(this.track.to);
      this.#stay();
    }
    const share = (/** @type {number} */ ms) => (this.track.positionOf(ms) / this.track.last) * 100;
    const colours = tierColours(model.tiers);
    const edge = html('i', { class: 'too-short' });
    edge.style.width = `${share(stops[0] ?? 0)}%`;
    const ticks = model.tiers.map(({ skip }, index) => {
      const ms = stops[index] ?? 0;
      const stop = this.#stops.get(skip);
      if (stop) {
        stop.value = String(ms);
        stop.title = `${formatMs(ms)} are enough for ${skip} now`;
        stop.setAttribute('aria-label', `${skip}: ${formatMs(ms)}`);
      }
      const tick = html('i', { class: 'tick' });
      tick.style.left = `${share(ms)}%`;
      tick.style.background = colours.get(skip) ?? '';
      return tick;
    });
    byId('ticks').replaceChildren(edge, ...ticks);
  }

  /** After the track has changed: what was chosen on it stays on it, what was typed stays. */
  #stay() {
    const { from, to } = this.track;
    const ms = this.#isTyped ? this.ms : Math.min(to, Math.max(from, this.ms));
    this.set(ms, this.#isTyped);
  }

  /** @param {number} ms without a request for it @param {boolean} isTyped rather than chosen */
  set(ms, isTyped = true) {
    this.ms = ms;
    this.#isTyped = isTyped;
    slider.value = String(this.track.positionOf(ms));
    slider.setAttribute('aria-valuetext', formatMs(ms));
    field.value = String(ms);
  }

  /** @param {number} ms @param {boolean} isTyped */
  #chosen(ms, isTyped) {
    this.set(ms, isTyped);
    this.changed(ms);
  }
}
