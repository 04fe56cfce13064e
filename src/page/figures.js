// How figures are written. Nothing here needs a browser.

/** @param {number} ms one decimal below 100 ms, so that neighbours on the track differ */
export function formatMs(ms) {
  return `${Number(ms.toFixed(ms < 100 ? 1 : 0))} ms`;
}

/** @param {number} share */
export function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

/** @param {number} macs */
export function formatMacs(macs) {
  return macs >= 1e9 ? `${(macs / 1e9).toFixed(2)} G` : `${(macs / 1e6).toFixed(1)} M`;
}

/**
 * By how much an answer kept or missed its budget: rounding never makes the two look the same.
 *
 * @param {{ requestedMs: number, actualMs: number, met: boolean }} budget
 */
export function kept({ requestedMs, actualMs, met }) {
  if (met) return `within the budget of ${formatMs(requestedMs)}`;
  const over = actualMs - requestedMs;
  const text = over < 0.1 ? `${Number(over.toPrecision(1))} ms` : formatMs(over);
  return `${text} over the budget of ${formatMs(requestedMs)}`;
}

/**
 * A budget that will be enough where `smallestMs` just was: the next answer may take a bit longer.
 *
 * @param {number} smallestMs
 */
export function enough(smallestMs) {
  const ms = Math.max(smallestMs * 1.25, smallestMs + 2);
  return ms < 20 ? Math.ceil(ms * 2) / 2 : Math.ceil(ms);
}

/** @param {string} text for a POSIX shell */
function quoted(text) {
  return /^[\w./@:=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * The command that asks the same.
 *
 * @param {string} origin
 * @param {string} file
 * @param {number} budgetMs
 * @param {number} minAccuracy
 */
export function curlOf(origin, file, budgetMs, minAccuracy) {
  const headers = [`X-Latency-Budget-Ms: ${budgetMs}`];
  if (minAccuracy > 0) headers.push(`X-Min-Accuracy: ${minAccuracy}`);
  const options = headers.map((header) => `-H '${header}'`).join(' ');
  return `curl ${quoted(`${origin}/classify`)} ${options} -F ${quoted(`image=@${file}`)}`;
}
