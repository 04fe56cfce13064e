/**
 * A day under several ways to choose the number of replicas: what it costs and what it delivers.
 *
 *   npm run bench:autoscale -- --trace FILE.csv [--speed N] [--only NAME]... [--json FILE] [--plot FILE.svg]
 *   npm run bench:autoscale -- measure > bench/autoscale/measured.json
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { depthserve } from '../../src/scheduler/depthserve/policy.ts';
import { parseTrace } from '../../src/simulate/arrivals.ts';
import { simulateFleet } from '../../src/simulate/fleet.ts';
import type { FleetResult, FleetSetup, Rule } from '../../src/simulate/fleet.ts';
import { Random } from '../../src/simulate/random.ts';
import { capacity, parseProfile } from '../../src/simulate/tables.ts';
import { arrivals, day, DAY_SECONDS } from './day.ts';
import { byProcessor, hpa, keda, pod, settings } from './manifests.ts';
import { measure } from './measure.ts';
import type { Measured } from './measure.ts';
import { plot } from './plot.ts';

/** Assumed: scheduling the pod and starting its container, the image being on the node, s. */
const CONTAINER_SECONDS = 2;
/** Ms, drawn evenly. */
const BUDGETS = [15, 25, 40];
const SEED = 1;

export interface Record extends FleetResult {
  readonly name: string;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      trace: { type: 'string' },
      // How much of the day is left out: one second in so many is played.
      speed: { type: 'string', default: '100' },
      // Mean load of the day, in replicas that run full depth at their capacity.
      load: { type: 'string', default: '3.5' },
      only: { type: 'string', multiple: true },
      json: { type: 'string' },
      plot: { type: 'string' },
    },
  });
  if (positionals[0] === 'measure') {
    console.log(JSON.stringify(await measure(), null, 2));
    return;
  }
  if (values.trace === undefined) throw new Error('--trace: a CSV of arrival times');
  const speed = Number(values.speed);
  const profile = parseProfile(readFileSync('bench/tables/cifar-cpu.json', 'utf8'), 'cifar-cpu');
  const engines = Number(settings('cpu')['ENGINE_WORKERS']);
  const mean = Number(values.load) * capacity(profile, engines);
  const trace = parseTrace(readFileSync(values.trace, 'utf8'));
  const rate = day(trace, mean);
  const { startSeconds, cpuMsPerTensor } = JSON.parse(
    readFileSync('bench/autoscale/measured.json', 'utf8'),
  ) as Measured;
  const { cores, probeSeconds, preStopSeconds } = pod();
  const common: Omit<FleetSetup, 'initial' | 'rule'> = {
    profile,
    policy: depthserve,
    engines,
    seed: SEED,
    balancing: 'round-robin',
    times: arrivals(rate, speed, new Random(SEED, 0)),
    durationMs: (DAY_SECONDS * 1000) / speed,
    budgets: BUDGETS,
    speed,
    startSeconds: CONTAINER_SECONDS + startSeconds + probeSeconds,
    leaveSeconds: preStopSeconds,
    cores,
    cpuSecondsPerRequest: cpuMsPerTensor / 1000,
  };

  const records: Record[] = [];
  for (const [name, rule, initial] of contenders()) {
    if (values.only && !values.only.includes(name)) continue;
    const result = await simulateFleet({ ...common, rule, initial });
    records.push({ name, ...result });
    console.log(row({ name, ...result }));
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(records)}\n`);
  if (values.plot !== undefined) writeFileSync(values.plot, plot(records, profile));
}

function contenders(): [name: string, rule: Rule | null, initial: number][] {
  const ours = hpa();
  const fixed = (count: number): [string, null, number] => [`fixed ${count}`, null, count];
  return [
    ['hpa', ours, ours.min],
    ['keda', keda(), ours.min],
    ...[0.5, 0.7, 0.9].map((target): [string, Rule, number] => [
      `cpu ${100 * target} %`,
      byProcessor(ours, target),
      ours.min,
    ]),
    ...[2, 4, 6, 8, ours.max].map(fixed),
  ];
}

function row({ name, replicaHours, attainment, accuracy, refused, intervals }: Record): string {
  const share = (value: number) => (100 * value).toFixed(2);
  const counts = intervals.map(({ replicas }) => replicas);
  const changes = counts.filter((count, i) => i > 0 && count !== counts[i - 1]).length;
  const cells = [
    name,
    replicaHours.toFixed(1),
    `${Math.min(...counts)} to ${Math.max(...counts)}`,
    String(changes),
    share(attainment),
    share(accuracy),
    share(refused),
  ];
  return `| ${cells.join(' | ')} |`;
}

await main();
