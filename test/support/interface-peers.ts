/**
 * What the tests of ports on kernel interfaces, beside DPDK's, have in common: packets of every length, and a start of either program.
 * @module
 */
import { createHash } from 'node:crypto';
import { lcoresArgument, type Program } from './program.ts';
import { Testpmd } from './testpmd.ts';

const SIZES = [60, 61, 64, 65, 127, 128, 129, 255, 256, 257, 999, 1000, 1500, 1514];

/** Bytes without a pattern, and the same in every run. */
export function packetBytes(number: number): Uint8Array {
  const packet = Buffer.alloc(SIZES[number % SIZES.length] ?? 60);
  for (let offset = 0; offset < packet.length; offset += 32)
    createHash('sha256').update(`${number} ${offset}`).digest().copy(packet, offset);
  packet.writeUInt8(0x02, 0);
  packet.writeUInt8(0x02, 6);
  // an experimental type: not a VLAN tag by chance
  packet.writeUInt16BE(0x88b5, 12);
  return packet;
}

/** Without huge pages, which the other suites may have taken. */
export function startOnInterfaces(program: Program, side: 0 | 1, vdevs: readonly string[], app: readonly string[] = []): Promise<Testpmd> {
  const eal = [...lcoresArgument(side), '--no-huge', '-m', '192', ...vdevs.flatMap((vdev) => ['--vdev', vdev])];
  return Testpmd.start({ program, eal, app: ['--total-num-mbufs=8192', '--no-flush-rx', ...app] });
}
