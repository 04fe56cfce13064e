// The little that every part of the page needs to make elements and to write figures.

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id} in the page`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {(Node | string)[]} children
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {string} text @param {string} colour */
export function key(text, colour) {
  const dot = html('i', { class: 'dot' });
  dot.style.background = colour;
  return html('span', { class: 'key' }, dot, ` ${text}`);
}

/**
 * The colour of a depth, from shallow (0) to deep (1).
 *
 * @param {number} depth
 */
function depthColour(depth) {
  return `color-mix(in oklch, var(--shallow), var(--deep) ${Math.round(depth * 100)}%)`;
}

/**
 * A ladder's colours by sub-network.
 *
 * @param {readonly { skip: string }[]} tiers cheapest first
 * @returns {Map<string, string>}
 */
export function tierColours(tiers) {
  const steps = Math.max(1, tiers.length - 1);
  return new Map(tiers.map(({ skip }, index) => [skip, depthColour(index / steps)]));
}
