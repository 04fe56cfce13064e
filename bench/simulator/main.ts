/** `npm run simulate -- [options]` */
import { EXIT, UsageError } from '../../src/cli/command.ts';
import { command } from './command.ts';
import { USAGE } from './options.ts';

const args = process.argv.slice(2);
try {
  if (args.includes('--help') || args.includes('-h')) process.stdout.write(USAGE);
  else process.exitCode = await command(args);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}; see npm run simulate -- --help\n`);
  process.exitCode = EXIT.usage;
}
