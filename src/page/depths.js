// The same photo at every depth: one row for each step of the ladder, each step asked for.
import { askSubNetwork } from './api.js';
import { html, tierColours } from './dom.js';
import { formatMacs, formatMs, percent } from './figures.js';
import { glyph } from './network.js';

/** @import { Model } from './api.js' */

/**
 * @param {HTMLElement} place
 * @param {Model} model
 * @param {Blob | null} photo
 * @param {boolean} all also the combinations that the service never chooses
 * @param {() => Promise<unknown>} quiet nothing else is asked: a row must not make an answer late
 * @param {AbortSignal} signal
 */
export async function fillDepths(place, model, photo, all, quiet, signal) {
  const colours = tierColours(model.tiers);
  const { subNetworks } = model.manifest;
  const shown = subNetworks.filter(({ skip }) => all || colours.has(skip));
  const deepestFirst = shown.toSorted((a, b) => b.macs - a.macs || a.skip.localeCompare(b.skip));
  const rows = deepestFirst.map(({ skip, macs, top1 }) => {
    const says = html('td', {}, '…');
    const ms = model.latencyNow[skip]?.['1'];
    const row = html(
      'tr',
      { 'data-skip': skip },
      html('th', { scope: 'row' }, glyph(skip, colours.get(skip) ?? 'var(--queue)'), skip),
      says,
      html('td', { class: 'number' }, top1 === null ? 'unknown' : percent(top1)),
      html('td', { class: 'number' }, ms === undefined ? '' : formatMs(ms)),
      html('td', { class: 'number' }, formatMacs(macs)),
    );
    return { skip, row, says };
  });
  place.replaceChildren(...rows.map(({ row }) => row));
  let isTaken = photo !== null;
  for (const { skip, says } of rows) {
    if (!isTaken || !photo) {
      says.textContent = '–';
      continue;
    }
    await quiet();
    try {
      const { label, probability } = await askSubNetwork(model, photo, skip, signal);
      says.textContent = `${label} (${percent(probability)})`;
    } catch {
      if (signal.aborted) return;
      // The reason is in the answer above; the other rows would only repeat it.
      isTaken = false;
      says.textContent = '–';
    }
  }
}

/** @param {HTMLElement} place @param {string} skip the sub-network that the service chose */
export function markChosen(place, skip) {
  for (const row of place.querySelectorAll('tr')) {
    const chosen = row.dataset['skip'] === skip;
    row.classList.toggle('chosen', chosen);
    row.querySelector('.tag')?.remove();
    if (chosen) row.querySelector('th')?.append(html('span', { class: 'tag' }, 'chosen'));
  }
}
