import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { lacks, run } from '../tools.ts';

const FOLDER = 'k8s/monitoring/rules';

interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly labels?: { readonly severity: string };
  readonly annotations?: { readonly runbook: string };
}

const rulesOf = (file: string): readonly Rule[] =>
  (
    parse(readFileSync(`${FOLDER}/${file}`, 'utf8')) as { groups: { rules: Rule[] }[] }
  ).groups.flatMap(({ rules }) => rules);
const alerts = rulesOf('alerts.yaml');

describe.skipIf(lacks('promtool'))('promtool', () => {
  it('accepts the rules', () => {
    const { code, output } = run('promtool', [
      'check',
      'rules',
      '--lint-fatal',
      `${FOLDER}/recording.yaml`,
      `${FOLDER}/alerts.yaml`,
    ]);
    expect(output).not.toContain('FAILED');
    expect(code).toBe(0);
  });

  it.each(['rules', 'slow-burn'])(
    'finds every alert firing and silent as %s.test.yaml says',
    (name) => {
      const { code, output } = run('promtool', ['test', 'rules', `${FOLDER}/${name}.test.yaml`]);
      expect(output).not.toContain('FAILED');
      expect(code).toBe(0);
    },
    120_000,
  );
});

describe('the alerts', () => {
  const tested = ['rules', 'slow-burn'].flatMap((name) => {
    const { tests } = parse(readFileSync(`${FOLDER}/${name}.test.yaml`, 'utf8')) as {
      tests: { alert_rule_test?: { alertname: string; exp_alerts: object[] }[] }[];
    };
    return tests.flatMap((test) => test.alert_rule_test ?? []);
  });

  it.each(alerts.map(({ alert }) => alert!))('%s is tested firing', (alert) => {
    const firing = tested.filter((test) => test.alertname === alert && test.exp_alerts.length > 0);
    expect(firing).not.toEqual([]);
  });

  const runbook = readFileSync('docs/runbook.md', 'utf8');
  const paragraphs = [...runbook.matchAll(/^## (\w+)$/gm)].map(([, name]) => name);

  it('each have a paragraph in the runbook, and the runbook has no other', () => {
    expect(paragraphs).toEqual(alerts.map(({ alert }) => alert));
  });

  it.each(alerts)('$alert leads to its paragraph and has a severity', ({ alert, ...rule }) => {
    expect(rule.annotations!.runbook).toBe(`docs/runbook.md#${alert!.toLowerCase()}`);
    const { severity } = rule.labels!;
    expect(severity).toMatch(/^(page|ticket)$/);
    expect(runbook.toLowerCase()).toContain(`## ${alert!.toLowerCase()}\n\n*${severity}.*`);
  });
});
