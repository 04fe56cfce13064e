import { spawn, spawnSync } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';

/** A program that runs `script` with `log` open, and tells of its writes. */
const programOf = (script: string): string => `
    import { createRequire, syncBuiltinESMExports } from 'node:module';
    const fs = createRequire(import.meta.url)('node:fs');
    const { writeSync } = fs;
    let writes = 0;
    fs.writeSync = (...call) => { writes++; return writeSync(...call); };
    syncBuiltinESMExports();
    const { openLog } = await import('./dist/log.js');
    const log = openLog('info', (lines) => writeSync(2, 'lost ' + lines));
    const wrote = () => writeSync(2, 'wrote ' + writes + '. ');
    ${script}`;

const messagesIn = (out: string): string[] => {
  const lines = out.split('\n').filter((line) => line !== '');
  return lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
};

/** Runs `script` in a process of its own. @returns what it logged, and what it told of that. */
function run(script: string) {
  const { stdout, stderr } = spawnSync('node', ['--input-type=module', '-e', programOf(script)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
  });
  return { told: stderr, messages: messagesIn(stdout) };
}

/** The same through a pipe that does not wait for its reader, who begins at `readNow()`. */
async function runWithSlowReader(script: string) {
  const program = programOf(`process.stdout; const readNow = () => writeSync(3, '\\n'); ${script}`);
  const shell = `node --input-type=module -e "$0" | (read -r _ <&3; cat)`;
  const child = spawn('sh', ['-c', shell, program], { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout!.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr!.on('data', (data: Buffer) => (stderr += data.toString()));
  // The program and the reader share one end of this; what one writes comes back to the other.
  const echo = child.stdio[3] as Duplex;
  echo.pipe(echo);
  await new Promise((resolve) => child.once('close', resolve));
  return { told: stderr, messages: messagesIn(stdout) };
}

describe('the log', () => {
  test('writes lines that come together at once, soon', () => {
    const { told, messages } = run(`
      for (let i = 0; i < 40; i++) log.info('line ' + i);
      wrote();
      setTimeout(wrote, 100);`);
    expect(messages).toEqual(Array.from({ length: 40 }, (_, i) => `line ${i}`));
    expect(told).toBe('wrote 0. wrote 1. ');
  });

  test('does not keep a warning back, nor what came before it', () => {
    const { told, messages } = run(`log.info('a'); log.warn('b'); wrote(); log.info('c');`);
    expect(told).toBe('wrote 1. ');
    expect(messages).toEqual(['a', 'b', 'c']);
  });

  test('loses nothing when the process exits or fails', () => {
    expect(run(`log.info('last'); process.exit(3);`).messages).toEqual(['last']);
    expect(run(`log.info('last'); throw new Error('x');`).messages).toEqual(['last']);
  });

  test('keeps what a reader who is behind has not taken, whole', async () => {
    const { told, messages } = await runWithSlowReader(`
      for (let i = 0; i < 3000; i++) log.info('line ' + i);
      log.flush();
      readNow();
      setTimeout(() => log.info('last'), 300);`);
    expect(messages).toEqual([...Array.from({ length: 3000 }, (_, i) => `line ${i}`), 'last']);
    expect(told).toBe('');
  });

  test('loses and counts whole lines when a reader stays behind', async () => {
    const { told, messages } = await runWithSlowReader(`
      const filling = 'x'.repeat(1000);
      for (let i = 0; i < 3000; i++) log.info(filling);
      readNow();
      setTimeout(() => log.info('last'), 1000);`);
    const lost = [...told.matchAll(/lost (\d+)/g)].reduce(
      (sum, [, lines]) => sum + Number(lines),
      0,
    );
    expect(lost).toBeGreaterThan(0);
    expect(messages.length + lost).toBe(3001);
    expect(messages.at(-1)).toBe('last');
  });

  test('costs no more the longer a reader stays behind', () => {
    const { told } = run(`
      const full = Object.assign(new Error('full'), { code: 'EAGAIN' });
      fs.writeSync = () => { throw full; };
      syncBuiltinESMExports();
      log.warn('kept');
      const before = process.memoryUsage().heapUsed;
      for (let i = 0; i < 50000; i++) log.flush();
      const grown = process.memoryUsage().heapUsed - before;
      fs.writeSync = writeSync;
      syncBuiltinESMExports();
      writeSync(2, grown < 5e6 ? 'no more' : 'grown by ' + grown);`);
    expect(told).toBe('no more');
  });

  test('of several threads is whole lines, whatever the reader does', async () => {
    const { messages } = await runWithSlowReader(`
      const { Worker } = await import('node:worker_threads');
      setTimeout(readNow, 200);
      const others = "import('./dist/log.js').then(({ openLog }) => {" +
        "const log = openLog('info', () => {});" +
        "for (let i = 0; i < 2000; i++) log.info('line ' + i); })";
      const threads = [1, 2, 3].map(() => new Worker(others, { eval: true }));
      await Promise.all(threads.map((each) => new Promise((end) => each.once('exit', end))));`);
    expect(messages).toHaveLength(6000);
  });

  test('takes what a format leaves without a line break', () => {
    const { messages } = run(`openLog('info', () => {}, () => '{"msg":"bare"}').warn('x');`);
    expect(messages).toEqual(['bare']);
  });
});
