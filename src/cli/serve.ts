import { EXIT } from './command.ts';
import type { Command } from './command.ts';

/** `depthserve serve`: the server, configured by environment variables. */
export const command: Command = {
  help: null,
  async run() {
    // Runs until a signal ends it, prints its own help, and sets the exit code itself.
    await import('../main.ts');
    return (process.exitCode as number | undefined) ?? EXIT.done;
  },
};
