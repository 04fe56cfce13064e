#!/usr/bin/env -S node --use-largepages=silent --no-memory-reducer --max-inlined-bytecode-size=100
/** The one way in: `depthserve`, and `node dist/main.js` in the image. Without a command it serves. */
import { availableParallelism } from 'node:os';
import { ConfigError } from './config.ts';
import { EngineError } from './engine/protocol.ts';
import { ServeError } from './errors.ts';
import { ModelError } from './model/manifest.ts';
import { CliError, EXIT, UsageError } from './cli/command.ts';

/** Told without a stack: the message says what is wrong and what to do. */
const EXPECTED = [UsageError, CliError, ConfigError, ModelError, EngineError, ServeError];

/*
 * libvips decodes on the process's pool of threads, whatever thread asks: by default there are four,
 * and no more images are decoded at a time. One for every core, then, and some for files and the rest.
 * The size is read at the first use, which in Node 20 is before this: there, who starts it sets it.
 */
process.env['UV_THREADPOOL_SIZE'] ??= String(availableParallelism() + 4);

// `depthserve openapi | head`: nobody reads the rest, and that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

const args = process.argv.slice(2);
try {
  const code = await run();
  if (code !== null) process.exitCode = code;
} catch (error) {
  const isExpected = EXPECTED.some((known) => error instanceof known);
  const { message, stack } = error as Error;
  const isUsage = error instanceof UsageError || error instanceof ConfigError;
  process.exitCode = isUsage ? EXIT.usage : EXIT.failed;
  process.stderr.write(
    args.includes('--json')
      ? `${JSON.stringify({ error: { exitCode: process.exitCode, message } })}\n`
      : `depthserve: ${isExpected ? message : (stack ?? String(error))}\n`,
  );
}

/** @returns as `main` of cli/parser.ts. */
async function run(): Promise<number | null> {
  if (args.length > 0) return (await import('./cli/parser.ts')).main(args);
  // As in the image: nothing to read, and the library that reads it takes 0.1 s to load.
  await (await import('./cli/serve-early.ts')).serveEarly(process.env);
  return null;
}
