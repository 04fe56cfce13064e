#!/usr/bin/env node
import { ConfigError } from '../config.ts';
import { EngineError } from '../engine/protocol.ts';
import { ServeError } from '../errors.ts';
import { ModelError } from '../model/manifest.ts';
import { EXIT, UsageError } from './command.ts';
import type { Command } from './command.ts';

/** Loaded when they are called: `--help` need not wait for onnxruntime. */
const COMMANDS: Readonly<Record<string, () => Promise<{ command: Command }>>> = {
  serve: () => import('./serve.ts'),
  classify: () => import('./classify.ts'),
  profile: () => import('./profile.ts'),
  simulate: () => import('./simulate.ts'),
  openapi: () => import('./openapi.ts'),
};

async function usage(): Promise<string> {
  const lines = await Promise.all(
    Object.entries(COMMANDS).map(
      async ([name, load]) => `  ${name.padEnd(10)}${(await load()).command.summary}`,
    ),
  );
  return `Usage: depthserve <command> [options]

Commands:
${lines.join('\n')}

depthserve <command> --help says more.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 no answer within the budget.
`;
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(await usage());
    return name === undefined ? EXIT.usage : EXIT.done;
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!load) throw new UsageError(`there is no command "${name}"`);
  const { command } = await load();
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
  const hint = error instanceof UsageError ? '; see depthserve --help' : '';
  process.stderr.write(`depthserve: ${message}${hint}\n`);
  process.exitCode = error instanceof UsageError ? EXIT.usage : EXIT.failed;
}
