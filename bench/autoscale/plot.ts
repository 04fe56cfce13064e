import type { Profile } from '../../src/simulate/tables.ts';
import type { Record } from './main.ts';
export function plot(_records: readonly Record[], _profile: Profile): string {
  return '';
}
