import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** Runs a program to its end. */
export function run(
  program: string,
  args: readonly string[],
  input = '',
): { code: number; output: string } {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  if (error) throw error;
  return { code: status ?? -1, output: stdout + stderr };
}

/**
 * Why tests that need the program `file` are to be skipped; null: they run. CI has all of them, and
 * a test whose tool is missing there fails.
 */
export function without(file: string, advice: string): string | null {
  if (process.env['CI'] !== undefined || existsSync(file)) return null;
  return `there is no ${file}: ${advice}`;
}

const missing = new Map<string, boolean>();

/**
 * Whether tests that need `program` are to be skipped: it is not installed, and this is not CI,
 * which has all of them.
 */
export function lacks(program: string): boolean {
  const known = missing.get(program);
  if (known !== undefined) return known;
  const absent =
    process.env['CI'] === undefined &&
    spawnSync(program, [program === 'nginx' ? '-h' : '--help'], { stdio: 'ignore' }).error !==
      undefined;
  if (absent) process.stderr.write(`skipping tests that need ${program}: run .ci/tools.sh\n`);
  missing.set(program, absent);
  return absent;
}

/** Of the cores that this process may use (`man 5 proc`: `0-3,6` in `status`), the first ones. */
export function cores(count: number): string {
  const status = readFileSync('/proc/self/status', 'utf8');
  const ranges = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)![1]!.split(',');
  const allowed = ranges.flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last! - first! + 1 }, (_, index) => first! + index);
  });
  return allowed.slice(0, count).join(',');
}
