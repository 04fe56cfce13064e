import { availableParallelism } from 'node:os';
import { MeasuredLatency } from '../../src/scheduler/latency.ts';
import { batchesIn } from '../cost/server.ts';
import type { Batches } from '../cost/server.ts';
import type { MachineSetup } from '../simulator/machine.ts';
import type { Profile } from '../simulator/tables.ts';

/** What server and client have done so far. */
export interface Counters {
  /** Processor time of the server, ms. */
  readonly serverMs: number;
  /** Processor time of this process, ms. */
  readonly clientMs: number;
  readonly batches: Batches;
}

export async function countersOf(url: string): Promise<Counters> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const cpu = /^process_cpu_seconds_total\S* (\S+)/m.exec(text)![1];
  const { user, system } = process.cpuUsage();
  const clientMs = (user + system) / 1000;
  return { serverMs: 1000 * Number(cpu), clientMs, batches: batchesIn(text) };
}

/**
 * What the machine of a run was, for the simulator: what the server computed beyond inference and
 * decoding is HTTP's, in equal parts for each request and each answer.
 *
 * @param profile with batch times as they were in the run.
 * @param decodeMs that an image takes to decode.
 */
export function machineOf(
  [before, after]: readonly [Counters, Counters],
  profile: Profile,
  decodeMs: number,
  { requests, answers }: { readonly requests: number; readonly answers: number },
): MachineSetup {
  const latency = new MeasuredLatency(profile.latency);
  const tierOf = (skip: string) => ({ skip, accuracy: 0, macs: 0 });
  let engineMs = 0;
  for (const [skip, now] of Object.entries(after.batches)) {
    const batches = now.batches - (before.batches[skip]?.batches ?? 0);
    if (batches === 0) continue;
    const size = (now.images - (before.batches[skip]?.images ?? 0)) / batches;
    const [low, high] = [Math.floor(size), Math.ceil(size)].map((whole) =>
      latency.typical(tierOf(skip), whole),
    );
    engineMs += batches * (low! + (high! - low!) * (size % 1));
  }
  const frontMs = after.serverMs - before.serverMs - engineMs - answers * decodeMs;
  const each = Math.max(0, frontMs) / (requests + answers);
  return {
    cores: availableParallelism(),
    readMs: each,
    answerMs: each,
    clientMs: (after.clientMs - before.clientMs) / (requests + answers),
  };
}
