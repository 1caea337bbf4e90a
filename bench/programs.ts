/**
 * The programs that can stand at an end of a measurement: ours and DPDK's testpmd. Both take the same command line and the same commands,
 * so that whatever differs between two pairings is the program and nothing else.
 * @module
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';

export type ProgramName = 'ours' | 'dpdk';

export interface Program {
  readonly name: ProgramName;
  readonly command: string;
  /** Arguments that come before the EAL's. */
  readonly prefix: readonly string[];
}

export type Memory = { readonly kind: 'huge' } | { readonly kind: 'no-huge'; readonly megabytes: number };

const run = promisify(execFile);

/** What a Node.js program is told by the extension of its file; everything else is started as it is. */
export function programAt(name: ProgramName, path: string): Program {
  if (/\.[cm]?js$/.test(path)) {
    return { name, command: process.execPath, prefix: [path] };
  }
  // DPDK's testpmd prints through stdio, which holds back 4 KiB where its output is a pipe, while its prompt is written at once.
  return { name, command: 'stdbuf', prefix: ['-oL', path] };
}

/** The file that a command stands for: a path as it is, a bare name looked up in PATH; undefined where there is none. */
export function findCommand(command: string, searchPath: string = process.env['PATH'] ?? ''): string | undefined {
  const candidates = command.includes('/') ? [resolve(command)] : searchPath.split(delimiter).map((directory) => join(directory, command));
  return candidates.find((candidate) => existsSync(candidate));
}

/** "22.11.11", or undefined where the program does not say. */
export async function dpdkVersion(path: string): Promise<string | undefined> {
  try {
    // With the help asked for, it prints its version and leaves before it reserves any memory.
    const { stdout, stderr } = await run(path, ['-v', '-h'], { timeout: 10_000, maxBuffer: 1 << 20 });
    return /DPDK (\d[\w.-]*)/.exec(stderr + stdout)?.[1];
  } catch {
    return undefined;
  }
}

export interface CommandLine {
  /** The main thread sleeps on the same CPU as the worker polls: the other CPU is the other end's. */
  readonly cpu: number;
  readonly memory: Memory;
  readonly filePrefix: string;
  readonly vdev: string;
  readonly eal?: readonly string[];
  readonly testpmd?: readonly string[];
}

/** Arguments after the program's own: EAL, `--`, testpmd. */
export function testpmdArguments(line: CommandLine): string[] {
  const memory =
    line.memory.kind === 'huge' ? ['--in-memory', '--single-file-segments'] : ['--no-huge', '-m', String(line.memory.megabytes)];
  return [
    ...['--lcores', `0@${line.cpu},1@${line.cpu}`],
    '--no-pci',
    ...memory,
    ...['--file-prefix', line.filePrefix],
    ...['--vdev', line.vdev],
    ...(line.eal ?? []),
    '--',
    '-i',
    '--total-num-mbufs=4096',
    ...(line.testpmd ?? []),
  ];
}
