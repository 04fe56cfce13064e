// The same photo at every depth: one row for each step of the ladder, each step asked for.
import { askSubNetwork } from './api.js';
import { formatMs, html, percent, tierColours } from './dom.js';
import { glyph } from './network.js';

/** @import { Model } from './api.js' */

/**
 * @param {HTMLElement} place
 * @param {Model} model
 * @param {Blob} photo
 * @param {boolean} all also the combinations that the service never chooses
 * @param {AbortSignal} signal
 */
export async function fillDepths(place, model, photo, all, signal) {
  const colours = tierColours(model.tiers);
  const shown = all
    ? model.manifest.subNetworks.map(({ skip, macs, top1 }) => ({ skip, macs, accuracy: top1 }))
    : model.tiers;
  const deepestFirst = shown.toSorted((a, b) => b.macs - a.macs || a.skip.localeCompare(b.skip));
  const rows = deepestFirst.map((tier) => {
    const says = html('td', {}, '…');
    const ms = model.latency[tier.skip]?.['1'];
    const row = html(
      'tr',
      { 'data-skip': tier.skip },
      html(
        'th',
        { scope: 'row' },
        glyph(tier.skip, colours.get(tier.skip) ?? 'var(--queue)'),
        tier.skip,
      ),
      says,
      html('td', { class: 'number' }, tier.accuracy === null ? 'unknown' : percent(tier.accuracy)),
      html('td', { class: 'number' }, ms === undefined ? '' : formatMs(ms)),
      html('td', { class: 'number' }, `${(tier.macs / 1e6).toFixed(1)} M`),
    );
    return { tier, row, says };
  });
  place.replaceChildren(...rows.map(({ row }) => row));
  for (const { tier, says } of rows) {
    try {
      const { label, probability } = await askSubNetwork(model, photo, tier.skip, signal);
      says.textContent = `${label} (${percent(probability)})`;
    } catch (error) {
      if (signal.aborted) return;
      says.textContent = error instanceof Error ? error.message : String(error);
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
