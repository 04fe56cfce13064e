import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';

const LOWEST = constants.priority.PRIORITY_LOW;

/** Seconds of a tick of /proc/PID/stat, on every Linux that has a /proc. */
const TICK_SECONDS = 0.01;

/**
 * Processes of a server: those whose environment has the mark, and all below them. Some leave their
 * parent, others overwrite their environment; none so far does both.
 */
export function processesOf(mark: string): number[] {
  const parents = new Map<number, number>();
  const found = new Set<number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const stat = read(`/proc/${pid}/stat`);
    if (stat === null) continue;
    parents.set(pid, Number(fieldsOf(stat)[1]));
    const environment = read(`/proc/${pid}/environ`);
    if (environment?.split('\0').includes(mark)) found.add(pid);
  }
  for (let before = -1; before < found.size;) {
    before = found.size;
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid);
  }
  return [...found];
}

/**
 * Of processes, with all threads as far below as they are, and of the sessions that Linux may weigh
 * instead; as `nice` counts.
 */
export function prioritise(pids: readonly number[], priority: number): void {
  for (const pid of pids) {
    try {
      writeFileSync(`/proc/${pid}/autogroup`, String(priority));
      const higher = priority - getPriority(pid);
      for (const thread of readdirSync(`/proc/${pid}/task`).map(Number)) {
        setPriority(thread, Math.min(getPriority(thread) + higher, LOWEST));
      }
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Memory in MiB: pages that several processes share are divided among them. */
export function memoryOf(pids: readonly number[]): number {
  const kilobytes = pids.map((pid) => {
    const rollup = read(`/proc/${pid}/smaps_rollup`) ?? '';
    return Number(/^Pss: +(\d+) kB/m.exec(rollup)?.[1] ?? 0);
  });
  return kilobytes.reduce((a, b) => a + b, 0) / 1024;
}

/** Processor time in s, children that have ended included. */
export function cpuOf(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const stat = read(`/proc/${pid}/stat`);
    if (stat === null) return 0;
    // utime, stime, cutime, cstime
    return fieldsOf(stat)
      .slice(11, 15)
      .reduce((sum, field) => sum + Number(field), 0);
  });
  return ticks.reduce((a, b) => a + b, 0) * TICK_SECONDS;
}

/** Processor time in s that all of the machine has used, and that the hypervisor withheld. */
export function machineCpu(): number {
  const [, user, nice, system, , , irq, softirq, steal] = read('/proc/stat')!
    .split('\n', 1)[0]!
    .split(/ +/);
  return (
    [user, nice, system, irq, softirq, steal].reduce((sum, ticks) => sum + Number(ticks), 0) *
    TICK_SECONDS
  );
}

export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Of /proc/PID/stat, from the state on: the name before it may hold anything. */
function fieldsOf(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
