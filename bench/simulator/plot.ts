import { renderSvg } from '../chart.ts';
import type { Series } from '../chart.ts';
import type { Tier } from '../../src/scheduler/policy.ts';
import type { Outcome } from './run.ts';

/** Points along the time axis. */
const BINS = 150;

/** Over time of arrival: load and goodput, attainment, accuracy, tier mix. One SVG. */
export function plot(outcomes: readonly Outcome[], tiers: readonly Tier[], title: string): string {
  const end = Math.max(1, outcomes.at(-1)?.request.arrivedAt ?? 1);
  const bins: Outcome[][] = Array.from({ length: BINS }, () => []);
  for (const outcome of outcomes) {
    const index = Math.min(BINS - 1, Math.floor((outcome.request.arrivedAt / end) * BINS));
    bins[index]!.push(outcome);
  }
  const series = (
    name: string,
    read: (bin: readonly Outcome[]) => number | null,
    colour?: string,
  ): Series => ({
    name,
    points: bins.map((bin, index) => [((index + 0.5) / BINS) * end, read(bin)] as const),
    ...(colour !== undefined && { colour }),
  });
  const perSecond = (BINS * 1000) / end;
  const share = (part: number, whole: number) => (whole === 0 ? null : part / whole);
  const inTime = (bin: readonly Outcome[]) => bin.filter((outcome) => outcome.inTime);
  const correct = (bin: readonly Outcome[]) =>
    inTime(bin).reduce((sum, { tier }) => sum + tier!.accuracy, 0);
  const answeredBy = (bin: readonly Outcome[], { skip }: Tier) =>
    bin.filter(({ tier }) => tier?.skip === skip).length;

  return renderSvg({
    title,
    columns: 2,
    from: 0,
    to: end,
    ticks: [0, 0.25, 0.5, 0.75, 1].map((at) => [at * end, `${short((at * end) / 1000)} s`]),
    panels: [
      {
        title: 'Requests/s',
        unit: 'number',
        min: 0,
        series: [
          series('arrivals', (bin) => bin.length * perSecond),
          series('goodput', (bin) => correct(bin) * perSecond),
        ],
      },
      {
        title: 'SLO attainment',
        unit: 'share',
        min: 0,
        max: 1,
        series: [series('in time', (bin) => share(inTime(bin).length, bin.length))],
      },
      {
        title: 'Accuracy of answers in time',
        unit: 'share',
        min: tiers[0]!.accuracy,
        max: tiers.at(-1)!.accuracy,
        series: [series('expected', (bin) => share(correct(bin), inTime(bin).length))],
      },
      {
        title: 'Share of requests by sub-network; white: no answer',
        unit: 'share',
        min: 0,
        max: 1,
        stacked: 'values',
        series: tiers.map((tier, index) =>
          series(
            tier.skip,
            (bin) => share(answeredBy(bin, tier), bin.length),
            colourOf(index, tiers.length),
          ),
        ),
      },
    ],
  });
}

/** From sand for the shallowest to deep blue. */
function colourOf(index: number, count: number): string {
  const at = count < 2 ? 1 : index / (count - 1);
  return `hsl(${Math.round(45 + 175 * at)} 65% ${Math.round(68 - 30 * at)}%)`;
}

function short(value: number): string {
  return Number(value.toPrecision(3)).toString();
}
