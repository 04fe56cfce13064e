import { availableParallelism, totalmem } from 'node:os';
import { performance } from 'node:perf_hooks';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Service } from '../service.ts';
import { steadyNow } from '../telemetry/history.ts';

/** An ORCA load report: what Envoy's and xDS's balancers weigh replicas by. */
export interface LoadReport {
  readonly cpu_utilization: number;
  readonly mem_utilization: number;
  /** Share of the engines' time that was spent on batches. */
  readonly application_utilization: number;
  readonly rps_fractional: number;
  readonly eps: number;
  readonly named_metrics: Readonly<Record<string, number>>;
}

/** Load is averaged over this many whole seconds. */
const WINDOW = 5;

/** ms for which averages are kept: reading the history for each request would cost more than that. */
const KEPT_MS = 1000;

/**
 * Answers the request header `endpoint-load-metrics-format` (text or json) with a report in
 * `endpoint-load-metrics`. Nothing is computed for those who don't ask.
 *
 * @param isForAll no tokens are asked for; else routes that anyone may ask tell no load.
 * @param now ms since 1970.
 */
export function loadReports(service: Service, isForAll: boolean, now = steadyNow) {
  const cpu = new CpuMeter();
  let averages: LoadReport | null = null;
  let averagedAt = 0;
  const report = (): LoadReport => {
    const at = now();
    if (!averages || at - averagedAt >= KEPT_MS) {
      averages = averagesOf(service, at, cpu.utilization());
      averagedAt = at;
    }
    const { waiting, latency } = service.status().deployment;
    const present = { queue_length: waiting, slowdown: rounded(latency.slowdown) };
    return { ...averages, named_metrics: { ...present, ...averages.named_metrics } };
  };
  return (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    const format = request.headers['endpoint-load-metrics-format'];
    if (typeof format !== 'string') return done();
    if (!isForAll && request.routeOptions.config.open) return done();
    const header = formatted(report(), format.toLowerCase());
    if (header !== null) reply.header('endpoint-load-metrics', header);
    done();
  };
}

function averagesOf(service: Service, now: number, cpuUtilization: number): LoadReport {
  const seconds = service.history.since(Math.floor(now / 1000) - WINDOW - 1);
  const sum = (of: (second: (typeof seconds)[number]) => number) =>
    seconds.reduce((total, second) => total + of(second), 0);
  const images = sum((second) =>
    Object.values(second.tiers).reduce((a, b) => a + b, second.pinned),
  );
  const { tiers } = service.status().deployment;
  const best = tiers.at(-1)?.accuracy ?? 0;
  const lost = seconds.flatMap(({ accuracy }) => (accuracy === null ? [] : [best - accuracy]));
  return {
    cpu_utilization: rounded(cpuUtilization),
    mem_utilization: rounded(process.memoryUsage.rss() / memoryLimit()),
    application_utilization: rounded(
      sum(({ busyMs }) => busyMs) / (WINDOW * 1000 * service.config.ENGINE_WORKERS),
    ),
    rps_fractional: rounded(images / WINDOW),
    eps: rounded(sum(({ late, refused }) => late + refused) / WINDOW),
    named_metrics: {
      lost_accuracy: rounded(lost.reduce((a, b) => a + b, 0) / Math.max(1, lost.length)),
    },
  };
}

/** @returns null for a format that ORCA does not have. */
export function formatted(report: LoadReport, format: string): string | null {
  if (format === 'json') return `JSON ${JSON.stringify(report)}`;
  if (format !== 'text') return null;
  const { named_metrics: named, ...plain } = report;
  const pairs = [
    ...Object.entries(plain),
    ...Object.entries(named).map(([name, value]) => [`named_metrics.${name}`, value] as const),
  ];
  return `TEXT ${pairs.map(([name, value]) => `${name}=${value}`).join(', ')}`;
}

/** The process's share of the processor since it was last asked. */
class CpuMeter {
  #at = performance.now();
  #used = process.cpuUsage();

  utilization(): number {
    const now = performance.now();
    const { user, system } = process.cpuUsage(this.#used);
    const utilization = (user + system) / 1000 / (now - this.#at) / availableParallelism();
    this.#at = now;
    this.#used = process.cpuUsage();
    return utilization;
  }
}

function memoryLimit(): number {
  // In a container without a limit, Node reports an absurdly large one.
  return Math.min(process.constrainedMemory() || Infinity, totalmem());
}

function rounded(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
