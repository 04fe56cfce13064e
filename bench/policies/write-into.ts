import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** Replaces what stands between the marks of `bench`; without them, the whole file. */
export function writeInto(file: string, bench: string, table: string): void {
  const marks = [`<!-- bench:${bench} begins -->`, `<!-- bench:${bench} ends -->`] as const;
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const [begin, end] = marks.map((mark) => text.indexOf(mark));
  const whole =
    begin! < 0 || end! < begin!
      ? `${table}\n`
      : `${text.slice(0, begin! + marks[0].length)}\n\n${table}\n\n${text.slice(end)}`;
  writeFileSync(file, whole);
}
