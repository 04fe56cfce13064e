import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** One GPU as its driver describes it. */
export interface GpuSample {
  /** Index of the device, from 0. */
  readonly gpu: string;
  /** Share of the last sampling period in which a kernel ran, 0 to 1. */
  readonly utilisation: number;
  readonly usedBytes: number;
  readonly totalBytes: number;
}

const QUERY = 'index,utilization.gpu,memory.used,memory.total';
const MIB = 2 ** 20;
/** After so many periods without a line, nvidia-smi hangs: what it said last is true no more. */
const SILENT_PERIODS = 3;

/**
 * Reads `nvidia-smi` every few seconds, as one process that stays: starting one for each reading
 * would fork the server while it has budgets to keep.
 *
 * @param onSample gets what is known of every GPU; empty once nvidia-smi has ended, or hangs.
 * @returns stops it.
 */
export function watchGpus(
  seconds: number,
  onSample: (samples: readonly GpuSample[]) => void,
): () => void {
  const child = spawn(
    'nvidia-smi',
    [`--query-gpu=${QUERY}`, '--format=csv,noheader,nounits', `--loop=${seconds}`],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const known = new Map<string, GpuSample>();
  const forget = () => {
    known.clear();
    onSample([]);
  };
  const silence = setTimeout(forget, SILENT_PERIODS * seconds * 1000).unref();
  createInterface({ input: child.stdout }).on('line', (line) => {
    silence.refresh();
    const sample = parse(line);
    if (!sample) return;
    known.set(sample.gpu, sample);
    onSample([...known.values()]);
  });
  // No such program, no driver, or a device that fell off the bus: no figures, no failure.
  child.on('error', forget);
  child.on('close', () => {
    clearTimeout(silence);
    forget();
  });
  return () => {
    clearTimeout(silence);
    child.kill();
  };
}

/** One line such as `0, 37, 1024, 81559`; `[N/A]` where the driver doesn't tell. */
function parse(line: string): GpuSample | null {
  const [gpu, utilisation, used, total] = line.split(',').map((field) => field.trim());
  const numbers = [utilisation, used, total].map((field) => Number(field || NaN));
  if (!gpu || !/^\d+$/.test(gpu) || !numbers.every(Number.isFinite)) return null;
  const [percent, usedMib, totalMib] = numbers as [number, number, number];
  return {
    gpu,
    utilisation: percent / 100,
    usedBytes: usedMib * MIB,
    totalBytes: totalMib * MIB,
  };
}
