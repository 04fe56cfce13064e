import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import type { Cell } from './cell.ts';

/** What must not change between parts of one run. */
export interface Setting {
  /** Folder. */
  readonly model: string;
  readonly budgetMs: number;
  readonly seconds: number;
  readonly serverCores: string;
  readonly clientCores: string;
}

interface Stored {
  readonly conditions: Setting & { readonly machine: string };
  /** Most right answers in time per second of DepthServe, which loads are multiples of. */
  peak: number | null;
  /** s from start to ready. */
  readonly startSeconds: Record<string, number>;
  /** Servers that could not be measured, and why. */
  readonly failed: Record<string, string>;
  readonly cells: Cell[];
}

/** A file of measurements, written after each. */
export class Results {
  private constructor(
    readonly file: string,
    private readonly stored: Stored,
  ) {}

  /** @throws Error when the file has measurements under other conditions. */
  static open(file: string, setting: Setting): Results {
    const machine = `${cpus()[0]!.model}, ${cpus().length} cores, Node ${process.version}`;
    const conditions = { ...setting, machine };
    if (!existsSync(file)) {
      return new Results(file, {
        conditions,
        peak: null,
        startSeconds: {},
        failed: {},
        cells: [],
      });
    }
    const results = Results.read(file);
    if (JSON.stringify(results.conditions) !== JSON.stringify(conditions)) {
      throw new Error(`${file} has results of ${JSON.stringify(results.conditions)}`);
    }
    return results;
  }

  /** Measurements that nothing is added to, whatever their conditions. */
  static read(file: string): Results {
    return new Results(file, JSON.parse(readFileSync(file, 'utf8')) as Stored);
  }

  get conditions(): Stored['conditions'] {
    return this.stored.conditions;
  }

  get peak(): number | null {
    return this.stored.peak;
  }

  get cells(): readonly Cell[] {
    return this.stored.cells;
  }

  get failures(): Readonly<Record<string, string>> {
    return this.stored.failed;
  }

  get startSeconds(): Readonly<Record<string, number>> {
    return this.stored.startSeconds;
  }

  /** Rounds that have been begun. */
  get rounds(): number {
    return Math.max(0, ...this.cells.map(({ round }) => round));
  }

  setPeak(peak: number): void {
    this.stored.peak = peak;
    this.write();
  }

  started(server: string, seconds: number): void {
    this.stored.startSeconds[server] ??= seconds;
    delete this.stored.failed[server];
    this.write();
  }

  failed(server: string, why: string): void {
    this.stored.failed[server] = why;
    this.write();
  }

  add(cell: Cell): void {
    this.stored.cells.push(cell);
    this.write();
  }

  private write(): void {
    mkdirSync(dirname(this.file), { recursive: true });
    const { cells, ...rest } = this.stored;
    const lines = cells.map((cell) => `  ${JSON.stringify(cell, rounded)}`).join(',\n');
    const head = JSON.stringify(rest, null, 1).slice(0, -2);
    writeFileSync(this.file, `${head},\n "cells": [\n${lines}\n ]\n}\n`);
  }
}

/** Three digits behind the point are more than any of it is worth. */
const rounded = (_key: string, value: unknown) =>
  typeof value === 'number' ? Math.round(value * 1000) / 1000 : value;
