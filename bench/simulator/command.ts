import { readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { EXIT, UsageError } from '../../src/cli/command.ts';
import { atRate, constant, parseTrace, ramp, renewal, requests, steps } from './arrivals.ts';
import type { Rate, Request } from './arrivals.ts';
import { upperBound } from './bound.ts';
import { replicasFor } from './capacity.ts';
import { summarise } from './summary.ts';
import type { Summary } from './summary.ts';
import { DEFAULT_LOAD, parseOptions } from './options.ts';
import type { Options } from './options.ts';
import { policyNamed } from './policies.ts';
import { Random } from './random.ts';
import { simulate } from './run.ts';
import type { Setup } from './run.ts';
import { plot } from './plot.ts';
import { capacity, parseProfile } from './tables.ts';
import type { Profile } from './tables.ts';

/** From the root of the repository, where npm runs scripts. */
const DEFAULT_TABLE = 'bench/tables/cifar-cpu.json';

/**
 * The server's scheduler, or a rival's, against arrivals, on a virtual clock.
 * @returns the exit code.
 * @throws {UsageError} for options that make no sense.
 */
export async function command(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  const profile = await readProfile(options);
  const engines = options.engines ?? profile.engineWorkers;
  const setup: Setup = {
    profile,
    policy: policyNamed(options.policy, profile.tiers),
    requests: await readRequests(options, profile, engines),
    seed: options.seed,
    engines,
    replicas: options.replicas,
    balancing: options.balance,
    slowdowns: options.slowdowns,
    jitter: options.jitter,
  };
  if (options.attainment === null) {
    await report(options, setup);
    return EXIT.done;
  }

  const wanted = options.attainment;
  const replicas = await replicasFor(wanted, async (count) => {
    const { attainment } = summarise(await simulate({ ...setup, replicas: count }));
    console.log(`${String(count).padStart(5)} replicas: ${percent(attainment)} in time`);
    return attainment;
  });
  if (replicas === null) {
    console.error(`no number of replicas reaches ${percent(wanted)}: see the budgets`);
    return EXIT.failed;
  }
  console.log(`${replicas} replicas reach ${percent(wanted)} (${options.balance})\n`);
  await report(options, { ...setup, replicas });
  return EXIT.done;
}

async function readProfile({ table }: Options): Promise<Profile> {
  const file = table ?? DEFAULT_TABLE;
  return mendable(`latency table ${table ?? 'cifar-cpu'}`, async () =>
    parseProfile(await readFile(file, 'utf8'), basename(table ?? 'cifar-cpu', '.json')),
  );
}

async function readRequests(
  options: Options,
  profile: Profile,
  engines: number,
): Promise<Request[]> {
  const { trace, scale, seconds, seed, budgets, floors } = options;
  const full = capacity(profile, engines * options.replicas);
  const times =
    trace === null
      ? renewal(rateOf(options, full), options.cv2, seconds! * 1000, new Random(seed, 0))
      : await mendable(`trace ${trace}`, async () => {
          const all = parseTrace(await readFile(trace, 'utf8'), scale ?? 1);
          const scaled = options.load === null ? all : atRate(all, options.load * full);
          return scaled.filter((time) => time <= (seconds ?? Infinity) * 1000);
        });
  return requests(times, budgets, floors, new Random(seed, 1));
}

function rateOf({ rates, load, arrivals, seconds }: Options, full: number): Rate {
  if (rates.length === 0) return constant((load ?? DEFAULT_LOAD) * full);
  if (rates.length === 1) return constant(rates[0]!);
  return (arrivals === 'ramp' ? ramp : steps)(rates, seconds! * 1000);
}

async function mendable<T>(what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new UsageError(`${what}: ${(error as Error).message}`, { cause: error });
  }
}

async function report(options: Options, setup: Setup): Promise<void> {
  const { profile, requests: arriving, engines, replicas } = setup;
  const outcomes = await simulate(setup);
  const summary = summarise(outcomes);
  const bound = options.bound ? upperBound(profile, arriving, engines * replicas) : null;
  const record = {
    table: profile.name,
    policy: options.policy,
    seed: options.seed,
    engines,
    replicas,
    seconds: (arriving.at(-1)?.arrivedAt ?? 0) / 1000,
    ...summary,
    ...(bound && { bound }),
  };
  print(record, profile);
  if (options.json !== null) await writeFile(options.json, `${JSON.stringify(record, null, 2)}\n`);
  if (options.plot !== null) {
    const title = `${options.policy} on ${profile.name}, ${replicas} x ${engines} engines`;
    await writeFile(options.plot, plot(outcomes, profile.tiers, title));
  }
}

function print(
  record: Summary & { policy: string; table: string; bound?: { delivered: number } },
  { tiers }: Profile,
): void {
  const rows: [string, string][] = [
    ['policy', `${record.policy} on ${record.table}`],
    ['requests', String(record.requests)],
    ['attainment', percent(record.attainment)],
    ['accuracy', percent(record.accuracy)],
    ['delivered', percent(record.delivered)],
    ['goodput', `${record.goodput.toFixed(1)} correct/s in time`],
    ['p50, p99', `${ms(record.p50)}, ${ms(record.p99)}`],
    ['refused', percent(record.refused)],
    ['expired', percent(record.expired)],
    ['prediction', `|predicted - actual| / budget, p95: ${record.predictionError.toFixed(4)}`],
    ...tiers.map(({ skip }): [string, string] => [`  ${skip}`, percent(record.tierMix[skip] ?? 0)]),
  ];
  if (record.bound) rows.push(['bound', `${percent(record.bound.delivered)} delivered at most`]);
  for (const [label, value] of rows) console.log(`${label.padEnd(12)}${value}`);
}

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
const ms = (time: number | null) => (time === null ? '-' : `${time.toFixed(2)} ms`);
