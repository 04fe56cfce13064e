/**
 * A day under several ways to choose the number of replicas: what it costs and what it delivers.
 *
 *   npm run bench:autoscale -- --trace FILE.csv [--speed N] [--only NAME]... [--json FILE] [--plot FILE.svg]
 *   npm run bench:autoscale -- measure > bench/autoscale/measured.json
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { MAX_RUNS, TIME_PER_PAIR_MS as PAIR_MS } from '../../src/cli/profile.ts';
import type { LatencyTable } from '../../src/scheduler/latency.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { parseTrace } from '../simulator/arrivals.ts';
import { simulateFleet } from '../simulator/fleet.ts';
import type { FleetSetup, Metric, Rule } from '../simulator/fleet.ts';
import { Random } from '../simulator/random.ts';
import { capacity, parseProfile } from '../simulator/tables.ts';
import { arrivals, day, DAY_SECONDS } from './day.ts';
import { byProcessor, hpa, keda, pod, settings } from './manifests.ts';
import { measure } from './measure.ts';
import type { Measured } from './measure.ts';
import { plot } from './plot.ts';
import type { Contender } from './plot.ts';

/** Assumed: scheduling the pod and starting its container, the image being on the node, s. */
const CONTAINER_SECONDS = 2;
/** Ms, drawn evenly; for a model of the shipped one's size. */
const BUDGETS = [15, 25, 40];
const SEED = 1;
/** In the picture; all are in the table. */
const PLOTTED = new Set(['HPA as shipped', 'processor 50 %', '5 replicas', '4 replicas']);
/** Of a network of four stages. */
const SUB_NETWORKS = 16;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      trace: { type: 'string' },
      // Of every minute, one part in so many is played.
      speed: { type: 'string', default: '10' },
      // How many times as large as the shipped model; ResNet-50 has 30 times its operations.
      size: { type: 'string', default: '30' },
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
  const size = Number(values.size);
  const shipped = parseProfile(readFileSync('bench/tables/cifar-cpu.json', 'utf8'), 'cifar-cpu');
  const profile = { ...shipped, latency: times(shipped.latency, size) };
  const engines = Number(settings('cpu')['ENGINE_WORKERS']);
  const mean = Number(values.load) * capacity(profile, engines);
  const trace = parseTrace(readFileSync(values.trace, 'utf8'));
  const rate = day(trace, mean);
  const { startSeconds, cpuMsPerPhoto } = JSON.parse(
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
    budgets: BUDGETS.map((budget) => budget * size),
    speed,
    startSeconds:
      CONTAINER_SECONDS +
      startSeconds -
      warmUpSeconds(shipped.latency) +
      warmUpSeconds(profile.latency) +
      probeSeconds,
    leaveSeconds: preStopSeconds,
    cores,
    cpuSecondsPerRequest: cpuMsPerPhoto / 1000,
  };

  console.log(
    `${common.times.length} requests, a replica starts in ${common.startSeconds.toFixed(0)} s`,
  );

  const records: Contender[] = [];
  for (const [name, rule, initial] of contenders()) {
    if (values.only && !values.only.includes(name)) continue;
    const result = await simulateFleet({ ...common, rule, initial });
    records.push({ name, ...result });
    console.log(row({ name, ...result }));
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(records)}\n`);
  if (values.plot !== undefined)
    writeFileSync(
      values.plot,
      plot(
        records.filter(({ name }) => PLOTTED.has(name)),
        speed,
      ),
    );
}

function times(table: LatencyTable, factor: number): LatencyTable {
  return Object.fromEntries(
    Object.entries(table).map(([skip, row]) => [
      skip,
      Object.fromEntries(Object.entries(row).map(([batch, ms]) => [batch, ms * factor])),
    ]),
  );
}

/** How long src/cli/profile.ts takes over all sub-networks, of which the table has some. */
function warmUpSeconds(table: LatencyTable): number {
  const rows = Object.values(table);
  const ms = rows
    .flatMap((row) => Object.values(row))
    .reduce((sum, each) => sum + each * (1 + Math.min(MAX_RUNS, Math.ceil(PAIR_MS / each))), 0);
  return ((ms / rows.length) * SUB_NETWORKS) / 1000;
}

function contenders(): [name: string, rule: Rule | null, initial: number][] {
  const ours = hpa();
  const isLoad = ({ series }: Metric) => series === 'depthserve:load:ratio2m';
  const withLoad = (target: number): Rule => ({
    ...ours,
    metrics: ours.metrics.map((metric) => (isLoad(metric) ? { ...metric, target } : metric)),
  });
  const guards = { ...ours, metrics: ours.metrics.filter((metric) => !isLoad(metric)) };
  const rules: [string, Rule][] = [
    ['HPA as shipped', ours],
    ['KEDA as shipped', keda()],
    ['HPA, load 1.2', withLoad(1.2)],
    ['HPA, load 1.4', withLoad(1.4)],
    ['HPA without load', guards],
    ...[30, 50, 70].map((percent): [string, Rule] => [
      `processor ${percent} %`,
      byProcessor(ours, percent / 100),
    ]),
  ];
  return [
    ...rules.map(([name, rule]): [string, Rule, number] => [name, rule, rule.min]),
    ...[3, 4, 5, 6, 8].map((count): [string, null, number] => [`${count} replicas`, null, count]),
  ];
}

function row({ name, replicaHours, attainment, accuracy, refused, intervals }: Contender): string {
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
