import type { Tier } from '../scheduler/policy.ts';
import type { Outcome } from './run.ts';

const WIDTH = 900;
const LEFT = 60;
const RIGHT = 20;
const PANEL = 130;
const GAP = 46;
const TOP = 40;
/** Points along the time axis. */
const BINS = 150;

/** What happened to the requests that arrived within one step of time. */
interface Bin {
  readonly outcomes: Outcome[];
}

/** A page of charts over time of arrival: load, attainment, accuracy, goodput, tier mix. */
export function plot(outcomes: readonly Outcome[], tiers: readonly Tier[], title: string): string {
  const end = Math.max(1, outcomes.at(-1)?.request.arrivedAt ?? 1);
  const seconds = end / 1000;
  const bins: Bin[] = Array.from({ length: BINS }, () => ({ outcomes: [] }));
  for (const outcome of outcomes) {
    const index = Math.min(BINS - 1, Math.floor((outcome.request.arrivedAt / end) * BINS));
    bins[index]!.outcomes.push(outcome);
  }
  const perSecond = BINS / seconds;
  const inTime = ({ outcomes: all }: Bin) => all.filter((outcome) => outcome.inTime);
  const correct = (bin: Bin) => inTime(bin).reduce((sum, { tier }) => sum + tier!.accuracy, 0);
  const share = (part: number, whole: number) => (whole === 0 ? null : part / whole);

  const arrivals = bins.map((bin) => bin.outcomes.length * perSecond);
  const goodput = bins.map((bin) => correct(bin) * perSecond);
  const lowest = tiers[0]!.accuracy;
  const highest = tiers.at(-1)!.accuracy;
  const margin = (highest - lowest) * 0.1 || 0.01;
  const rates = [0, Math.max(...arrivals) * 1.05] as const;
  const panels = [
    panel('arrivals and goodput, requests/s', rates, seconds, [
      line(arrivals, rates, '#9aa5b1'),
      line(goodput, rates, '#1f6feb'),
    ]),
    panel('SLO attainment', [0, 1], seconds, [
      line(
        bins.map((bin) => share(inTime(bin).length, bin.outcomes.length)),
        [0, 1],
        '#1a7f37',
      ),
    ]),
    panel('accuracy of answers in time', [lowest - margin, highest + margin], seconds, [
      line(
        bins.map((bin) => share(correct(bin), inTime(bin).length)),
        [lowest - margin, highest + margin],
        '#8250df',
      ),
    ]),
    panel('share of requests by sub-network; white: none', [0, 1], seconds, mix(bins, tiers)),
  ];
  const height = TOP + panels.length * (PANEL + GAP) + 24;
  const legend = tiers.map(({ skip }, index) => {
    const x = LEFT + index * ((WIDTH - LEFT - RIGHT) / tiers.length);
    const y = height - 12;
    return `<rect x="${x}" y="${y - 9}" width="10" height="10" fill="${colour(index, tiers.length)}"/><text x="${x + 14}" y="${y}">${escape(skip)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#24292f">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    `<text x="${LEFT}" y="22" font-size="15">${escape(title)}</text>`,
    ...panels.map(
      (content, i) => `<g transform="translate(0 ${TOP + i * (PANEL + GAP)})">${content}</g>`,
    ),
    ...legend,
    '</svg>\n',
  ].join('\n');
}

type Range = readonly [low: number, high: number];

function panel(
  label: string,
  [low, high]: Range,
  seconds: number,
  content: readonly string[],
): string {
  const right = WIDTH - RIGHT;
  const ticks = [0, 0.5, 1].map((at) => {
    const y = 14 + PANEL * (1 - at);
    return `<line x1="${LEFT}" x2="${right}" y1="${y}" y2="${y}" stroke="#d0d7de"/><text x="${LEFT - 6}" y="${y + 4}" text-anchor="end">${short(low + at * (high - low))}</text>`;
  });
  const times = [0, 0.25, 0.5, 0.75, 1].map((at) => {
    const x = LEFT + at * (right - LEFT);
    return `<text x="${x}" y="${PANEL + 30}" text-anchor="middle">${short(at * seconds)} s</text>`;
  });
  return [
    `<text x="${LEFT}" y="6" font-weight="600">${escape(label)}</text>`,
    ...ticks,
    ...times,
    ...content,
  ].join('');
}

/** Gaps where there is no value. */
function line(values: readonly (number | null)[], [low, high]: Range, stroke: string): string {
  let path = '';
  let pen = 'M';
  values.forEach((value, index) => {
    if (value === null) {
      pen = 'M';
      return;
    }
    const x = LEFT + ((index + 0.5) / BINS) * (WIDTH - LEFT - RIGHT);
    const y = 14 + PANEL * (1 - (value - low) / (high - low || 1));
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
  });
  return `<path d="${path}" fill="none" stroke="${stroke}" stroke-width="1.5"/>`;
}

function mix(bins: readonly Bin[], tiers: readonly Tier[]): string[] {
  const width = (WIDTH - LEFT - RIGHT) / BINS;
  return bins.flatMap(({ outcomes }, index) => {
    let y = 14 + PANEL;
    return tiers.map(({ skip }, tier) => {
      const count = outcomes.filter((outcome) => outcome.tier?.skip === skip).length;
      const tall = outcomes.length === 0 ? 0 : (PANEL * count) / outcomes.length;
      y -= tall;
      const x = LEFT + index * width;
      return tall === 0
        ? ''
        : `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${(width + 0.3).toFixed(1)}" height="${tall.toFixed(1)}" fill="${colour(tier, tiers.length)}"/>`;
    });
  });
}

/** From sand for the shallowest to deep blue. */
function colour(index: number, count: number): string {
  const at = count < 2 ? 1 : index / (count - 1);
  return `hsl(${Math.round(45 + 175 * at)} 65% ${Math.round(68 - 30 * at)}%)`;
}

function short(value: number): string {
  return Number(value.toPrecision(3)).toString();
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
