import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { without } from '../tools.ts';

/** A Python that has what .ci/tools-clients.sh installs. */
export const PYTHON = process.env['CLIENTS_PYTHON'] ?? '.venv-clients/bin/python';

/** Why tests with Python clients can't run here; null: they can. */
export const noPython = without(PYTHON, 'run .ci/tools-clients.sh, or set CLIENTS_PYTHON');

/** Runs a program to its end; what it printed is in the error if it fails. */
export async function runToEnd(command: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, [...args], {
      maxBuffer: 16 * 1024 * 1024,
    });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error });
  }
}
