/**
 * What a run found, in one object: the JSON is this as it is, and the other reports are made from it.
 * @module
 */
import { writeFileSync } from 'node:fs';
import type { Machine } from './machine.ts';
import type { Memory } from './programs.ts';
import { leftOutCounts, type Row } from './rows.ts';
import type { StartUpResult } from './start-up.ts';
import { summarize, type Summary } from './statistics.ts';
import type { WindowResult } from './window.ts';

export interface Report {
  readonly format: 1;
  readonly generatedAt: string;
  /** Whether the run was ended before all windows were measured. */
  readonly interrupted: boolean;
  readonly machine: Machine;
  readonly versions: { readonly 'dpdk-ts': string; readonly node: string; readonly v8: string; readonly dpdk?: string };
  readonly method: {
    readonly seconds: number;
    readonly warmUpSeconds: number;
    readonly rounds: number;
    readonly cpus: readonly [number, number];
    readonly memory: Memory;
    readonly nearBelowNs: number;
    readonly wantedState: string;
    readonly wholeCore: number;
  };
  readonly rows: readonly Row[];
  readonly startUps: readonly StartUpResult[];
  readonly windows: readonly WindowResult[];
}

export interface StartUpRow {
  readonly program: string;
  readonly end: 'virtio' | 'vhost';
  readonly promptMs: Summary;
  /** From exec of the sender; the virtio end only, which is the sender. */
  readonly firstPacketMs?: Summary;
  readonly rssAnon: Summary;
  readonly rssFile: Summary;
  readonly hugePages: Summary;
}

export function writeJson(path: string, report: Report): void {
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`);
}

/** Start-up and memory of each program at each end. */
export function startUpRows(startUps: readonly StartUpResult[]): StartUpRow[] {
  const rows: StartUpRow[] = [];
  for (const program of ['ours', 'dpdk'] as const) {
    const starts = startUps.filter((start) => start.program === program);
    for (const end of ['vhost', 'virtio'] as const) {
      const of = (value: (start: StartUpResult) => number): Summary | undefined => summarize(starts.map(value));
      const promptMs = of((start) => (end === 'vhost' ? start.vhostPromptMs : start.virtioPromptMs));
      const firstPacketMs = of((start) => start.firstPacketMs);
      const rssAnon = of((start) => start.memory[end].rssAnon);
      const rssFile = of((start) => start.memory[end].rssFile);
      const hugePages = of((start) => start.memory[end].hugePages);
      if (promptMs !== undefined && rssAnon !== undefined && rssFile !== undefined && hugePages !== undefined) {
        const first = end === 'virtio' && firstPacketMs !== undefined ? { firstPacketMs } : {};
        rows.push({ program, end, promptMs, ...first, rssAnon, rssFile, hugePages });
      }
    }
  }
  return rows;
}

/** Machine, versions and method, a sentence each. */
export function aboutLines(report: Report): string[] {
  const { machine, versions, method } = report;
  const memory = method.memory.kind === 'huge' ? 'huge pages' : `no huge pages (--no-huge -m ${method.memory.megabytes})`;
  const virtual = machine.hypervisor ? ', virtual machine' : '';
  return [
    `Machine: ${machine.cpu}, ${machine.cpus} CPUs${virtual}, ${machine.memoryGiB} GiB, Linux ${machine.kernel} ${machine.architecture}.`,
    `Versions: dpdk-ts ${versions['dpdk-ts']}, Node.js ${versions.node}, DPDK ${versions.dpdk ?? 'not installed'}.`,
    `Method: ${method.rounds} rounds in turn, windows of ${method.seconds} s after ${method.warmUpSeconds} s, CPUs ${method.cpus.join(' and ')}, ${memory}; ` +
      `near is a core-to-core round trip below ${method.nearBelowNs} ns.`,
    ...(report.interrupted ? ['Interrupted: not all windows were measured.'] : []),
  ];
}

/** How many windows count and how many were left out for which reason, in one sentence. */
export function windowsLine(windows: readonly WindowResult[]): string {
  const reasons = [...leftOutCounts(windows)].map(([reason, count]) => `${count} ${reason}`);
  const counted = windows.filter(({ leftOut }) => leftOut === undefined).length;
  return `Windows: ${counted} counted, ${windows.length - counted} left out${reasons.length === 0 ? '' : ` (${reasons.join(', ')})`}.`;
}

/** What a program refused, a line each, with its reason. */
export function refusedCells(windows: readonly WindowResult[]): string[] {
  const lines = windows.flatMap(({ case: name, direction, pairing, leftOut }) =>
    leftOut?.reason === 'refused' ? [`Refused: ${name} ${direction} ${pairing}: ${leftOut.detail}`] : [],
  );
  return [...new Set(lines)];
}

/** What was measured and has no window that counts: it is in no table, so it is said. */
export function withoutWindows(windows: readonly WindowResult[]): string[] {
  const name = (window: WindowResult): string => `${window.case} ${window.direction} ${window.pairing}`;
  const counted = new Set(windows.filter(({ leftOut }) => leftOut === undefined).map(name));
  const missing = new Set(
    windows
      .filter(({ leftOut }) => leftOut?.reason !== 'refused')
      .map(name)
      .filter((each) => !counted.has(each)),
  );
  return missing.size === 0 ? [] : [`No window counted: ${[...missing].join(', ')}.`];
}
