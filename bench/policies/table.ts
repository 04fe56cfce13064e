import { headroom, missedAims } from './aims.ts';
import { BOUND } from './cell.ts';
import type { BenchRecord } from './cell.ts';

/** What is reached in one cell: means over seeds. */
export interface Verdict {
  readonly table: string;
  readonly traffic: string;
  readonly load: number;
  readonly ours: BenchRecord;
  readonly rival: BenchRecord;
  /** Absent: it was not computed. */
  readonly bound: BenchRecord | undefined;
  /** Ours minus the best rival's delivered accuracy, and its 95 % interval (paired by seed). */
  readonly lead: number;
  readonly interval: number;
  /** Delivered over the bound's: the share of the best possible goodput. */
  readonly share: number | null;
  /** Of the accuracy between base-net and bound. */
  readonly headroom: number | null;
  readonly reached: boolean;
  readonly missed: readonly string[];
}

/** Two-sided 95 % quantile of Student's t, by degrees of freedom from 1. */
const STUDENT = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
/** For more, the normal quantile and the next terms of the series: right to 0.01. */
const studentFrom10 = (degrees: number) => 1.96 + 2.37 / degrees + 2.82 / degrees ** 2;

export function verdicts(
  records: readonly BenchRecord[],
  base: ReadonlyMap<string, number>,
): Verdict[] {
  const cells = groupBy(records, ({ table, load, cv2, trace, jitter }) =>
    [table, load, cv2, trace, jitter].join(),
  );
  return [...cells.values()].map((cell) => {
    const policies = groupBy(cell, ({ policy }) => policy);
    const means = new Map([...policies].map(([name, all]) => [name, mean(all)]));
    const ours = means.get('depthserve')!;
    // It knows only the typical times.
    const bound = ours.jitter ? undefined : means.get(BOUND);
    const rival = [...means.values()]
      .filter((each) => each !== ours && each.policy !== BOUND)
      .reduce((best, each) => (each.delivered > best.delivered ? each : best));

    const rivals = policies.get(rival.policy)!;
    const differences = policies
      .get('depthserve')!
      .map((mine, i) => mine.delivered - rivals[i]!.delivered);
    const lead = average(differences);
    const interval = halfWidth(differences);
    const floor = base.get(ours.table)!;
    const missed = bound ? missedAims(ours, bound, floor) : [];
    if (lead < -interval - 1e-9) missed.unshift(`below ${rival.policy}`);
    const traffic =
      (ours.trace ?? `CV² ${ours.cv2}`) + (ours.jitter ? `, scatter ${ours.jitter}` : '');
    return {
      table: ours.table,
      traffic,
      load: ours.load,
      ours,
      rival,
      bound,
      lead,
      interval,
      share: bound ? ours.delivered / bound.delivered : null,
      headroom: bound && bound.attainment >= 0.999 ? headroom(ours, bound, floor) : null,
      reached: missed.length === 0,
      missed,
    };
  });
}

/** How many cells reach what. */
export function summary(all: readonly Verdict[]): string {
  const easy = all.filter(({ bound }) => bound && bound.attainment >= 0.999);
  const hard = all.filter(({ bound }) => bound && bound.attainment < 0.999);
  const without = (cells: readonly Verdict[], miss: RegExp) =>
    `${cells.filter(({ missed }) => !missed.some((one) => miss.test(one))).length} of ${cells.length}`;
  const quiet = (cv2: number, least: number) => {
    const cells = all.filter(({ ours }) => ours.load <= 0.8 && ours.cv2 === cv2);
    return `${cells.filter(({ ours }) => ours.attainment >= least).length} of ${cells.length}`;
  };
  const most = hard.filter(({ share }) => share! >= 0.95);
  const lines = [
    `- not below the best rival by more than the interval: ${without(all, /below/)} cells`,
    `- loads up to 0.8, attainment at least 0.9999 with CV² 1: ${quiet(1, 0.9999)} cells,` +
      ` 0.999 with CV² 4: ${quiet(4, 0.999)}`,
  ];
  if (easy.length + hard.length === 0) return lines.join('\n');
  return [
    ...lines,
    `- bound answers 99.9 %, and so does the policy: ${without(easy, /attainment/)} cells`,
    `- of the same cells, 90 % of the headroom recovered: ${without(easy, /headroom/)}`,
    `- overload, at least 92 % of the bound's goodput: ${without(hard, /share/)} cells,` +
      ` 95 %: ${most.length} of ${hard.length}`,
  ].join('\n');
}

export function markdown(all: readonly Verdict[]): string {
  const rows = all.map((cell) => [
    cell.table,
    String(cell.load),
    cell.traffic,
    pair(cell.ours),
    `${cell.rival.policy} ${pair(cell.rival)}`,
    `${(100 * cell.lead).toFixed(2)} ± ${(100 * cell.interval).toFixed(2)}`,
    cell.bound ? pair(cell.bound) : '',
    cell.share === null ? '' : (100 * cell.share).toFixed(1),
    cell.headroom === null ? '' : (100 * cell.headroom).toFixed(0),
    cell.reached ? 'yes' : cell.missed.join(', '),
  ]);
  const header = [
    'table',
    'load',
    'traffic',
    'depthserve',
    'best rival',
    'lead, points',
    'bound',
    'share, %',
    'headroom, %',
    'reached',
  ];
  return [header, header.map(() => '---'), ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n');
}

const pair = ({ attainment, accuracy }: BenchRecord) =>
  `${attainment.toFixed(4)} / ${accuracy.toFixed(4)}`;

function mean(records: readonly BenchRecord[]): BenchRecord {
  const of = (key: 'attainment' | 'accuracy' | 'delivered') =>
    average(records.map((record) => record[key]));
  return {
    ...records[0]!,
    attainment: of('attainment'),
    accuracy: of('accuracy'),
    delivered: of('delivered'),
  };
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of the 95 % confidence interval of the mean; 0 for a single value. */
function halfWidth(values: readonly number[]): number {
  const n = values.length;
  if (n < 2) return 0;
  const centre = average(values);
  const variance = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (n - 1);
  return (STUDENT[n - 2] ?? studentFrom10(n - 1)) * Math.sqrt(variance / n);
}

function groupBy<T>(values: readonly T[], key: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group) group.push(value);
    else groups.set(key(value), [value]);
  }
  return groups;
}
