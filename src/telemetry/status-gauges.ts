import { Gauge } from 'prom-client';
import type { LabelValues, Registry } from 'prom-client';
import type { DeploymentStatus, ServiceStatus } from './status.ts';

/** The gauges that are read off the service's status when they are scraped. */
export function defineStatusGauges(registry: Registry, status: () => ServiceStatus): void {
  /** @param read gives the value for each set of labels. */
  function gauges<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    read: (now: ServiceStatus) => readonly (readonly [LabelValues<Label>, number])[],
  ): void {
    // eslint-disable-next-line no-new -- the registry holds it
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, value] of read(status())) this.set(labels, value);
      },
    });
  }
  function gauge(name: string, help: string, read: (now: DeploymentStatus) => number): void {
    gauges(name, help, [], ({ deployment }) => [[{}, read(deployment)]]);
  }

  gauges('depthserve_ready', '1 while the service is ready to classify', [], ({ state }) => [
    [{}, Number(state === 'ready')],
  ]);
  gauges(
    'depthserve_build_info',
    '1; the version of the model in use',
    ['model_version'],
    ({ deployment }) => [[{ model_version: deployment.manifest.version }, 1]],
  );
  gauges(
    'depthserve_execution_provider',
    '1 for the execution provider in use; fallback says whether CUDA was wanted but missing',
    ['provider', 'fallback'],
    ({ deployment: { provider, fallback } }) =>
      provider === null ? [] : [[{ provider, fallback: String(fallback !== null) }, 1]],
  );
  gauges(
    'depthserve_expected_accuracy_ratio',
    "Top-1 accuracy (0 to 1) of each tier in use, from the model's manifest",
    ['tier'],
    ({ deployment }) => deployment.tiers.map(({ skip, accuracy }) => [{ tier: skip }, accuracy]),
  );
  gauge(
    'depthserve_engines',
    'Engine workers, each of which runs one batch at a time; without those being replaced',
    ({ engines }) => engines,
  );
  gauge('depthserve_queue_length', 'Images admitted that do not run yet', ({ waiting }) => waiting);
  gauge(
    'depthserve_queue_oldest_age_seconds',
    'How long the oldest waiting image has waited',
    ({ oldestAgeMs }) => oldestAgeMs / 1000,
  );
  gauge(
    'depthserve_slowdown_factor',
    'Time that batches take now, as a multiple of the measured latency table',
    ({ latency }) => latency.slowdown,
  );
  gauge(
    'depthserve_delay_seconds',
    '95th percentile of batch time beyond compute time and the typical hold-up: messages delayed by ' +
      'a busy main thread, and unusually long waits for a core',
    ({ latency }) => latency.delay / 1000,
  );
  gauge(
    'depthserve_hold_up_ratio',
    'Median time that an engine was ready to run but waited for a CPU core, divided by its compute ' +
      'time',
    ({ latency }) => latency.holdUp,
  );
  gauge(
    'depthserve_full_depth_capacity',
    'Images/s that the engines can answer on the most accurate tier in use, in its best batch',
    fullDepthCapacity,
  );
  gauges(
    'depthserve_latency_table_seconds',
    'Time that the scheduler expects now of a batch, by tier and batch size',
    ['tier', 'batch'],
    ({ deployment }) =>
      deployment
        .predictions()
        .map(({ tier, batch, ms }) => [{ tier: tier.skip, batch }, ms / 1000]),
  );
}

function fullDepthCapacity(deployment: DeploymentStatus): number {
  const predictions = deployment.predictions();
  const deepest = predictions.reduce((most, { tier }) => Math.max(most, tier.accuracy), 0);
  const perMs = predictions
    .filter(({ tier }) => tier.accuracy === deepest)
    .map(({ batch, busyMs }) => batch / busyMs);
  return 1000 * deployment.engines * Math.max(0, ...perMs);
}
