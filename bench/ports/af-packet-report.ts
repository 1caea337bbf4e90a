/**
 * `npm run bench:ports`: the ports over kernel interfaces, ours and DPDK's in turn, window after window, and their ratios.
 *
 *     npm run bench:ports -- [--rounds 5] [--seconds 1] [--size 64,1514] [--kind send,receive,loop]
 *
 * Each round measures every contender once, so that whatever else the machine does falls on all of them; the ratio of a round
 * is to DPDK's net_af_packet of the same round. Root only: it works in a network namespace of its own.
 * @module
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { allowedCpus, prepareMemory } from '../machine.ts';
import { findCommand, programAt } from '../programs.ts';
import { summarize } from '../statistics.ts';
import { AF_PACKET, DPDK_AF_PACKET } from './af-packet.ts';
import { enterNamespace, measureWindow, type Contender, type PortsSetting, type WindowKind, type WindowRates } from './af-packet-window.ts';
import { AF_XDP, AF_XDP_BUSY, DPDK_AF_XDP } from './af-xdp.ts';

const CONTENDERS: readonly Contender[] = [DPDK_AF_PACKET, AF_PACKET, DPDK_AF_XDP, AF_XDP, AF_XDP_BUSY];
const KINDS: readonly WindowKind[] = ['send', 'receive', 'loop'];

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '1' },
      size: { type: 'string', default: '64' },
      kind: { type: 'string', default: KINDS.join(',') },
      only: { type: 'string' },
      ours: { type: 'string', default: fileURLToPath(new URL('../../dist/cli/testpmd-main.js', import.meta.url)) },
    },
  });
  const dpdk = findCommand('dpdk-testpmd');
  if (dpdk === undefined) throw new Error('no dpdk-testpmd: apt-get install --no-install-recommends dpdk-dev');
  const [first = 0, second = first] = allowedCpus();
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-bench-'));
  const setting: PortsSetting = {
    programs: { ours: programAt('ours', values.ours), dpdk: programAt('dpdk', dpdk) },
    memory: prepareMemory(),
    cpus: [first, second],
    seconds: Number(values.seconds),
    directory,
  };
  const contenders = CONTENDERS.filter(
    (contender) => values.only === undefined || contender === DPDK_AF_PACKET || values.only.split(';').includes(contender.name),
  );
  enterNamespace();
  try {
    for (const kind of KINDS.filter((name) => values.kind.split(',').includes(name))) {
      for (const size of values.size.split(',').map(Number)) await report(setting, contenders, kind, size, Number(values.rounds));
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function report(
  setting: PortsSetting,
  contenders: readonly Contender[],
  kind: WindowKind,
  size: number,
  rounds: number,
): Promise<void> {
  const measured = new Map<Contender, (WindowRates | undefined)[]>(contenders.map((contender) => [contender, []]));
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      try {
        measured.get(contender)?.push(await measureWindow(setting, contender, kind, size));
      } catch (error) {
        measured.get(contender)?.push(undefined);
        process.stderr.write(`${contender.name}, ${kind}: ${error instanceof Error ? error.message : String(error)}\n`);
      }
    }
  }
  process.stdout.write(`\n${kind}, ${size} bytes, ${rounds} rounds of ${setting.seconds} s\n`);
  process.stdout.write(`${row('', 'Mpps', 'of DPDK', 'spread', 'Mpps a CPU', 'of DPDK', 'spread')}\n`);
  const theirs = measured.get(DPDK_AF_PACKET) ?? [];
  for (const [contender, windows] of measured) {
    const cells = (['packetsPerSecond', 'packetsPerCpuSecond'] as const).flatMap((rate) => {
      const mine = summarize(windows.flatMap((window) => (window === undefined ? [] : [window[rate]])));
      const ratios = summarize(
        windows.flatMap((window, round) => {
          const other = theirs[round];
          return window === undefined || other === undefined ? [] : [window[rate] / other[rate]];
        }),
      );
      return [
        mine === undefined ? '-' : (mine.median / 1e6).toFixed(3),
        ratios?.median.toFixed(2) ?? '-',
        ratios === undefined ? '-' : `${ratios.min.toFixed(2)}-${ratios.max.toFixed(2)}`,
      ];
    });
    process.stdout.write(`${row(contender.name, ...cells)}\n`);
  }
}

function row(name: string, ...cells: readonly string[]): string {
  return name.padEnd(24) + cells.map((cell) => cell.padStart(12)).join('');
}

await main();
