import { EXIT } from './command.ts';
import type { Command } from './command.ts';

/** What src/simulate has to export for the command line. */
interface Simulator {
  readonly command: Command;
}

// Not a literal: the simulator is a part of its own, and may be left out of a build.
const SIMULATOR: string = new URL('../simulate/command.js', import.meta.url).href;

async function simulator(): Promise<Command | null> {
  try {
    return ((await import(SIMULATOR)) as Simulator).command;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND') return null;
    throw error;
  }
}

/** `depthserve simulate`: scheduling policies against arrivals, on a virtual clock. */
export const command: Command = {
  help: null,
  async run(args) {
    const found = await simulator();
    if (found) {
      if (found.help === null || !args.some((arg) => arg === '--help' || arg === '-h')) {
        return found.run(args);
      }
      process.stdout.write(found.help);
      return EXIT.done;
    }
    process.stderr.write('depthserve: this build has no simulator\n');
    return EXIT.failed;
  },
};
