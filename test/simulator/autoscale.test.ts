import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { day, DAY_SECONDS } from '../../bench/autoscale/day.ts';
import { byProcessor, hpa, keda, pod, settings } from '../../bench/autoscale/manifests.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { Autoscaler, replicasWanted } from '../../bench/simulator/autoscale.ts';
import type { Limits, PodState } from '../../bench/simulator/autoscale.ts';
import { constant, renewal } from '../../bench/simulator/arrivals.ts';
import { simulateFleet } from '../../bench/simulator/fleet.ts';
import type { FleetSetup } from '../../bench/simulator/fleet.ts';
import { Random } from '../../bench/simulator/random.ts';
import { capacity } from '../../bench/simulator/tables.ts';
import type { Profile } from '../../bench/simulator/tables.ts';

const running = (...values: (number | null)[]): PodState[] =>
  values.map((value) => ({ pending: false, ready: true, value }));
const starting: PodState = { pending: true, ready: false, value: null };

describe('replicas that one metric asks for', () => {
  const mean = { kind: 'pods', target: 100 } as const;

  test.each([
    // 200 where 100 is wanted: twice as many. 50: half.
    [running(200, 200, 200), 6],
    [running(50, 50, 50, 50), 2],
    // Rounded up: 3 pods of 130 are 3.9 pods of 100.
    [running(130, 130, 130), 4],
    // Within a tenth of the target nothing changes.
    [running(109, 109, 109), 3],
    [running(91, 91, 91), 3],
    [running(90, 89, 88), 3],
    // The mean counts: 150, 50, 250.
    [running(150, 50, 250), 5],
  ])('of the mean over pods: %j', (pods, wanted) => {
    expect(replicasWanted(mean, pods.length, pods, null)).toBe(wanted);
  });

  test('a pod that starts counts as idle when more are wanted', () => {
    // (300 + 300 + 0) / 3 = 200: twice three, not three times two.
    expect(replicasWanted(mean, 3, [...running(300, 300), starting], null)).toBe(6);
    // (160 + 160 + 0) / 3 = 107: near enough.
    expect(replicasWanted(mean, 3, [...running(160, 160), starting], null)).toBe(3);
    // And is left out when fewer are: 0.5 x 2.
    expect(replicasWanted(mean, 3, [...running(50, 50), starting], null)).toBe(1);
  });

  test('a silent pod counts as on target when fewer are wanted, as idle when more', () => {
    // (20 + 20 + 100) / 3 = 46.7, times 3 pods: 1.4.
    expect(replicasWanted(mean, 3, running(20, 20, null), null)).toBe(2);
    expect(replicasWanted(mean, 3, running(300, 300, null), null)).toBe(6);
    expect(replicasWanted(mean, 1, running(null), null)).toBeNull();
  });

  test('for the processor a silent pod uses all it requested, an unready one is left out', () => {
    const half = { kind: 'cpu', target: 0.5 } as const;
    // (0.2 + 0.2 + 1) / 3 = 0.467: near enough to 0.5.
    expect(replicasWanted(half, 3, running(0.2, 0.2, null), null)).toBe(3);
    const warming: PodState = { pending: false, ready: false, value: 0.9 };
    expect(replicasWanted(half, 3, [...running(0.2, 0.2), warming], null)).toBe(1);
  });

  test('of one value for all, as it is or by the number of replicas', () => {
    const pods = running(null, null, null, null);
    const value = { kind: 'value', target: 0.5 } as const;
    expect(replicasWanted(value, 4, pods, 1)).toBe(8);
    expect(replicasWanted(value, 4, [...pods.slice(1), starting], 1)).toBe(6);
    expect(replicasWanted(value, 4, pods, 0.52)).toBe(4);
    const average = { kind: 'average', target: 8 } as const;
    expect(replicasWanted(average, 4, pods, 41)).toBe(6);
    expect(replicasWanted(average, 4, pods, 34)).toBe(4);
    expect(replicasWanted(average, 4, pods, null)).toBeNull();
  });
});

describe('an autoscaler', () => {
  const always = { type: 'Percent', value: 1000, periodSeconds: 15 } as const;
  const free = { stabilizationWindowSeconds: 0, selectPolicy: 'Max', policies: [always] } as const;
  const limits: Limits = { min: 1, max: 100, up: free, down: free };

  /** The numbers that follow from one proposal every 15 s. */
  function follow(given: Limits, start: number, proposals: readonly (number | null)[]): number[] {
    const autoscaler = new Autoscaler(given);
    let current = start;
    return proposals.map((proposal, i) => {
      current = autoscaler.decide(15 * i, current, [proposal]);
      return current;
    });
  }

  test('follows the largest proposal, within its limits', () => {
    const autoscaler = new Autoscaler({ ...limits, min: 2, max: 9 });
    expect(autoscaler.decide(0, 4, [3, 7, null, 5])).toBe(7);
    expect(autoscaler.decide(15, 7, [12])).toBe(9);
    expect(autoscaler.decide(30, 9, [1])).toBe(2);
    expect(autoscaler.decide(45, 2, [null])).toBe(2);
  });

  test('shrinks only as far as every proposal of the window', () => {
    const down = { ...free, stabilizationWindowSeconds: 60 };
    // At 45 s the 8 of 0 s still counts, at 60 s no longer, but the 6 of 15 s.
    expect(follow({ ...limits, down }, 8, [8, 6, 3, 3, 3, 3, 3])).toEqual([8, 8, 8, 8, 6, 3, 3]);
  });

  test('grows only as far as every proposal of the window', () => {
    const up = { ...free, stabilizationWindowSeconds: 30 };
    expect(follow({ ...limits, up }, 2, [2, 9, 9, 5, 9])).toEqual([2, 2, 9, 5, 5]);
  });

  test("Kubernetes' example: 80 replicas to 10, by a tenth or by four a minute", () => {
    const policies = [
      { type: 'Pods', value: 4, periodSeconds: 60 },
      { type: 'Percent', value: 10, periodSeconds: 60 },
    ] as const;
    const numbers = follow(
      { ...limits, down: { ...free, policies } },
      80,
      Array.from({ length: 60 }, () => 10),
    );
    const minutes = numbers.filter((_, i) => i % 4 === 0);
    // A tenth is rounded up: 8 of 72 go; below 40 it is four.
    expect(minutes).toEqual([72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10, 10]);
    // Within the minute nothing more goes.
    expect(numbers.slice(0, 4)).toEqual([72, 72, 72, 72]);
  });

  test('doubles, or adds two, in half a minute', () => {
    const policies = [
      { type: 'Percent', value: 100, periodSeconds: 30 },
      { type: 'Pods', value: 2, periodSeconds: 30 },
    ] as const;
    const numbers = follow({ ...limits, up: { ...free, policies } }, 1, [9, 9, 9, 9, 9]);
    expect(numbers).toEqual([3, 3, 6, 6, 9]);
    const slower = { ...free, policies, selectPolicy: 'Min' } as const;
    expect(follow({ ...limits, up: slower }, 1, [9, 9, 9])).toEqual([2, 2, 4]);
    const never = { ...free, policies, selectPolicy: 'Disabled' } as const;
    expect(follow({ ...limits, up: never }, 1, [9])).toEqual([1]);
  });
});

describe('the rule in k8s', () => {
  test('is read from the manifests, both forms alike', () => {
    const [one, other] = [hpa(), keda()];
    expect({ ...one, metrics: null }).toEqual({ ...other, metrics: null });
    const targets = ({ metrics }: typeof one) =>
      metrics.map(({ series, target }) => [series, target]);
    expect(targets(one)).toEqual(targets(other));
    const { spec } = parse(readFileSync('k8s/components/hpa/autoscaler.yaml', 'utf8'));
    expect(one.metrics).toHaveLength(spec.metrics.length);
    expect(one.max).toBe(spec.maxReplicas);
    expect(one.down.stabilizationWindowSeconds).toBe(
      spec.behavior.scaleDown.stabilizationWindowSeconds,
    );
  });

  test('and so is what a pod gets', () => {
    expect(settings('cpu')).toMatchObject({ ENGINE_WORKERS: '2', LOG_LEVEL: 'info' });
    expect(pod()).toEqual({ cores: 4, probeSeconds: 2, preStopSeconds: 10 });
  });
});

describe('a day', () => {
  test('has the mean asked for, nights, and the bursts of the trace', () => {
    // Ten minutes, of which every second one is silent.
    const trace = Array.from(
      { length: 600 },
      (_, i) => (Math.floor(i / 60) * 120 + (i % 60)) * 1000,
    );
    const rate = day(trace, 50);
    const rates = Array.from({ length: DAY_SECONDS / 30 }, (_, i) => rate(i * 30));
    const mean = (of: number[]) => of.reduce((sum, each) => sum + each, 0) / of.length;
    expect(mean(rates)).toBeCloseTo(50, 0);
    const hour = (at: number) => mean(rates.slice(at * 120, (at + 1) * 120));
    expect(hour(4)).toBeLessThan(hour(16) / 4);
    expect(Math.max(...rates)).toBeGreaterThan(hour(16));
  });
});

describe('a fleet', () => {
  const profile: Profile = {
    name: 'test',
    tiers: [
      { skip: 'T', accuracy: 0.88, macs: 10 },
      { skip: 'F', accuracy: 0.9, macs: 20 },
    ],
    latency: { T: { 1: 10, 8: 80 }, F: { 1: 20, 8: 160 } },
    engineWorkers: 1,
    maxBatch: 8,
  };

  /** An hour at so many times what one replica answers at full depth, one second in 60 played. */
  function hour(load: number, given: Partial<FleetSetup>): FleetSetup {
    const rate = constant(load * capacity(profile, 1));
    return {
      profile,
      policy: depthserve,
      engines: 1,
      seed: 1,
      balancing: 'round-robin',
      times: renewal(rate, 1, 60_000, new Random(1)),
      durationMs: 60_000,
      budgets: [400],
      speed: 60,
      startSeconds: 20,
      leaveSeconds: 10,
      cores: 1,
      cpuSecondsPerRequest: 0,
      initial: 2,
      rule: null,
      ...given,
    };
  }
  const end = ({ intervals }: { intervals: readonly { replicas: number }[] }) =>
    intervals.at(-1)!.replicas;

  test('of a fixed number costs that number', async () => {
    const result = await simulateFleet(hour(1, { initial: 3 }));
    expect(result.replicaHours).toBeCloseTo(3);
    expect(result.intervals).toHaveLength(240);
    expect(result.intervals.reduce((sum, { arrivals }) => sum + arrivals, 0)).toBe(result.requests);
    expect(result.attainment).toBe(1);
    expect(result.accuracy).toBeGreaterThan(0.89);
  });

  test('grows with the load by the shipped rule, and pays from the decision on', async () => {
    const result = await simulateFleet(hour(5, { rule: hpa() }));
    expect(end(result)).toBeGreaterThanOrEqual(5);
    expect(end(result)).toBeLessThanOrEqual(7);
    expect(result.replicaHours).toBeGreaterThan(4);
    const few = await simulateFleet(hour(5, { initial: 2 }));
    expect(few.attainment).toBeLessThan(0.9);
    expect(few.refused + few.expired + few.attainment).toBeCloseTo(1);
    expect(result.attainment).toBeGreaterThan(few.attainment);
  });

  test('shrinks to the least when nobody asks, one a minute after ten minutes', async () => {
    const rule = hpa();
    const result = await simulateFleet(hour(0.01, { rule, initial: 6 }));
    expect(end(result)).toBe(rule.min);
    const first = result.intervals.find(({ replicas }) => replicas < 6)!;
    expect(first.at).toBeGreaterThanOrEqual(rule.down.stabilizationWindowSeconds);
    // 6 for ten minutes, then 5, 4, 3 for one each, then 2; ten seconds more for each that left.
    expect(result.replicaHours).toBeCloseTo((6 * 10 + 5 + 4 + 3 + 2 * 47) / 60, 0);
  });

  test('by processor use sees only as much as depth lets it', async () => {
    // Engines of one core, full: 100 % of the request, whatever is asked for.
    const result = await simulateFleet(hour(5, { rule: byProcessor(hpa(), 0.95) }));
    expect(end(result)).toBe(2);
  });
});
