import type { LatencyModel, Tier } from './policy.ts';
import { SlidingWindow } from './sliding-window.ts';

/** Measured time in ms per sub-network (by skip flags) and batch size. */
export type LatencyTable = Readonly<Record<string, Readonly<Record<number, number>>>>;

/** Batches whose median is the slowdown: a step shows after three, and one outlier never does. */
const SLOWDOWN_BATCHES = 5;
/** Batches that correct one entry of the table. */
const CELL_BATCHES = 31;
/** As many batches must agree before they outweigh the table: a slowdown is known by then. */
const CELL_TRUST = 7;
/**
 * Shrinkage exponent of the corrections. Only the product of slowdown and correction can be
 * measured: where one entry is used for long, they would drift apart, one up and the other down,
 * and entries that are not used would seem slow for ever. So what both can explain is attributed to
 * the slowdown.
 */
const CELL_BELIEF = 0.8;
/** Batches, of any kind, that tell how far times scatter. */
const SPREAD_BATCHES = 256;
/** Spread and delay start as if this many batches had come as predicted: the first are often cold. */
const FIRST_TRUST = 20;

/** Batches that tell how long results are on their way, and how long others hold the work up. */
const DELAY_BATCHES = 64;

/** While nothing runs, half of what was learnt of the slowdown is forgotten in this time, ms. */
const REST_HALF_LIFE_MS = 1000;

/** One entry of the table with what it really takes, as a factor. */
interface Cell {
  readonly factors: SlidingWindow;
  correction: number;
}

interface Row {
  readonly skip: string;
  /** Ms for every batch size from 0 to the largest measured. */
  readonly times: readonly number[];
  /** For every batch size the cell that it belongs to: the next measured size. */
  readonly cells: readonly Cell[];
  /** `times`, corrected: a decision asks for hundreds. */
  corrected: readonly number[];
}

/**
 * Predicts a high quantile of batch times. The table measured at start, times
 * - a correction for each (sub-network, batch size), learned from what it took;
 * - the slowdown now, common to all, which follows when something else takes the processor;
 * - the spread: how far above the typical time the quantile lies;
 * plus the delay of batch and result between scheduler and engine, which depends on how busy the
 * thread is that sends and receives them, not on the batch. Taken for a slowdown, it would make
 * large batches look hopeless, which are the way out of the load that causes it; and
 * - the hold-up: the time for which others had the core that the engine was ready to use, as a share
 * of its work, since the longer that takes, the more of them come.
 * All are medians and quantiles of recent batches: single outliers move none of them.
 */
export class MeasuredLatency implements LatencyModel {
  readonly #rows: Map<string, Row>;
  /** The row that was asked for last: who decides asks for all sizes of one, then of the next. */
  #asked: Row | undefined;
  readonly #ratios = new SlidingWindow(SLOWDOWN_BATCHES);
  readonly #scatter = new SlidingWindow(SPREAD_BATCHES);
  readonly #delays = new SlidingWindow(DELAY_BATCHES);
  readonly #holdUps = new SlidingWindow(DELAY_BATCHES);
  #slowdown = 1;
  #spread = 1;
  #delay = 0;
  #typicalDelay = 0;
  #holdUp = 0;
  #revision = 0;
  #overhead = { perBatch: 0, perImage: 0 };
  #table: LatencyTable;

  /**
   * @param quantile that predictions aim at, 0 to 1.
   * @throws {RangeError} when a sub-network has no measurement, or one that makes no sense.
   */
  constructor(
    table: LatencyTable,
    private readonly quantile = 0.95,
  ) {
    this.#table = table;
    this.#rows = new Map(Object.entries(table).map(([skip, row]) => [skip, rowOf(skip, row)]));
    for (let i = 0; i < SLOWDOWN_BATCHES; i++) this.#ratios.add(1);
    for (let i = 0; i < FIRST_TRUST; i++) {
      this.#scatter.add(1);
      this.#delays.add(0);
      this.#holdUps.add(0);
    }
  }

  /** Measured with nothing else going on: ms by sub-network and batch size. */
  get table(): LatencyTable {
    return this.#table;
  }

  /** 1: as fast as at start; 2: batches take twice as long. */
  get slowdown(): number {
    return this.#slowdown;
  }

  /** Quantile over typical time; 1: times do not scatter. */
  get spread(): number {
    return this.#spread;
  }

  /** Quantile of the ms that batches take beyond the engine's work and the typical hold-up. */
  get delay(): number {
    return this.#delay;
  }

  /** Median of the time that an engine waits for a core, over that for which it works. */
  get holdUp(): number {
    return this.#holdUp;
  }

  /**
   * Learns that batches cost the engine's core this much other work, in ms: one ends later
   * by that, or by the delay and hold-up that batches have seen, which are mostly the same work.
   */
  observeOverhead(overhead: { readonly perBatch: number; readonly perImage: number }): void {
    this.#overhead = overhead;
    this.#revision++;
  }

  get revision(): number {
    return this.#revision;
  }

  predict(tier: Tier, batch: number): number {
    const work = this.#corrected(this.#row(tier), batch) * this.#slowdown;
    const beyond = this.#delay + work * this.#holdUp;
    return work * this.#spread + Math.max(beyond, this.#overheadMs(batch));
  }

  typical(tier: Tier, batch: number): number {
    const work = this.#corrected(this.#row(tier), batch) * this.#slowdown;
    const beyond = this.#typicalDelay + work * this.#holdUp;
    return work + Math.max(beyond, this.#overheadMs(batch));
  }

  /** What the table would be if it were measured now: typical ms of work, without delay. */
  get present(): LatencyTable {
    const rows = Object.entries(this.table).map(([skip, row]) => {
      const known = this.#rows.get(skip)!;
      const typical = (size: string) => this.#corrected(known, Number(size)) * this.#slowdown;
      return [skip, Object.fromEntries(Object.keys(row).map((size) => [size, typical(size)]))];
    });
    return Object.fromEntries(rows) as LatencyTable;
  }

  /**
   * Learns from a batch on which an engine worked for `ms`.
   *
   * @param delay ms that it took beyond work and wait.
   * @param wait ms for which others had the core that the engine was ready to use.
   */
  observe(tier: Tier, batch: number, ms: number, delay = 0, wait = 0): void {
    // A clock too coarse to see the batch teaches nothing; ratios to zero would break the rest.
    if (!(ms > 0)) return;
    this.#holdUps.add(wait / ms);
    // How far waits scatter does not grow with the work: the longer, the more they even out.
    this.#delays.add(Math.max(0, delay + wait - ms * this.#holdUp));
    const row = this.#row(tier);
    const ratio = ms / this.#corrected(row, batch);
    this.#ratios.add(ratio);
    this.#scatter.add(ratio / this.#slowdown);
    this.#summarise();

    const cell = cellOf(row, batch);
    cell.factors.add(ms / (measured(row, batch) * this.#slowdown));
    cell.correction = cell.factors.quantile(0.5) ** CELL_BELIEF;
    row.corrected = row.times.map((time, size) => time * cellOf(row, size).correction);
    this.#revision++;
  }

  /** Takes rows that were measured anew; what was learned of the old ones is forgotten. */
  restate(rows: LatencyTable): void {
    this.#table = { ...this.#table, ...rows };
    for (const [skip, row] of Object.entries(rows)) this.#rows.set(skip, rowOf(skip, row));
    this.#asked = undefined;
    this.#revision++;
  }

  /**
   * The engines had nothing to do for `ms`: what they last showed is forgotten by degrees. Without
   * that, a slow patch after which every request is refused would never end, since only batches
   * that run correct the model.
   */
  rest(ms: number): void {
    const kept = 0.5 ** (ms / REST_HALF_LIFE_MS);
    const fade = (factor: number) => 1 + (factor - 1) * kept;
    this.#ratios.map(fade);
    this.#scatter.map(fade);
    this.#delays.map((delay) => delay * kept);
    this.#holdUps.map((share) => share * kept);
    const { perBatch, perImage } = this.#overhead;
    this.#overhead = { perBatch: perBatch * kept, perImage: perImage * kept };
    this.#summarise();
    this.#revision++;
  }

  #overheadMs(batch: number): number {
    return this.#overhead.perBatch + batch * this.#overhead.perImage;
  }

  #summarise(): void {
    this.#slowdown = this.#ratios.quantile(0.5);
    // No promise beats the typical time, however lucky the last batches were.
    this.#spread = Math.max(1, this.#scatter.quantile(this.quantile));
    this.#delay = this.#delays.quantile(this.quantile);
    this.#typicalDelay = this.#delays.quantile(0.5);
    this.#holdUp = this.#holdUps.quantile(0.5);
  }

  #row({ skip }: Tier): Row {
    if (this.#asked?.skip === skip) return this.#asked;
    this.#asked = this.#rows.get(skip);
    if (!this.#asked) throw new RangeError(`no latency measured for ${skip}`);
    return this.#asked;
  }

  #corrected(row: Row, batch: number): number {
    return row.corrected[batch] ?? measured(row, batch) * cellOf(row, batch).correction;
  }
}

/** @throws {RangeError} */
function rowOf(skip: string, row: Readonly<Record<number, number>>): Row {
  if (Object.keys(row).length === 0) throw new RangeError(`no latency measured for ${skip}`);
  const wrong = Object.entries(row).find(([, ms]) => !(ms > 0 && ms < Infinity));
  if (wrong) throw new RangeError(`${skip} cannot take ${wrong[1]} ms for ${wrong[0]} images`);
  const times = dense(row);
  return { skip, times, cells: cells(row), corrected: times };
}

/** The table; proportional beyond the largest measured batch. */
function measured({ times }: Row, batch: number): number {
  return times[batch] ?? (times.at(-1)! * batch) / (times.length - 1);
}

function cellOf({ cells: all }: Row, batch: number): Cell {
  return all[batch] ?? all.at(-1)!;
}

function cells(row: Readonly<Record<number, number>>): Cell[] {
  const bySize: Cell[] = [];
  for (const size of Object.keys(row)
    .map(Number)
    .sort((a, b) => a - b)) {
    const cell = { factors: new SlidingWindow(CELL_BATCHES), correction: 1 };
    for (let i = 0; i < CELL_TRUST; i++) cell.factors.add(1);
    while (bySize.length <= size) bySize.push(cell);
  }
  return bySize;
}

/** Ms for every batch size up to the largest measured; linear between measured ones. */
export function dense(row: Readonly<Record<number, number>>): number[] {
  const points = Object.entries(row)
    .map(([batch, ms]) => [Number(batch), ms] as const)
    .sort((a, b) => a[0] - b[0]);
  const times: number[] = [];
  let [lowBatch, lowMs] = points[0]!;
  for (let batch = 0; batch <= lowBatch; batch++) times[batch] = lowMs;
  for (const [highBatch, highMs] of points.slice(1)) {
    for (let batch = lowBatch + 1; batch <= highBatch; batch++) {
      times[batch] = lowMs + ((highMs - lowMs) * (batch - lowBatch)) / (highBatch - lowBatch);
    }
    [lowBatch, lowMs] = [highBatch, highMs];
  }
  return times;
}
