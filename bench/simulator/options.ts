import { parseArgs } from 'node:util';
import { UsageError } from '../../src/cli/command.ts';
import { BALANCINGS } from './balance.ts';
import type { Balancing } from './balance.ts';
import type { Slowdown } from './run.ts';

export const USAGE = `Usage: npm run simulate -- [options]

Runs the server's own scheduler, or a rival's, on a virtual clock. docs/simulating.md explains.

Model
  --table FILE          a GET /model dump or a file of bench/tables (default: cifar-cpu)
  --engines N           engines of each replica (default: as in the table)

Arrivals
  --trace FILE          CSV with the header arrival_s: offsets in seconds, one per line
  --scale X             replay the trace X times as fast (default: 1)
  --load X              mean rate, as a multiple of what the deepest sub-network can answer on all
                        engines; of a trace, instead of --scale (default without a trace: 0.8)
  --arrivals KIND       poisson (default), gamma, steps, ramp
  --rate R              requests/s, instead of a load; --rates A,B,C for steps and ramps
  --cv2 X               squared coefficient of variation of the gaps (default: gamma 4, others 1)
  --seconds S           length (default: 60; of a trace, all of it)
  --slowdown A:B:F      engines take F times as long from second A to B; may be repeated
  --jitter X            batch times scatter: sigma of a log-normal factor with median 1 (default: 0)

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
  --help                this text
`;

export const DEFAULT_LOAD = 0.8;

const string = { type: 'string' } as const;
const OPTIONS = {
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
} as const;

const KINDS = ['poisson', 'gamma', 'steps', 'ramp'] as const;

export interface Options {
  readonly table: string | null;
  readonly engines: number | null;
  readonly trace: string | null;
  readonly scale: number | null;
  readonly arrivals: (typeof KINDS)[number];
  /** Requests/s; empty: by `load`. */
  readonly rates: readonly number[];
  readonly load: number | null;
  readonly cv2: number;
  /** Null: the whole trace. */
  readonly seconds: number | null;
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
}

/** @throws {UsageError} for options that are not known. */
function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** @throws {UsageError} */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parsed(args);
  if (positionals.length > 0) throw new UsageError(`simulate takes no ${positionals[0]}`);
  exclude(values, 'trace', ['arrivals', 'rate', 'rates', 'cv2']);
  exclude(values, 'load', ['scale', 'rate', 'rates']);
  exclude(values, 'rate', ['rates']);
  if (values.scale !== undefined && values.trace === undefined) {
    throw new UsageError('--scale needs a --trace');
  }
  if (values.plot !== undefined && !values.plot.endsWith('.svg')) {
    throw new UsageError(`--plot writes SVG: ${values.plot} does not end in .svg`);
  }

  const arrivals = oneOf('arrivals', values.arrivals ?? 'poisson', KINDS);
  const rates =
    values.rate === undefined
      ? numbers('rates', values.rates ?? null, 0)
      : [number('rate', values.rate, 0)];
  const varied = arrivals === 'steps' || arrivals === 'ramp';
  if (varied && rates.length < 2) throw new UsageError(`${arrivals} need --rates A,B,...`);
  if (!varied && rates.length > 1) throw new UsageError('--rates needs --arrivals steps or ramp');
  const whole = (name: 'engines' | 'replicas', text: string) => {
    const value = number(name, text, 1);
    if (!Number.isInteger(value)) throw new UsageError(`--${name} must be a whole number`);
    return value;
  };
  const seconds = values.seconds ?? (values.trace === undefined ? '60' : null);
  return {
    table: values.table ?? null,
    engines: values.engines === undefined ? null : whole('engines', values.engines),
    trace: values.trace ?? null,
    scale: values.scale === undefined ? null : positive('scale', values.scale),
    rates,
    arrivals,
    load: values.load === undefined ? null : positive('load', values.load),
    cv2: positive('cv2', values.cv2 ?? (arrivals === 'gamma' ? '4' : '1')),
    seconds: seconds === null ? null : positive('seconds', seconds),
    slowdowns: (values.slowdown ?? []).map(slowdown),
    jitter: number('jitter', values.jitter ?? '0', 0),
    budgets: numbers('budgets', values.budgets ?? '15,25,40', 0),
    floors: numbers('floors', values.floors ?? '0', 0, 1),
    policy: values.policy ?? 'depthserve',
    replicas: whole('replicas', values.replicas ?? '1'),
    balance: oneOf('balance', values.balance ?? 'least-loaded', BALANCINGS),
    attainment:
      values.attainment === undefined ? null : number('attainment', values.attainment, 0, 1),
    seed: number('seed', values.seed ?? '1', -Infinity),
    json: values.json ?? null,
    plot: values.plot ?? null,
    bound: values.bound ?? false,
  };
}

/** What would be ignored is better refused. */
function exclude<Name extends string>(
  values: Readonly<Partial<Record<Name, unknown>>>,
  one: Name,
  others: readonly Name[],
): void {
  if (values[one] === undefined) return;
  const other = others.find((name) => values[name] !== undefined);
  if (other !== undefined) throw new UsageError(`--${one} and --${other} exclude each other`);
}

function number(name: string, text: string, least: number, most = Infinity): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(value) || value < least || value > most) {
    const range =
      most < Infinity
        ? ` from ${least} to ${most}`
        : least > -Infinity
          ? ` of at least ${least}`
          : '';
    throw new UsageError(`--${name} takes a number${range}, not "${text}"`);
  }
  return value;
}

function positive(name: string, text: string): number {
  const value = number(name, text, 0);
  if (value === 0) throw new UsageError(`--${name} must be above 0`);
  return value;
}

/** None when there is no text. */
function numbers(name: string, text: string | null, least: number, most?: number): number[] {
  return text === null ? [] : text.split(',').map((part) => number(name, part, least, most));
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
