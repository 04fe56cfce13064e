import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { SETTINGS } from '../src/config.ts';
import { freePorts, startServer } from './server.ts';
import type { Server } from './server.ts';
import { lacks } from './tools.ts';

const CAT = 'models/cifar10/samples/cat.jpg';

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** `depthserve <args>` as a user runs it. */
function depthserve(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const settings = { ...process.env, EXECUTION_PROVIDER: 'cpu', ...env };
    const child = execFile(
      process.execPath,
      ['dist/main.js', ...args],
      { env: settings },
      (_error, out, err) => resolve({ code: child.exitCode ?? -1, out, err }),
    );
  });
}

describe('help and wrong usage', () => {
  test('--help fits one screen: commands, examples, exit codes', async () => {
    const { code, out } = await depthserve(['--help']);
    expect(code).toBe(0);
    for (const name of ['serve', 'classify', 'profile', 'openapi', 'completion', 'Examples:']) {
      expect(out).toContain(name);
    }
    expect(out).toMatch(/Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 3 no answer/);
    expect(out.trimEnd().split('\n').length).toBeLessThanOrEqual(26);
  });

  test('serve --help lists every setting as flag and as variable', async () => {
    const { out } = await depthserve(['serve', '--help']);
    expect(SETTINGS.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['PORT', 'MODEL_DIR', 'MAX_BATCH', 'LOG_FORMAT']),
    );
    for (const { name, flag } of SETTINGS) {
      expect(out).toContain(`--${flag} `);
      expect(out).toContain(`[${name}]`);
    }
  });

  test('--version is that of the package', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect(await depthserve(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  test('completion: a script for the shell, and what it asks for', async () => {
    expect((await depthserve(['completion'])).out).toContain(
      '###-begin-depthserve-completions-###',
    );
    const { out } = await depthserve(['--get-yargs-completions', 'depthserve', 'serve', '--']);
    expect(out.split('\n')).toEqual(expect.arrayContaining(['--port', '--model-dir']));
  });

  test.each([
    [['nonsense'], 'nonsense'],
    [['serve', '--prot', '1'], 'prot'],
    [['serve', '--port'], 'port'],
    [['serve', '--port', '70000'], 'PORT (--port) must be <= 65535'],
    [['--max-batch', 'many'], 'MAX_BATCH (--max-batch) must be integer'],
    [['serve', '--port', '1', '--port', '2'], '--port was given twice'],
    [['serve', '--log-level', 'loud'], 'loud'],
    [['classify'], 'classify --help'],
    [['classify', CAT, '--budget', 'soon'], '--budget'],
    [['classify', CAT, '--budget', '1', '--budget', '2'], '--budget was given twice'],
    [['classify', CAT, '--top-k', '2.5'], '--top-k must be a whole number from 1 to 1000'],
    [['classify', CAT, '--url'], 'url'],
    [['classify', CAT, '--no-such-option'], 'such-option'],
    [['classify', 'no/such/photo.jpg'], 'no/such/photo.jpg: there is no such file'],
    [['classify', 'models'], 'models: it is a folder'],
    [['classify', CAT, '--url', 'localhost:8080'], 'http://'],
    [['profile', '--plot', 'no/such/plot.svg'], '--plot no/such/plot.svg: there is no such'],
    [['profile', '--plot', 'a.svg', '--plot', 'b.svg'], '--plot was given twice'],
    [['--no-such'], 'no-such'],
    [['serve', '--otel-exporter-otlp-endpoint', 'collector:4318'], 'collector:4318 is no URL like'],
    [['serve', '--tokens-file', 'no/such.json'], 'no/such.json: there is no such file'],
  ])('%j: 2, and why', async (args, why) => {
    const { code, err } = await depthserve(args);
    expect([code, err]).toEqual([2, expect.stringContaining(why)]);
    expect(err.trim().split('\n')).toHaveLength(1);
  });

  test('names of a flag are taken in upper case, too', async () => {
    const args = ['serve', '--log-level', 'WARN', '--execution-provider', 'Cpu', '--port', '70000'];
    const { code, err } = await depthserve(args);
    expect([code, err]).toEqual([2, 'depthserve: PORT (--port) must be <= 65535\n']);
  });

  test('a model that is not there: 1, and which setting names it', async () => {
    const { code, err } = await depthserve(['serve', '--model-dir', 'no/such', '--port', '0']);
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(
        /^depthserve: no\/such\/model.json: there is no such.*--model-dir.*\n$/,
      ),
    ]);
  });

  test('a reader that has enough is no failure', async () => {
    const child = spawn(process.execPath, ['dist/main.js', 'openapi']);
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    child.stdout.once('data', () => child.stdout.destroy());
    const [code] = (await once(child, 'close')) as [number];
    expect([code, err]).toEqual([0, '']);
  });

  test('errors are JSON where --json is given', async () => {
    const { code, err } = await depthserve(['serve', '--port', '70000', '--json']);
    expect(code).toBe(2);
    expect(JSON.parse(err)).toEqual({
      error: { exitCode: 2, message: 'PORT (--port) must be <= 65535' },
    });
  });
});

describe('serve', () => {
  test('flags come before variables; a port in use is said to be', async () => {
    const [port] = await freePorts(1);
    const flags = ['serve', '--port', String(port), '--host', '127.0.0.1'];
    const server = await startServer({ PORT: '1' }, { args: flags });
    try {
      expect(server.url).toBe(`http://127.0.0.1:${port}`);
      const { code, err } = await depthserve([...flags, '--max-batch', '1']);
      expect(code).toBe(1);
      expect(err).toBe(
        `depthserve: port ${port} is in use: stop what listens there, or choose another with --port\n`,
      );
    } finally {
      await server.stop();
    }
  });

  // To exit while a thread loads its session aborts the process: this model takes long enough.
  test.each([
    ['a host that is none', ['--host', 'no.invalid'], 'no machine is called no.invalid'],
    ['another machine', ['--host', '192.0.2.1'], 'this machine has no address 192.0.2.1'],
  ])('%s: 1, and said to be, although the model is being loaded', async (_what, flags, why) => {
    const model = ['--model-dir', 'models/grocery', '--port', '0'];
    const { code, err } = await depthserve(['serve', ...model, ...flags]);
    expect([code, err]).toEqual([1, `depthserve: ${why}: choose another with --host\n`]);
  });

  // To exit while a thread loads its code can abort the process, too; seldom, so what is asked is
  // whether it ended by itself. On one core none is begun early.
  test.skipIf(availableParallelism() === 1).each([
    ['a wrong setting', ['--port', '70000']],
    ['a model that is not there', ['--model-dir', 'no/such', '--port', '0']],
  ])(
    '%s: the thread that was begun early has ended before the process does',
    async (_what, flags) => {
      const watch =
        "process.on('worker',(thread)=>thread.on('exit',(code)=>console.log('thread ended:',code)))";
      const NODE_OPTIONS = `--import=data:text/javascript,${watch.replaceAll(' ', '%20')}`;
      const { out } = await depthserve(['serve', ...flags], { NODE_OPTIONS });
      expect(out.match(/thread ended: \d+/g)).toEqual(['thread ended: 0']);
    },
  );

  test.skipIf(lacks('script'))(
    'on a terminal: what it does, then one line where it listens',
    async () => {
      const [port] = await freePorts(1);
      const command = `${process.execPath} dist/main.js --port ${port} --max-batch 1`;
      const terminal = spawn('script', ['-qefc', command, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      let screen = '';
      terminal.stdout.on('data', (chunk: Buffer) => (screen += chunk.toString()));
      const ended = once(terminal, 'close');
      await vi.waitFor(() => expect(screen).toContain('ready:'), { timeout: 60_000, interval: 50 });
      await fetch(`http://localhost:${port}/classify`, { method: 'POST', body: 'no image' });
      await vi.waitFor(() => expect(screen).toMatch(/classify 4\d\d/), { timeout: 60_000 });
      // As Ctrl-C does.
      terminal.stdin.write('\u0003');
      await ended;
      expect(screen).toMatch(/^DepthServe \d+\.\d+\.\d+: loading \S+ \d/);
      expect(screen).toContain('measuring 1 of 16 sub-networks');
      expect(screen).toMatch(
        new RegExp(
          `ready: http://localhost:${port} \\(\\S+ [\\d.]+, CPU, ` +
            'quickest [FT]{4} [\\d.]+ ms, slowest [FT]{4} [\\d.]+ ms\\)',
        ),
      );
      expect(screen).not.toContain('{"level"');
      // Nothing is wrong, so nothing is red.
      expect(screen).not.toContain('\u001b[31m');
    },
  );
});

describe('classify', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server?.stop();
  });

  test('by a service: words for people', async () => {
    const args = ['classify', CAT, '--budget', '60000', '--url', server.url];
    const { code, out } = await depthserve(args);
    expect([code, out]).toEqual([0, expect.stringMatching(/% {2}\w+[^]*within the budget/)]);
  });

  test('by a service: one line of JSON for each photo', async () => {
    const { code, out } = await depthserve(
      [
        'classify',
        CAT,
        'test/fixtures/pillow/31x33-444.jpg',
        '--budget',
        '60000',
        '--json',
        '--top-k',
        '2',
      ],
      { DEPTHSERVE_URL: server.url },
    );
    expect(code).toBe(0);
    const answers = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { photo: string; predictions: unknown[] });
    expect(answers.map(({ photo }) => photo)).toEqual([CAT, 'test/fixtures/pillow/31x33-444.jpg']);
    expect(answers[0]!.predictions).toHaveLength(2);
  });

  test('passes on what is wished for', async () => {
    let told: IncomingHttpHeaders = {};
    const stub = createServer(({ headers }, reply) => {
      told = headers;
      reply.writeHead(503).end();
    });
    await once(stub.listen(0, '127.0.0.1'), 'listening');
    const { port } = stub.address() as AddressInfo;
    const wishes = ['--budget', '50', '--min-accuracy', '0.8', '--min-confidence', '0.9'];
    await depthserve(['classify', CAT, ...wishes, '--url', `http://127.0.0.1:${port}`]);
    stub.close();
    expect(told).toMatchObject({
      'x-latency-budget-ms': '50',
      'x-min-accuracy': '0.8',
      'x-min-confidence': '0.9',
    });
  });

  test('a confidence that is none is a wrong command line', async () => {
    const { code, err } = await depthserve(['classify', CAT, '--min-confidence', '2']);
    expect([code, err]).toEqual([2, expect.stringContaining('--min-confidence')]);
  });

  test('no answer within the budget: 3, and what would have been enough', async () => {
    const args = ['classify', CAT, '--budget', '0.01', '--url', server.url];
    const { code, err } = await depthserve(args);
    expect([code, err]).toEqual([
      3,
      expect.stringMatching(/^depthserve: .+\. A budget of [\d.]+ ms would do\.\n$/),
    ]);
  });

  test.each([
    ['a service', () => ['--url', server.url]],
    ['a model of its own', () => []],
  ])('--json, by %s: the code and what would have been enough', async (_what, where) => {
    const args = ['classify', CAT, '--budget', '0.01', '--json', ...where()];
    const { code, err } = await depthserve(args);
    expect(code).toBe(3);
    expect(JSON.parse(err)).toEqual({
      error: {
        exitCode: 3,
        status: 503,
        code: 'budget-too-small',
        smallestBudgetMs: expect.any(Number) as number,
        message: expect.stringContaining('would do.') as string,
      },
    });
  });

  test('no photo at all, no service there: 1', async () => {
    expect((await depthserve(['classify', 'package.json', '--url', server.url])).code).toBe(1);
    expect((await depthserve(['classify', CAT, '--url', 'http://127.0.0.1:9'])).code).toBe(1);
  });

  test('by a model of its own', async () => {
    const { code, out } = await depthserve(['classify', CAT, '--budget', '60000', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ photo: CAT, budget: { met: true } });
  });
});

describe('profile', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'depthserve-profile-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  test('a plot that is not made leaves its file as it was', async () => {
    const [old, none] = [join(folder, 'old.svg'), join(folder, 'none.svg')];
    await writeFile(old, 'the last one');
    for (const plot of [old, none]) {
      const { code } = await depthserve(['profile', '--plot', plot, '--model-dir', 'no/such']);
      expect(code).toBe(1);
    }
    expect(await readFile(old, 'utf8')).toBe('the last one');
    await expect(access(none)).rejects.toThrow('ENOENT');
  });

  test('prints the latency table as JSON and draws it', async () => {
    const plot = join(folder, 'latency.svg');
    await writeFile(plot, 'x'.repeat(1_000_000));
    const { code, out } = await depthserve([
      'profile',
      '--json',
      '--plot',
      plot,
      '--max-batch',
      '2',
    ]);
    expect(code).toBe(0);
    const { latency, front } = JSON.parse(out) as {
      latency: Record<string, Record<string, number>>;
      front: { skip: string }[];
    };
    expect(Object.keys(latency)).toHaveLength(16);
    expect(Object.keys(latency['FFFF']!)).toEqual(['1', '2']);
    const picture = await readFile(plot, 'utf8');
    for (const { skip } of front) expect(picture).toContain(`>${skip}</text>`);
    expect(picture).not.toContain('xxx');
  });
});
