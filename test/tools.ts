import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

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
