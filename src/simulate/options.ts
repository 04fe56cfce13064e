import { parseArgs } from 'node:util';
import { BALANCINGS } from './balance.ts';
import type { Balancing } from './balance.ts';
import type { Slowdown } from './run.ts';

export const USAGE = `Usage: npm run simulate -- [options]

Model
  --table FILE          a GET /model dump or a file of bench/tables (default: cifar-cpu)
  --engines N           engines of each replica (default: as in the table)

Arrivals
  --trace FILE          CSV with the header arrival_s: offsets in seconds, one per line
  --scale X             replay the trace X times as fast (default: 1)
  --arrivals KIND       poisson (default), gamma, steps, ramp
  --rate R              requests/s; --rates A,B,C for steps and ramps
  --load X              instead of a rate: X times what the deepest sub-network can answer
  --cv2 X               squared coefficient of variation of the gaps (default: gamma 4, others 1)
  --seconds S           length (default: 60)
  --slowdown A:B:F      engines take F times as long from second A to B; may be repeated
  --jitter X            coefficient of variation of batch times (default: 0)

Requests
  --budgets A,B,C       ms, drawn evenly (default: 15,25,40)
  --floors A,B          lowest acceptable accuracies, 0 to 1, drawn evenly (default: 0)

Serving
  --policy NAME         depthserve (default), slackfit, maxbatch, maxacc, infaas, bentoml, edf,
                        fixed:FFFF, ...
  --replicas N          (default: 1)
  --balance KIND        ${BALANCINGS.join(', ')} (default: least-loaded)
  --attainment X        find the smallest number of replicas that reaches this share, e.g. 0.999

Output
  --seed N              (default: 1)
  --json FILE           the figures
  --plot FILE.svg       attainment, accuracy, goodput and tier mix over time
  --bound               also the most that anyone could reach, knowing all arrivals beforehand
  --help
`;

export interface Options {
  readonly table: string | null;
  readonly engines: number | null;
  readonly trace: string | null;
  readonly scale: number;
  readonly arrivals: 'poisson' | 'gamma' | 'steps' | 'ramp';
  /** Requests/s; empty: by `load`. */
  readonly rates: readonly number[];
  readonly load: number;
  readonly cv2: number;
  readonly seconds: number;
  readonly slowdowns: readonly Slowdown[];
  readonly jitter: number;
  readonly budgets: readonly number[];
  readonly floors: readonly number[];
  readonly policy: string;
  readonly replicas: number;
  readonly balance: Balancing;
  readonly attainment: number | null;
  readonly seed: number;
  readonly json: string | null;
  readonly plot: string | null;
  readonly bound: boolean;
  readonly help: boolean;
}

/** What the user can mend; the message says how. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @throws {UsageError} */
export function parseOptions(args: readonly string[]): Options {
  const values = parsed(args);
  const arrivals = oneOf('arrivals', values.arrivals ?? 'poisson', [
    'poisson',
    'gamma',
    'steps',
    'ramp',
  ] as const);
  const rates =
    numbers('rates', values.rates ?? '', 0) ??
    (values.rate === undefined ? [] : [number('rate', values.rate, 0)]);
  if (arrivals === 'ramp' && rates.length === 1) throw new UsageError('a ramp needs two --rates');
  const whole = (name: 'engines' | 'replicas', fallback: string) => {
    const value = number(name, values[name] ?? fallback, 1);
    if (!Number.isInteger(value)) throw new UsageError(`--${name} must be a whole number`);
    return value;
  };
  return {
    table: values.table ?? null,
    engines: values.engines === undefined ? null : whole('engines', '1'),
    trace: values.trace ?? null,
    scale: positive('scale', values.scale ?? '1'),
    arrivals,
    rates,
    load: positive('load', values.load ?? '0.8'),
    cv2: positive('cv2', values.cv2 ?? (arrivals === 'gamma' ? '4' : '1')),
    seconds: positive('seconds', values.seconds ?? '60'),
    slowdowns: (values.slowdown ?? []).map(slowdown),
    jitter: number('jitter', values.jitter ?? '0', 0),
    budgets: numbers('budgets', values.budgets ?? '15,25,40', 0)!,
    floors: numbers('floors', values.floors ?? '0', 0)!,
    policy: values.policy ?? 'depthserve',
    replicas: whole('replicas', '1'),
    balance: oneOf('balance', values.balance ?? 'least-loaded', BALANCINGS),
    attainment:
      values.attainment === undefined ? null : number('attainment', values.attainment, 0, 1),
    seed: number('seed', values.seed ?? '1', -Infinity),
    json: values.json ?? null,
    plot: values.plot ?? null,
    bound: values.bound ?? false,
    help: values.help ?? false,
  };
}

function parsed(args: readonly string[]) {
  const string = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        table: string,
        engines: string,
        trace: string,
        scale: string,
        arrivals: string,
        rate: string,
        rates: string,
        load: string,
        cv2: string,
        seconds: string,
        slowdown: { type: 'string', multiple: true },
        jitter: string,
        budgets: string,
        floors: string,
        policy: string,
        replicas: string,
        balance: string,
        attainment: string,
        seed: string,
        json: string,
        plot: string,
        bound: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function number(name: string, text: string, least: number, most = Infinity): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (Number.isNaN(value) || value < least || value > most) {
    const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new UsageError(`--${name} takes a number ${range}, not ${text}`);
  }
  return value;
}

function positive(name: string, text: string): number {
  const value = number(name, text, 0);
  if (value === 0) throw new UsageError(`--${name} must be above 0`);
  return value;
}

/** Null for an empty text. */
function numbers(name: string, text: string, least: number): number[] | null {
  return text === '' ? null : text.split(',').map((part) => number(name, part, least));
}

function slowdown(text: string): Slowdown {
  const [from, to, factor, ...rest] = text.split(':').map(Number);
  if (rest.length > 0 || !(from! >= 0) || !(to! > from!) || !(factor! > 0)) {
    throw new UsageError(`--slowdown takes from:to:factor, e.g. 20:30:2, not ${text}`);
  }
  return { from: from! * 1000, to: to! * 1000, factor: factor! };
}

function oneOf<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (!found) throw new UsageError(`--${name} is one of ${choices.join(', ')}, not ${text}`);
  return found;
}
