import { SYNC_SECONDS } from '../simulator/autoscale.ts';
import type { FleetResult, Interval } from '../simulator/fleet.ts';
import { renderSvg } from '../chart.ts';
import type { Panel, Series } from '../chart.ts';
import { DAY_SECONDS } from './day.ts';

/** How one way of scaling got through the day. */
export interface Contender extends FleetResult {
  readonly name: string;
}

/** Width of a point, s. */
const STEP = 600;

/** Replicas, load, accuracy and attainment of a few contenders over the day. */
export function plot(records: readonly Contender[], speed: number): string {
  const panel = (
    title: string,
    unit: Panel['unit'],
    read: (part: readonly Interval[]) => number | null,
    look: Partial<Panel> & { steps?: boolean; of?: readonly Contender[] } = {},
  ): Panel => ({
    title,
    unit,
    ...look,
    series: (look.of ?? records).map(({ name, intervals }): Series => ({
      name: look.of ? 'requests/s' : name,
      steps: look.steps ?? false,
      points: inSteps(intervals).map(([at, part]) => [at, read(part)] as const),
    })),
  });
  const sum = (part: readonly Interval[], of: (each: Interval) => number) =>
    part.reduce((all, each) => all + of(each), 0);
  return renderSvg({
    title: 'A day, in steps of ten minutes',
    columns: 2,
    from: 0,
    to: DAY_SECONDS,
    ticks: [0, 6, 12, 18, 24].map((hour) => [hour * 3600, `${hour}:00`] as const),
    panels: [
      panel(
        'Requests/s',
        'number',
        (part) => (sum(part, ({ arrivals }) => arrivals) * speed) / (part.length * SYNC_SECONDS),
        { min: 0, of: records.slice(0, 1) },
      ),
      panel('Replicas', 'number', (part) => Math.max(...part.map(({ replicas }) => replicas)), {
        min: 0,
        steps: true,
      }),
      panel(
        'Accuracy of the answers in time',
        'share',
        (part) => sum(part, ({ correct }) => correct) / sum(part, ({ inTime }) => inTime),
      ),
      panel(
        'Answered within budget',
        'share',
        (part) => sum(part, ({ inTime }) => inTime) / sum(part, ({ arrivals }) => arrivals),
        { max: 1 },
      ),
    ],
  });
}

function inSteps(intervals: readonly Interval[]): [at: number, part: Interval[]][] {
  const parts = new Map<number, Interval[]>();
  for (const interval of intervals) {
    const at = Math.floor(interval.at / STEP) * STEP;
    const part = parts.get(at);
    if (part) part.push(interval);
    else parts.set(at, [interval]);
  }
  return [...parts];
}
