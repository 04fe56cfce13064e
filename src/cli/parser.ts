import yargs from 'yargs';
import type { Argv, Options } from 'yargs';
import { SETTINGS } from '../config.ts';
import { EXIT, UsageError, packageVersion } from './command.ts';

/** The settings that matter where no requests are served. */
const ENGINE_SETTINGS = new Set([
  'MODEL_DIR',
  'EXECUTION_PROVIDER',
  'ENGINE_WORKERS',
  'INTRA_OP_THREADS',
  'MAX_BATCH',
]);

const COMMANDS = new Set(['serve', 'classify', 'profile', 'openapi', 'completion']);

const JSON_OPTION = { type: 'boolean', default: false } as const;

const EXAMPLES: readonly [string, string][] = [
  ['$0 serve --port 8080', 'Serve the model of the package'],
  ['$0 serve --model-dir models/mine', 'Serve another model'],
  ['$0 classify cat.jpg --budget 20', 'Classify a photo, without a server'],
  ['$0 classify cat.jpg --url http://host --json', 'Ask a server, print JSON'],
  ['$0 profile --plot latency.svg', 'Measure the model on this machine'],
  ['$0 completion >> ~/.bashrc', 'Complete commands and options'],
];

/**
 * Runs `depthserve`. Commands are loaded when they are called: help need not wait for the libraries
 * for images and models.
 *
 * @returns the exit code; null: the server runs on, and sets its own.
 * @throws {UsageError} for a command line that makes no sense.
 */
export async function main(args: readonly string[]): Promise<number | null> {
  let code: number | null = EXIT.done;
  // `node dist/main.js --port 8081` serves, too.
  const [first = 'serve'] = args;
  const isGlobal = ['--help', '-h', '--version', '--get-yargs-completions'].includes(first);
  const words = first.startsWith('-') && !isGlobal ? ['serve', ...args] : [...args];

  await yargs(words.length > 0 ? words : ['serve'])
    // --no-such is an option of its own.
    .parserConfiguration({ 'boolean-negation': false })
    .scriptName('depthserve')
    .usage('$0 <command> [options]\n\nImage classification within the time that the caller has.')
    .command(
      'serve',
      'Serve a model over HTTP (what is done without a command)',
      (command) => withSettings(command, SETTINGS).option('json', json('log as JSON')),
      async (argv) => {
        const { serveEarly } = await import('./serve-early.ts');
        code = null;
        const env = settingsOf(argv);
        await serveEarly(argv.json ? { ...env, LOG_FORMAT: 'json' } : env);
      },
    )
    .command(
      'classify <photo..>',
      'Classify photos (JPEG, PNG or WebP) within one latency budget',
      (command) =>
        engineSettings(command)
          .positional('photo', { type: 'string', array: true, demandOption: true })
          .option('budget', number('Latency budget for all photos together, in ms', 100))
          .option('min-accuracy', number('Least expected accuracy, 0 to 1', 0))
          .option('min-confidence', number('Look again until so sure, 0 to 1, as time allows', 0))
          .option('top-k', number('Number of predictions', 3))
          .option('url', {
            type: 'string',
            requiresArg: true,
            description: 'Ask the service there (or DEPTHSERVE_URL) instead of loading the model',
          })
          .option('json', json('one answer a line as JSON')),
      async (argv) => {
        const { classify } = await import('./classify.ts');
        code = await classify({ ...argv, photos: argv.photo, env: settingsOf(argv) });
      },
    )
    .command(
      'profile',
      'Measure the latency table of a model on this machine',
      (command) =>
        engineSettings(command)
          .option('plot', {
            type: 'string',
            requiresArg: true,
            description: 'Also draw time against batch size into this SVG file',
          })
          .option('json', json('the table as JSON')),
      async (argv) => {
        const { profile } = await import('./profile.ts');
        code = await profile({ ...argv, env: settingsOf(argv) });
      },
    )
    .command(
      'openapi',
      'Print the OpenAPI document of the HTTP interface',
      (command) => command.option('json', json('as always')),
      async () => {
        const { openapi } = await import('./openapi.ts');
        await openapi();
      },
    )
    .completion('completion', 'Print a script that completes commands in bash or zsh')
    .demandCommand(1)
    .strict()
    .check(givenOnce)
    .recommendCommands()
    .example(EXAMPLES.map(([command, what]): [string, string] => [command, what]))
    .epilogue(
      'depthserve <command> --help lists its options. Settings are also environment variables.\n' +
        'Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 3 no answer within the budget.',
    )
    .version(await packageVersion())
    .alias('help', 'h')
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      // YError is how yargs tells of its own; others come from the commands.
      if (error && error.name !== 'YError') throw error;
      const [command = 'serve'] = words;
      const help = COMMANDS.has(command) ? `${command} --help` : '--help';
      const why = (message ?? error?.message ?? '').replaceAll(/\s+/g, ' ');
      throw new UsageError(`${why}; see depthserve ${help}`);
    })
    .parseAsync();
  return code;
}

const json = (what: string): Options & { type: 'boolean'; default: false } => ({
  ...JSON_OPTION,
  description: `For programs: ${what}; errors, too`,
});

const number = (description: string, fallback: number) =>
  ({ type: 'number', description, default: fallback, requiresArg: true }) as const;

/** Names are taken in upper or lower case, as in the environment; twice given, they are refused later. */
const lowered = (given: unknown) => (typeof given === 'string' ? given.toLowerCase() : given);

/** Flags have no defaults of their own: where they are absent, the environment counts. */
function withSettings<T>(command: Argv<T>, settings: typeof SETTINGS): Argv<T> {
  for (const { name, flag, description, default: fallback, enum: choices } of settings) {
    command.option(flag, {
      type: 'string',
      requiresArg: true,
      description: `${description} [${name}]`,
      defaultDescription: fallback === '' ? 'none' : String(fallback),
      ...(choices && { choices, coerce: lowered }),
      group: 'Settings:',
    });
  }
  return command;
}

function engineSettings<T>(command: Argv<T>): Argv<T> {
  return withSettings(
    command,
    SETTINGS.filter(({ name }) => ENGINE_SETTINGS.has(name)),
  );
}

/** Of an option that was given twice, yargs makes a list. */
function givenOnce(argv: Readonly<Record<string, unknown>>): true {
  const twice = Object.keys(argv).find(
    (name) => Array.isArray(argv[name]) && !/^_$|^photo$|[A-Z]/.test(name),
  );
  if (twice !== undefined) throw new UsageError(`--${twice} was given twice`);
  return true;
}

/** The environment with the flags that were given. */
function settingsOf(argv: Readonly<Record<string, unknown>>): NodeJS.ProcessEnv {
  const given = SETTINGS.flatMap(({ name, flag }) => {
    const value = argv[flag];
    return typeof value === 'string' ? [[name, value] as const] : [];
  });
  return { ...process.env, ...Object.fromEntries(given) };
}
