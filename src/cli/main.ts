#!/usr/bin/env node
import { ConfigError } from '../config.ts';
import { EngineError } from '../engine/protocol.ts';
import { ServeError } from '../errors.ts';
import { ModelError } from '../model/manifest.ts';
import { EXIT, UsageError } from './command.ts';
import type { Command } from './command.ts';

interface Entry {
  readonly summary: string;
  readonly load: () => Promise<{ command: Command }>;
}

/** Commands are loaded when they are called: help need not wait for image and model libraries. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: { summary: 'Serve the model in MODEL_DIR over HTTP', load: () => import('./serve.ts') },
  classify: {
    summary: 'Classify photos within a latency budget',
    load: () => import('./classify.ts'),
  },
  profile: {
    summary: 'Measure the latency table of the model on this machine',
    load: () => import('./profile.ts'),
  },
  openapi: {
    summary: 'Print the OpenAPI document of the HTTP interface',
    load: () => import('./openapi.ts'),
  },
};

const USAGE = `Usage: depthserve <command> [options]

Commands:
${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join('\n')}

depthserve <command> --help says more.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 no answer within the budget.
`;

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(USAGE);
    return name === undefined ? EXIT.usage : EXIT.done;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!entry) throw new UsageError(`there is no command "${name}"`);
  const { command } = await entry.load();
  if (command.help !== null && (args.includes('--help') || args.includes('-h'))) {
    process.stdout.write(command.help);
    return EXIT.done;
  }
  return command.run(args);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const expected = [UsageError, ConfigError, ModelError, EngineError, ServeError].some(
    (known) => error instanceof known,
  );
  const message = expected ? (error as Error).message : ((error as Error).stack ?? String(error));
  const [name = ''] = process.argv.slice(2);
  const help = Object.hasOwn(COMMANDS, name) ? `${name} --help` : '--help';
  const hint = error instanceof UsageError ? `; see depthserve ${help}` : '';
  process.stderr.write(`depthserve: ${message}${hint}\n`);
  process.exitCode = error instanceof UsageError ? EXIT.usage : EXIT.failed;
}
