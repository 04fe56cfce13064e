import type { LatencyTable } from '../scheduler/latency.ts';
import type { Tier } from '../scheduler/policy.ts';

const WIDTH = 720;
const HEIGHT = 420;
const LEFT = 64;
const RIGHT = 120;
const TOP = 44;
const BOTTOM = 52;

/** Time per batch against batch size, both logarithmic, one line for each sub-network. */
export function latencyPlot(
  tiers: readonly Tier[],
  latency: LatencyTable,
  sizes: readonly number[],
  title: string,
): string {
  const times = tiers.flatMap(({ skip }) => sizes.map((size) => latency[skip]![size]!));
  const low = 10 ** Math.floor(Math.log10(Math.min(...times)));
  const high = Math.max(low * 10, ...times);
  const most = Math.max(2, sizes.at(-1)!);
  const x = (size: number) => LEFT + (Math.log(size) / Math.log(most)) * (WIDTH - LEFT - RIGHT);
  const y = (ms: number) =>
    HEIGHT - BOTTOM - (Math.log(ms / low) / Math.log(high / low)) * (HEIGHT - TOP - BOTTOM);

  const grid = ticks(low, high).map(
    (ms) =>
      `<path class="grid" d="M${LEFT} ${at(y(ms))}H${WIDTH - RIGHT}"/>` +
      `<text x="${LEFT - 8}" y="${at(y(ms) + 4)}" text-anchor="end">${ms}</text>`,
  );
  const axis = sizes.map(
    (size) =>
      `<text x="${at(x(size))}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${size}</text>`,
  );
  const lines = tiers.map(({ skip }, index) => {
    const colour = `hsl(${190 + (70 * index) / Math.max(1, tiers.length - 1)} 65% 42%)`;
    const points = sizes.map((size) => `${at(x(size))},${at(y(latency[skip]![size]!))}`);
    const end = y(latency[skip]![sizes.at(-1)!]!);
    return (
      `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2.5"/>` +
      `<text x="${WIDTH - RIGHT + 10}" y="${at(end + 4)}" style="fill:${colour}">${skip}</text>`
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}">
<style>text{font:13px system-ui,sans-serif;fill:#566074}.grid{stroke:#dde1e9}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="24" style="font-weight:600;fill:#141a24">${escaped(title)}: ms per batch</text>
${[...grid, ...axis, ...lines].join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 10}" text-anchor="middle">images in the batch</text>
</svg>
`;
}

/** 1, 2 and 5 times the powers of ten. */
function ticks(low: number, high: number): number[] {
  const found: number[] = [];
  for (let power = low; power <= high; power *= 10) {
    found.push(...[1, 2, 5].map((step) => Number((power * step).toPrecision(1))));
  }
  return found.filter((ms) => ms >= low && ms <= high);
}

const at = (value: number) => Math.round(value * 10) / 10;

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
