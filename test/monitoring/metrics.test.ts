import { describe, expect, it } from 'vitest';
import type { Metrics } from '../../src/telemetry/metrics.ts';
import { lacks, run } from '../tools.ts';
import { answer, baseNet, calm, failure, read, servingMetrics, superNet } from './metrics.ts';

describe('the budget SLO', () => {
  it('counts an answer within budget as met, a late one as missed', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 10, 10);
    answer(metrics, baseNet, 10, 10.1);
    expect(await read(metrics, 'depthserve_budget_requests_total{result="met"}')).toBe(1);
    expect(await read(metrics, 'depthserve_budget_requests_total{result="missed"}')).toBe(1);
  });

  it.each([
    'overloaded',
    'budget-too-small',
    'deadline-passed',
    'engine-failed',
    'internal',
  ] as const)('counts %s as missed', async (code) => {
    const metrics = servingMetrics();
    failure(metrics, code);
    expect(await read(metrics, 'depthserve_budget_requests_total{result="missed"}')).toBe(1);
  });

  it.each(['not-an-image', 'bad-budget', 'accuracy-unavailable'] as const)(
    'does not count %s, which is the fault of the client',
    async (code) => {
      const metrics = servingMetrics();
      failure(metrics, code);
      expect(await read(metrics, 'depthserve_budget_requests_total{result="missed"}')).toBe(0);
      expect(await read(metrics, `depthserve_requests_total{tier="none",outcome="${code}"}`)).toBe(
        1,
      );
    },
  );

  it('starts at zero, so that the first miss is an increase', async () => {
    const metrics = servingMetrics();
    expect(await read(metrics, 'depthserve_budget_requests_total{result="met"}')).toBe(0);
    expect(await read(metrics, 'depthserve_refusals_total{reason="overloaded"}')).toBe(0);
  });
});

describe('the load', () => {
  const load = (metrics: Metrics) => read(metrics, 'depthserve_images_wanted_total');

  it('is images answered, and those of requests that came when there was no time', async () => {
    const metrics = servingMetrics();
    failure(metrics, 'overloaded');
    expect(await load(metrics)).toBe(1);
    answer(metrics, baseNet, 10, 7);
    answer(metrics, baseNet, 10, 12);
    failure(metrics, 'deadline-passed');
    expect(await load(metrics)).toBe(4);
  });

  it('has as many images for a refused request as answered ones had on average', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 10, 7, 4);
    answer(metrics, baseNet, 10, 7, 8);
    failure(metrics, 'overloaded');
    expect(await load(metrics)).toBe(12 + 6);
  });

  it('forgets the forms of earlier callers', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 10, 7, 64);
    for (let request = 0; request < 1000; request++) answer(metrics, baseNet, 10, 7);
    const before = (await load(metrics))!;
    failure(metrics, 'overloaded');
    expect((await load(metrics))! - before).toBeCloseTo(1);
  });

  it.each(['budget-too-small', 'accuracy-unavailable', 'not-an-image'] as const)(
    'is none of %s, which no replica could have served',
    async (code) => {
      const metrics = servingMetrics();
      failure(metrics, code);
      expect(await load(metrics)).toBe(0);
    },
  );
});

describe('accuracy', () => {
  it('is delivered by what was answered in time, and lost against the most accurate tier', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 10, 7);
    answer(metrics, superNet, 10, 7);
    answer(metrics, baseNet, 10, 11); // late: worth nothing
    expect(await read(metrics, 'depthserve_accuracy_delivered_total')).toBeCloseTo(1.7);
    expect(await read(metrics, 'depthserve_accuracy_lost_total')).toBeCloseTo(0.1);
  });
});

describe('an answer', () => {
  it('is timed by stage and tier, in seconds', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 20, 8);
    const sum = (stage: string) =>
      read(metrics, `depthserve_duration_seconds_sum{stage="${stage}",tier="TT"}`);
    expect(await sum('decode')).toBe(0.001);
    expect(await sum('queue')).toBe(0.002);
    expect(await sum('inference')).toBe(0.004);
    expect(await sum('total')).toBe(0.008);
  });

  it('uses a share of its budget and leaves slack', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 20, 8);
    expect(await read(metrics, 'depthserve_budget_used_ratio_sum{tier="TT"}')).toBe(0.4);
    expect(await read(metrics, 'depthserve_slack_seconds_sum{tier="TT"}')).toBe(0.012);
  });

  it('that is late has negative slack, below the bucket of 0', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 5, 8);
    expect(await read(metrics, 'depthserve_slack_seconds_bucket{le="0",tier="TT"}')).toBe(1);
  });

  it('of two looks counts each of them, and the change of mind', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 20, 8);
    answer(metrics, superNet, 20, 8, 1, [baseNet, superNet]);
    const looks = (look: string) => read(metrics, `depthserve_looks_total{${look}}`);
    expect(await looks('tier="TT",look="first"')).toBe(2);
    expect(await looks('tier="FF",look="second"')).toBe(1);
    expect(await read(metrics, 'depthserve_looks_changed_total')).toBe(1);
  });

  it('is what one look by the super-net would have cost, however many it took', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 20, 8);
    answer(metrics, superNet, 20, 8, 1, [baseNet, superNet]);
    expect(await read(metrics, 'depthserve_super_net_macs_total')).toBe(2000);
  });

  it('was predicted', async () => {
    const metrics = servingMetrics();
    answer(metrics, baseNet, 20, 8);
    const series = 'depthserve_prediction_ratio_sum{of="answer",tier="TT"}';
    expect(await read(metrics, series)).toBe(0.75);
    // Off by 2 of 20 ms, whichever way.
    answer(metrics, baseNet, 20, 4);
    expect(await read(metrics, 'depthserve_prediction_error_ratio_sum{tier="TT"}')).toBe(0.2);
  });
});

describe('an image', () => {
  it('was decoded in a time that was predicted', async () => {
    const metrics = servingMetrics();
    metrics.decoded(3, 4);
    const series = 'depthserve_prediction_ratio_sum{of="decode",tier="none"}';
    expect(await read(metrics, series)).toBe(0.75);
  });
});

describe('a batch', () => {
  it('keeps an engine busy, and costs multiply-accumulates', async () => {
    const metrics = servingMetrics();
    metrics.ranBatch(baseNet, 4, 30, 40);
    expect(await read(metrics, 'depthserve_engine_busy_seconds_total')).toBe(0.04);
    expect(await read(metrics, 'depthserve_macs_total')).toBe(1600);
    expect(await read(metrics, 'depthserve_batch_size_sum{tier="TT"}')).toBe(4);
    expect(await read(metrics, 'depthserve_prediction_ratio_sum{of="batch",tier="TT"}')).toBe(0.75);
  });
});

describe('the state at scrape time', () => {
  it('is read, not counted', async () => {
    const status = {
      ...calm,
      engines: 1,
      waiting: 3,
      oldestAgeMs: 250,
      latency: { table: {}, present: {}, slowdown: 1.5, spread: 1, delay: 20, holdUp: 0.4 },
      predictions: () => [{ tier: baseNet, batch: 8, ms: 12, busyMs: 9 }],
    };
    const metrics = servingMetrics(status, 'recovering');
    expect(await read(metrics, 'depthserve_ready')).toBe(0);
    expect(await read(metrics, 'depthserve_engines')).toBe(1);
    expect(await read(metrics, 'depthserve_queue_length')).toBe(3);
    expect(await read(metrics, 'depthserve_queue_oldest_age_seconds')).toBe(0.25);
    expect(await read(metrics, 'depthserve_slowdown_factor')).toBe(1.5);
    expect(await read(metrics, 'depthserve_delay_seconds')).toBe(0.02);
    expect(await read(metrics, 'depthserve_hold_up_ratio')).toBe(0.4);
    expect(await read(metrics, 'depthserve_latency_table_seconds{tier="TT",batch="8"}')).toBe(
      0.012,
    );
  });
});

describe('the capacity at full depth', () => {
  it('is that of the deepest tier in its best batch, on all engines', async () => {
    const predictions = [
      { tier: baseNet, batch: 8, ms: 6, busyMs: 4 },
      { tier: superNet, batch: 1, ms: 3, busyMs: 2 },
      { tier: superNet, batch: 8, ms: 15, busyMs: 10 },
    ];
    const metrics = servingMetrics({ ...calm, predictions: () => predictions });
    // Two engines, each occupied by 8 images for 10 ms; deadlines leave more.
    expect(await read(metrics, 'depthserve_full_depth_capacity')).toBe(1600);
  });

  it('is none before the engines are warm', async () => {
    expect(await read(servingMetrics(), 'depthserve_full_depth_capacity')).toBe(0);
  });
});

describe('GPUs', () => {
  it('are watched once nvidia-smi was asked, whatever it says', async () => {
    const metrics = servingMetrics();
    expect(await read(metrics, 'depthserve_gpu_watched')).toBe(0);
    metrics.gpus([]);
    expect(await read(metrics, 'depthserve_gpu_watched')).toBe(1);
  });

  it('disappear when nvidia-smi no longer answers', async () => {
    const metrics = servingMetrics();
    metrics.gpus([{ gpu: '0', utilisation: 0.5, usedBytes: 1024, totalBytes: 4096 }]);
    expect(await read(metrics, 'depthserve_gpu_utilization_ratio{gpu="0"}')).toBe(0.5);
    metrics.gpus([]);
    expect(await read(metrics, 'depthserve_gpu_utilization_ratio{gpu="0"}')).toBeUndefined();
  });
});

describe('the exposition', () => {
  it('names the model on every series', async () => {
    const lines = (await servingMetrics().registry.metrics()).split('\n');
    const without = lines.filter(
      (line) => /^[a-z]/.test(line) && !line.includes('model="test-model"'),
    );
    expect(without).toEqual([]);
  });

  it.skipIf(lacks('promtool'))('satisfies promtool check metrics', async () => {
    const metrics = servingMetrics(calm);
    answer(metrics, baseNet, 20, 8);
    failure(metrics, 'overloaded');
    metrics.ranBatch(baseNet, 4, 30, 40);
    metrics.gpus([{ gpu: '0', utilisation: 0.5, usedBytes: 1024, totalBytes: 4096 }]);
    metrics.shadowed(baseNet, true, 5, 1000);
    metrics.judged(baseNet, true);
    const { code, output } = run(
      'promtool',
      ['check', 'metrics'],
      await metrics.registry.metrics(),
    );
    expect(output).toBe('');
    expect(code).toBe(0);
  });
});
